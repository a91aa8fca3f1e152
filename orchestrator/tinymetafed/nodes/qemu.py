"""Backend `qemu`: one process per node, machine mps2-an386, the UART on a pair of Unix sockets that
have no name; for DMA, a file as memory that both share."""

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
from functools import cache
from pathlib import Path

from ..energy.profile import BlockCounts
from ..energy.program import Program
from ..errors import TinyMetaFedError
from ..places import BUILT_BY, MPS2_IMAGE, qemu_plugin
from .counters import CountersFile
from .events import NodeEvent
from .fault import Stand, of_lockup, qemu_registers
from .process import is_running, last_words, start, words
from .transport import NodeFaulted, NodeLost
from .window import MEMORY, Window

QEMU = "qemu-system-arm"
MISSING = "apt-get install qemu-system-arm"
MACHINE = ("-machine", "mps2-an386", "-display", "none", "-nic", "none")
MONITOR_TIMEOUT = 10.0  # seconds for QEMU's monitor

# An emulated UART sends a byte at a time, and to take each by itself would cost the orchestrator
# more than the node: while a frame is incomplete its next bytes are left to gather.
GATHERING_TIME = 0.001  # seconds

REST_TIME = 1.0  # seconds for a processor to fall asleep that has nothing to do any more

LOOKS = 10
"""At an emulator, before it is said to be idle."""


def escaped(path: Path) -> str:
    """As a value among QEMU's options, where a comma begins the next one."""
    return str(path).replace(",", ",,")


INTERFACES = {0: 0, 6: 1, 9: 2}
"""Of QEMU's plugins, by the first version of QEMU that has it, or takes it too: QEMU_PLUGIN_VERSION
and QEMU_PLUGIN_MIN_VERSION of include/qemu/qemu-plugin.h, in QEMU 4.2 to 9.2."""


@cache
def plugin_interface(qemu: str | None) -> int:
    """The interface of the plugins of this QEMU; the newest of those known where it does not say
    its version, or is not there: then it says itself what is wrong."""
    said = ""
    if qemu is not None:
        with contextlib.suppress(OSError):
            done = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=False)
            said = done.stdout
    found = re.search(r"version (\d+)", said)
    version = int(found[1]) if found else max(INTERFACES)
    return INTERFACES[max(first for first in INTERFACES if first <= version)]


