"""Backend `qemu`: one process per node, machine mps2-an386, the UART on a Unix socket; for DMA, a
file as memory that both share."""

import asyncio
import contextlib
import socket
from pathlib import Path

from ..energy.profile import BlockCounts
from ..energy.program import Program
from ..errors import TinyMetaFedError
from ..places import MPS2_IMAGE, QEMU_PLUGIN
from .counters import CountersFile
from .process import die_with_parent, is_running, last_words
from .transport import NodeLost
from .window import MEMORY, Window

QEMU = "qemu-system-arm"
MACHINE = ("-machine", "mps2-an386", "-display", "none", "-monitor", "none")
BOOT_TIMEOUT = 30.0  # seconds for a process to connect its UART

# An emulated UART sends a byte at a time, and to take each by itself would cost the orchestrator
# more than the node: while a frame is incomplete its next bytes are left to gather.
GATHERING_TIME = 0.001  # seconds

REST_TIME = 1.0  # seconds for a processor to fall asleep that has nothing to do any more

LOOKS = 10
"""At an emulator, before it is said to be idle."""


def plugin_arguments(counts: Path, program: Program, *, accesses: bool = False) -> list[str]:
    """QEMU's arguments for counting `program` into a CountersFile. Raises TinyMetaFedError."""
    if not QEMU_PLUGIN.is_file():
        raise TinyMetaFedError(f"{QEMU_PLUGIN}: no counting plugin; run 'make setup'")
    plugin = f"{QEMU_PLUGIN},counts={counts}"
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
        rest: int | None = None,
    ) -> None:
        """rest: the phase in which the node sleeps until the next frame, where it does."""
        self.process = process
        self.log = log
        self._reader, self._writer = uart
        self._counters = counters
        self._rest = rest
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
        boot_timeout: float = BOOT_TIMEOUT,
    ) -> "QemuTransport":
        """Boots `image` with its UART on `directory`/`name`.sock, a private directory.

        program: the image, where its execution is to be counted. place: addresses of its window,
        where frames are to go through that. extra: further arguments of QEMU. boot_timeout:
        seconds. Raises TinyMetaFedError where it does not boot.
        """
        if not image.is_file():
            raise TinyMetaFedError(f"{image}: no firmware image; run 'make firmware'")
        path, log = directory / f"{name}.sock", directory / f"{name}.log"
        arguments = list(MACHINE)
        # A multiplexed character device buffers 32 bytes before the UART, where a plain one takes a
        # byte per trip through the main loop: four to nine times as fast. Its escape character is
        # one that no byte is.
        arguments += ["-chardev", f"socket,id=uart,path={path},mux=on", "-serial", "chardev:uart"]
        arguments += ["-echr", "0x100"]
        arguments += ["-kernel", str(image), *extra]
        counters, rest = None, None
        if program is not None:
            counters = CountersFile(directory / f"{name}.counts", 1 + len(program.phases))
            arguments += plugin_arguments(counters.path, program)
            rest = [*program.phases].index("idle") + 1 if "idle" in program.phases else None
        window = None
        if place is not None:
            window = Window(directory / f"{name}.psram", place)
            backend = f"memory-backend-file,id=psram,size={len(MEMORY)},mem-path={window.path}"
            arguments += ["-object", f"{backend},share=on", "-machine", "memory-backend=psram"]
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener, log.open("ab") as output:
            listener.bind(str(path))
            listener.listen(1)
            listener.setblocking(False)
            try:
                process = await asyncio.create_subprocess_exec(
                    QEMU, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=output,
                    stderr=output, preexec_fn=die_with_parent,
                )  # fmt: skip
            except FileNotFoundError:
                raise TinyMetaFedError(
                    f"{QEMU} is not installed; 'make setup' installs it, or: "
                    "apt-get install qemu-system-arm"
                ) from None
            uart = await _accept(listener, process, boot_timeout)
        if uart is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise TinyMetaFedError(f"{QEMU} did not boot {image}; {last_words(log)}")
        streams = await asyncio.open_unix_connection(sock=uart)
        return cls(process, streams, log, counters, window, rest)

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
        if data:
            await self._come_to_rest()
        return data

    async def _come_to_rest(self) -> None:
        """Waits until the processor sleeps. The last byte of an answer is out before all is done
        that it takes: what is counted of it, and how the next frame finds the node, would hang on
        the bench's speed."""
        if self._counters is None or self._rest is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REST_TIME):
                looks = 0
                while self._counters.asleep() != self._rest:
                    looks += 1  # at first it is a matter of microseconds; then others need the core
                    await asyncio.sleep(0 if looks < LOOKS else GATHERING_TIME / 5)
            return
        if self.process.returncode is None:
            self._rest = None  # it never sleeps

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


async def _accept(
    listener: socket.socket, process: asyncio.subprocess.Process, seconds: float
) -> socket.socket | None:
    """The emulator's connection; None where it ends or does not come in time."""
    accept = asyncio.ensure_future(asyncio.get_running_loop().sock_accept(listener))
    end = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait({accept, end}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return accept.result()[0] if accept.done() else None
    finally:
        accept.cancel()
        end.cancel()
