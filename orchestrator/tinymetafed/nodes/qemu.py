"""Backend `qemu`: one process per node, machine mps2-an386, the UART on a pair of Unix sockets that
have no name; for DMA, a file as memory that both share."""

import asyncio
import contextlib
import socket
from pathlib import Path

from ..energy.profile import BlockCounts
from ..energy.program import Program
from ..errors import TinyMetaFedError
from ..places import MPS2_IMAGE, QEMU_PLUGIN
from .counters import CountersFile
from .process import is_running, last_words, start
from .transport import NodeLost
from .window import MEMORY, Window

QEMU = "qemu-system-arm"
MISSING = "'make setup' installs it, or: apt-get install qemu-system-arm"
MACHINE = ("-machine", "mps2-an386", "-display", "none", "-monitor", "none", "-nic", "none")

# An emulated UART sends a byte at a time, and to take each by itself would cost the orchestrator
# more than the node: while a frame is incomplete its next bytes are left to gather.
GATHERING_TIME = 0.001  # seconds

LOOKS = 10
"""At an emulator, before it is said to be idle."""


def escaped(path: Path) -> str:
    """As a value among QEMU's options, where a comma begins the next one."""
    return str(path).replace(",", ",,")


def plugin_arguments(counts: Path, program: Program, *, accesses: bool = False) -> list[str]:
    """QEMU's arguments for counting `program` into a CountersFile. Raises TinyMetaFedError."""
    if not QEMU_PLUGIN.is_file():
        raise TinyMetaFedError(f"{QEMU_PLUGIN}: no counting plugin; run 'make setup'")
    plugin = f"{escaped(QEMU_PLUGIN)},counts={escaped(counts)}"
    for name, addresses in (("phases", program.phases.values()), ("handlers", program.handlers)):
        if addresses:
            plugin += f",{name}=" + ":".join(map(hex, addresses))
    return ["-plugin", plugin + (",accesses=on" if accesses else "")]


class QemuTransport:
    """A node in a QEMU process.

    Attributes:
        process: the emulator.
        log: file with what the emulator said.
    """

    immediate = False

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        uart: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        log: Path,
        counters: CountersFile | None,
        window: Window | None,
    ) -> None:
        self.process = process
        self.log = log
        self._reader, self._writer = uart
        self._counters = counters
        self._window = window
        self._gathered = b""

    @classmethod
    async def open(
        cls,
        directory: Path,
        name: str,
        *,
        image: Path = MPS2_IMAGE,
        program: Program | None = None,
        place: range | None = None,
        extra: tuple[str, ...] = (),
    ) -> "QemuTransport":
        """Boots `image`; what it needs and says is in `directory`, a private one.

        program: the image, where its execution is to be counted. place: addresses of its window,
        where frames are to go through that. extra: further arguments of QEMU. Raises
        TinyMetaFedError where it cannot be started; where it ends while it boots, the first `read`
        raises NodeLost.
        """
        if not image.is_file():
            raise TinyMetaFedError(f"{image}: no firmware image; run 'make firmware'")
        log = directory / f"{name}.log"
        arguments = list(MACHINE)
        arguments += ["-kernel", str(image), *extra]
        counters = None
        if program is not None:
            counters = CountersFile(directory / f"{name}.counts", 1 + len(program.phases))
            arguments += plugin_arguments(counters.path, program)
        window = None
        if place is not None:
            window = Window(directory / f"{name}.psram", place)
            file = f"mem-path={escaped(window.path)},share=on"
            arguments += ["-object", f"memory-backend-file,id=psram,size={len(MEMORY)},{file}"]
            arguments += ["-machine", "memory-backend=psram"]
        try:
            uart, end = socket.socketpair()
        except OSError as error:
            raise TinyMetaFedError(f"{name}: no UART can be made: {error.strerror}") from None
        # A multiplexed character device buffers 32 bytes before the UART, where a plain one takes a
        # byte per trip through the main loop: four to nine times as fast. Its escape character is
        # one that no byte is.
        arguments += ["-chardev", f"socket,id=uart,fd={end.fileno()},mux=on"]
        arguments += ["-serial", "chardev:uart", "-echr", "0x100"]
        streams = await asyncio.open_unix_connection(sock=uart)
        try:
            with end, log.open("ab") as output:
                process = await start(
                    QEMU, *arguments, missing=MISSING, stdin=asyncio.subprocess.DEVNULL,
                    stdout=output, stderr=output, pass_fds=[end.fileno()],
                )  # fmt: skip
        except BaseException as error:
            streams[1].close()
            if isinstance(error, OSError):
                raise TinyMetaFedError(f"{log}: {error.strerror}") from None
            raise
        return cls(process, streams, log, counters, window)

    async def write(self, data: bytes) -> None:
        """See Transport."""
        if self._window is not None:
            data = self._window.put(data)
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise NodeLost(await self._ended()) from error

    async def read(self) -> bytes:
        """See Transport."""
        try:
            data = await self._reader.read(65536)
        except OSError as error:
            raise NodeLost(await self._ended()) from error
        if not data:
            raise NodeLost(await self._ended())
        if not data.endswith(b"\0"):
            self._gathered += data  # a caller that waits no longer finds them with the next
            await asyncio.sleep(GATHERING_TIME)
            data = b""
        elif self._window is not None and data[-2:] in (b"\0", b"\0\0"):  # a doorbell
            data = data[:-1] + self._window.take() + data[-1:]
        data, self._gathered = self._gathered + data, b""
        return data

    async def computing(self) -> bool:
        """See Transport: a processor that sleeps leaves all threads waiting. It may be seen between
        two of its instructions, so it is looked at more than once."""
        for _ in range(LOOKS):
            if is_running(self.process.pid):
                return True
            await asyncio.sleep(GATHERING_TIME)
        return False

    def counts(self) -> BlockCounts | None:
        """See Transport; counted by the plugin."""
        return None if self._counters is None else self._counters.read()

    def said(self) -> str:
        """See Transport."""
        return last_words(self.log)

    async def close(self) -> None:
        """See Transport."""
        self._writer.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def _ended(self) -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self.process.wait()
        status = self.process.returncode
        what = "closed the UART" if status is None else f"ended with status {status}"
        return f"{self.log.stem}: {QEMU} {what}; {self.said()}"