def plugin_arguments(counts: Path, program: Program, *, accesses: bool = False) -> list[str]:
    """QEMU's arguments for counting `program` into a CountersFile. Raises TinyMetaFedError."""
    library = qemu_plugin(plugin_interface(shutil.which(QEMU)))
    if not library.is_file():
        raise TinyMetaFedError(f"{library}: no counting plugin; run '{BUILT_BY}'")
    plugin = f"{escaped(library)},counts={escaped(counts)}"
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
        monitor: socket.socket,
        log: Path,
        counters: CountersFile | None,
        window: Window | None,
        image: Path,
        rest: int | None = None,
    ) -> None:
        """rest: the phase in which the node sleeps until the next frame, where it does."""
        self.process = process
        self.log = log
        self._monitor = monitor
        self._image = image
        self._reader, self._writer = uart
        self._counters = counters
        self._rest = rest
        self._window = window
        self._gathered = b""
        self._asked = False  # anything, since what was read last: a node that boots may never sleep

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
            raise TinyMetaFedError(f"{image}: no firmware image; run '{BUILT_BY}'")
        log = directory / f"{name}.log"
        arguments = list(MACHINE)
        arguments += ["-kernel", str(image), *extra]
        counters, rest = None, None
        if program is not None:
            counters = CountersFile(directory / f"{name}.counts", 1 + len(program.phases))
            arguments += plugin_arguments(counters.path, program)
            rest = [*program.phases].index("idle") + 1 if "idle" in program.phases else None
        window = None
        if place is not None:
            window = Window(directory / f"{name}.psram", place)
            file = f"mem-path={escaped(window.path)},share=on"
            arguments += ["-object", f"memory-backend-file,id=psram,size={len(MEMORY)},{file}"]
            arguments += ["-machine", "memory-backend=psram"]
        try:
            (uart, uart_end), (monitor, monitor_end) = socket.socketpair(), socket.socketpair()
        except OSError as error:
            raise TinyMetaFedError(f"{name}: no UART can be made: {error.strerror}") from None
        # A multiplexed character device buffers 32 bytes before the UART, where a plain one takes a
        # byte per trip through the main loop: four to nine times as fast. Its escape character is
        # one that no byte is.
        arguments += ["-chardev", f"socket,id=uart,fd={uart_end.fileno()},mux=on"]
        arguments += ["-serial", "chardev:uart", "-echr", "0x100"]
        # Nobody talks to the monitor unless the node hangs: see stand.
        arguments += ["-chardev", f"socket,id=monitor,fd={monitor_end.fileno()}"]
        arguments += ["-mon", "chardev=monitor,mode=readline"]
        streams = await asyncio.open_unix_connection(sock=uart)
        try:
            with uart_end, monitor_end, log.open("ab") as output:
                process = await start(
                    QEMU, *arguments, missing=MISSING, stdin=asyncio.subprocess.DEVNULL,
                    stdout=output, stderr=output,
                    pass_fds=[uart_end.fileno(), monitor_end.fileno()],
                )  # fmt: skip
        except BaseException as error:
            streams[1].close()
            monitor.close()
            if isinstance(error, OSError):
                raise TinyMetaFedError(f"{log}: {error.strerror}") from None
            raise
        return cls(process, streams, monitor, log, counters, window, image, rest)

    async def write(self, data: bytes) -> None:
        """See Transport."""
        self._asked = True
        if self._window is not None:
            data = self._window.put(data)
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise await self._ended() from error

    async def read(self) -> bytes:
        """See Transport. What a caller has read that waits no longer is there for the next."""
        if not self._gathered.endswith(b"\0"):
            try:
                data = await self._reader.read(65536)
            except OSError as error:
                raise await self._ended() from error
            if not data:
                raise await self._ended()
            self._gathered += data if self._window is None else self._window.completed(data)
            if not data.endswith(b"\0"):
                await asyncio.sleep(GATHERING_TIME)
        if self._asked:
            await self._come_to_rest()
            self._asked = False
        data, self._gathered = self._gathered, b""
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

    async def executed(self) -> None:
        """See Transport; the plugin counts."""

    async def stand(self) -> Stand | None:
        """See Transport; asked of QEMU's monitor. A processor that is not stopped first would tell
        where it was when it last left the code that QEMU has translated."""
        said = b""
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            said = await self._monitored(b"stop", b"info registers")
        registers = qemu_registers(said.decode(errors="replace"))
        return Stand(registers) if "pc" in registers else None

    async def halt(self) -> None:
        """Stops the processor until a debugger lets it go on. Raises NodeLost."""
        try:
            await self._monitored(b"stop")
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            raise await self._ended() from None

    async def _monitored(self, *commands: bytes) -> bytes:
        """What QEMU's monitor answers to the last of them."""
        said = b""
        async with asyncio.timeout(MONITOR_TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(sock=self._monitor.dup())
            try:
                for command in commands:
                    writer.write(command + b"\n")
                    await reader.readuntil(command)  # it repeats the command
                    said = await reader.readuntil(b"(qemu)")
            finally:
                writer.close()
        return said

    def counts(self) -> BlockCounts | None:
        """See Transport; counted by the plugin."""
        return None if self._counters is None else self._counters.read()

    def said(self) -> str:
        """See Transport."""
        return last_words(self.log)

    async def close(self) -> None:
        """See Transport."""
        self._writer.close()
        self._monitor.close()
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
        if (fault := of_lockup("\n".join(words(self.log)), self._image)) is not None:
            return NodeFaulted(f"{self.log.stem}: {fault.text}", fault)
        return NodeLost(text, NodeEvent("lost", text, {"status": status}))
