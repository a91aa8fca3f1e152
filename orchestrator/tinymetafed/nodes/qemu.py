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
from .events import NodeEvent
from .fault import Stand, of_lockup, qemu_registers
from .process import die_with_parent, is_running, last_words
from .transport import NodeFaulted, NodeLost
from .window import MEMORY, Window

QEMU = "qemu-system-arm"
MACHINE = ("-machine", "mps2-an386", "-display", "none", "-monitor", "none")
MONITOR_TIMEOUT = 10.0  # seconds for QEMU's monitor
BOOT_TIMEOUT = 30.0  # seconds for a process to connect its UART

# An emulated UART sends a byte at a time, and to take each by itself would cost the orchestrator
# more than the node: while a frame is incomplete its next bytes are left to gather.
GATHERING_TIME = 0.001  # seconds

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
        image: Path = MPS2_IMAGE,
    ) -> None:
        self.process = process
        self.log = log
        self._image = image
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
        # Nobody is there unless the node hangs: see stand.
        monitor = _monitor(log)
        arguments += ["-chardev", f"socket,id=monitor,path={monitor},server=on,wait=off"]
        arguments += ["-mon", "chardev=monitor,mode=readline"]
        arguments += ["-kernel", str(image), *extra]
        counters = None
        if program is not None:
            counters = CountersFile(directory / f"{name}.counts", 1 + len(program.phases))
            arguments += plugin_arguments(counters.path, program)
        window = None
        if place is not None:
            window = Window(directory / f"{name}.psram", place)
            backend = f"memory-backend-file,id=psram,size={len(MEMORY)},mem-path={window.path}"
            arguments += ["-object", f"{backend},share=on", "-machine", "memory-backend=psram"]
        for file in (path, monitor):
            file.unlink(missing_ok=True)
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
        return cls(process, streams, log, counters, window, image)

    async def write(self, data: bytes) -> None:
        """See Transport."""
        if self._window is not None:
            data = self._window.put(data)
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise await self._ended() from error

    async def read(self) -> bytes:
        """See Transport."""
        try:
            data = await self._reader.read(65536)
        except OSError as error:
            raise await self._ended() from error
        if not data:
            raise await self._ended()
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

    async def executed(self) -> None:
        """See Transport; the plugin counts."""

    async def stand(self) -> Stand | None:
        """See Transport; asked of QEMU's monitor. A processor that is not stopped first would tell
        where it was when it last left the code that QEMU has translated."""
        said = b""
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(MONITOR_TIMEOUT):
                reader, writer = await asyncio.open_unix_connection(_monitor(self.log))
                try:
                    for command in (b"stop", b"info registers"):
                        writer.write(command + b"\n")
                        await reader.readuntil(command)  # it repeats the command
                        said = await reader.readuntil(b"(qemu)")
                finally:
                    writer.close()
        registers = qemu_registers(said.decode(errors="replace"))
        return Stand(registers) if "pc" in registers else None

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

    async def _ended(self) -> NodeLost:
        """Why there is no link any more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self.process.wait()
        status = self.process.returncode
        what = "closed the UART" if status is None else f"ended with status {status}"
        text = f"{self.log.stem}: {QEMU} {what}; {self.said()}"
        words = self.log.read_text(errors="replace") if self.log.is_file() else ""
        if (fault := of_lockup(words, self._image)) is not None:
            return NodeFaulted(f"{self.log.stem}: {fault.text}", fault)
        return NodeLost(text, NodeEvent("lost", text, {"status": status}))


def _monitor(log: Path) -> Path:
    """The socket of an emulator's monitor."""
    return log.with_suffix(".monitor")


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
