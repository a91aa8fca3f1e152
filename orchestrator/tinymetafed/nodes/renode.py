"""Backend `renode`: one process for all nodes, each a machine of its own, the UART on a PTY;
for DMA, a file as memory that both share."""

import asyncio
import contextlib
import os
import re
import shutil
import tty
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ..energy.opcodes import OpcodeCounts, TracedPricing, traced_blocks
from ..errors import TinyMetaFedError
from ..places import EMULATION
from . import descriptor
from .fault import Stand
from .renode_console import RenodeConsole
from .renode_counting import PhaseMarks, read_trace
from .transport import NodeLost
from .window import Window

SCRIPT = EMULATION / "renode/node.resc"
PLATFORMS = {
    "mps2_an386": EMULATION / "renode/mps2_an386.repl",
    "nrf52840dk": EMULATION / "renode/nrf52840.repl",
    "arduino_nano_33_ble": EMULATION / "renode/nrf52840.repl",
}
"""Descriptions of a machine, by board."""
SHARES_MEMORY = (1, 16, 0)
"""The first version that shares a machine's memory."""
QUANTUM = 0.001
"""Seconds of their own time that machines go on before they wait for each other; what comes over a
UART is heard then. With Renode's own, a tenth of it, they wait ten times as often."""
LOOK_TIME = 0.05  # seconds between two looks at a machine
LOOK_AT = 0.005  # seconds of its own time that are looked at
LOOKS = 200  # at a machine whose time does not go on
AT_WORK = 1e6  # instructions a second: a processor executes a hundred times as many when it works

_INSTRUCTIONS = re.compile(r"^0x([0-9A-F]{16})", re.MULTILINE)
_REGISTER = re.compile(r"^0x([0-9A-Fa-f]+)", re.MULTILINE)
_PORT = re.compile(r"^port (\d+)$", re.MULTILINE)
_TIME = re.compile(r"Elapsed Virtual Time: (\d+):(\d+):(\d+\.\d+)")


class Renode(RenodeConsole):
    """A Renode process, started with its first machine and ended with its last.

    Attributes:
        directory: private; has its log, renode.log, and the nodes' PTYs.
        image: what its machines run.
        platform: description of a machine (.repl).
        pricing: of the image, where what its machines execute is to be counted.
        place: addresses of the image's window, where frames are to go through that.
        needs_window: a version that shares no memory is refused, and not reached over UARTs alone.
    """

    def __init__(
        self,
        directory: Path,
        image: Path,
        platform: Path,
        pricing: TracedPricing | None = None,
        place: range | None = None,
        needs_window: bool = False,
    ) -> None:
        super().__init__(directory / "renode.log")
        self.directory = directory
        self.image = image
        self.platform = platform
        self.pricing = pricing
        self.place = place
        self.needs_window = needs_window
        self._windows: dict[str, Window] = {}
        self._machines: dict[str, PhaseMarks | None] = {}
        self._watched: set[tuple[str, ...]] = set()  # requests of frames that were traced
        self._silent: set[str] = set()  # machines that do not count
        self._open = 0
        self._turn = asyncio.Lock()

    async def boot(self, name: str) -> tuple[int, Window | None]:
        """Starts a machine, or starts it again. Returns its UART, a file descriptor, open since
        before the first byte, and its window, where it has one. Raises TinyMetaFedError."""
        pty = self.directory / f"{name}.pty"
        async with self._turn:
            if not self.running:
                self._machines.clear()
                self._windows.clear()
            await self._start()
            uart = None
            try:
                await self._prepare(name, pty)
                uart = os.open(pty, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
                tty.setraw(uart)
                await self._command("start")
            except BaseException:
                if uart is not None:
                    os.close(uart)
                if self._open == 0:
                    await self._end()
                raise
            self._open += 1
        return uart, self._windows.get(name)

    async def _prepare(self, name: str, pty: Path) -> None:
        """A machine that has loaded its image."""
        if name in self._machines:
            again = f'sysbus LoadELF "{self.image}"'
            await self._commands(f'mach set "{name}"', "machine Pause", "machine Reset", again)
            if marks := self._machines[name]:
                marks.restart()
            return
        shared = self._shared(name)
        platform = self.platform if shared is None else shared / "platform.repl"
        values = {"name": name, "platform": platform, "image": self.image, "uart": pty}
        settings = [f'${key}="{value}"' for key, value in values.items()]
        quantum = f'emulation SetGlobalQuantum "{QUANTUM}"'
        await self._commands("mach clear", *settings, f'include "{SCRIPT}"', quantum)
        if shared is not None and self.place is not None:
            await self._command("sysbus.psram TouchSegment 0")
            offset = await self._ask("sysbus.psram GetSegmentAlignmentOffset 0", _REGISTER)
            (file,) = shared.glob("renode-sharedSegment-*")
            self._windows[name] = Window(file, self.place, int(offset[1], 16))
        marks = None
        if self.pricing is not None:
            file = self.directory / f"{name}.marks"
            file.unlink(missing_ok=True)
            marks = PhaseMarks(file, self.pricing.pricing.program, self.pricing.opcodes)
            await self._commands(*marks.install())
            if name not in self._silent:
                await self._commands(*marks.start())
        self._machines[name] = marks

    def _shared(self, name: str) -> Path | None:
        """A folder for the file that is a machine's shared memory, with the machine's description;
        None where it shares none."""
        if self.place is None:
            return None
        if self.version < SHARES_MEMORY:
            if self.needs_window:
                oldest, here = (".".join(map(str, one)) for one in (SHARES_MEMORY, self.version))
                raise TinyMetaFedError(
                    f"nodes.link: dma takes Renode {oldest} or later, and this is {here}; use uart"
                )
            return None
        folder = self.directory / f"{name}.shared"  # none of the files of a QEMU beside it
        shutil.rmtree(folder, ignore_errors=True)  # of a Renode that has ended
        folder.mkdir()
        shared = f'psram:\n    sharedMemoryFileRoot: "{folder}"\n'
        (folder / "platform.repl").write_text(f'using "{self.platform}"\n\n{shared}')
        return folder

    def counts(self, name: str) -> OpcodeCounts | None:
        """What a machine has executed; None where nothing is counted."""
        marks = self._machines.get(name)
        return None if marks is None or name in self._silent else marks.counts()

    async def set_counting(self, name: str, on: bool) -> None:
        """Has what a machine executes counted or not, also before it has booted. Raises
        TinyMetaFedError."""
        if on == (name not in self._silent):
            return
        self._silent ^= {name}
        if marks := self._machines.get(name):
            await self._at(name, *(marks.start() if on else marks.stop()))

    @asynccontextmanager
    async def watch(self, name: str, requests: Sequence[str]) -> AsyncIterator[None]:
        """The first frame with the same requests is traced: others execute much the same."""
        kind = tuple(requests)
        marks = self._machines.get(name)
        if self.pricing is None or marks is None or kind in self._watched or name in self._silent:
            yield
            return
        self._watched.add(kind)
        trace = self.directory / f"{len(self._watched)}.trace"
        before, phase = marks.counts(), marks.phase
        await self._at(name, f'sysbus.cpu CreateExecutionTracing "{trace.stem}" "{trace}" PC true')
        end = "sysbus.cpu DisableExecutionTracing"
        try:
            yield
        except BaseException as error:
            self._watched.discard(kind)
            if isinstance(error, TinyMetaFedError):
                with contextlib.suppress(TinyMetaFedError):  # Renode may be what has ended
                    await self._at(name, end)
            raise
        await self._at(name, end)
        addresses, counted = read_trace(trace), marks.counts().since(before)
        trace.unlink()
        if len(addresses) and counted is not None:
            blocks = traced_blocks(self.pricing.pricing, addresses, phase)
            self.pricing.add(blocks, counted)
        else:  # it was answered before it was sent, or the machine has started again
            self._watched.discard(kind)

    async def executes(self, name: str) -> bool:
        """Whether a machine's processor is at work, in a part of the machine's own time: one that
        waits executes no more than its timer's interrupts. Raises TinyMetaFedError."""
        async with self._turn:
            await self._command(f'mach set "{name}"')
            before, then = await self._executed(), await self._elapsed()
            for _ in range(LOOKS):
                await asyncio.sleep(LOOK_TIME)
                seconds = await self._elapsed() - then
                if seconds >= LOOK_AT:
                    return await self._executed() - before >= AT_WORK * seconds
        return False

    async def executed(self, name: str) -> int:
        """Instructions that a machine's processor has executed. Raises TinyMetaFedError."""
        async with self._turn:
            await self._command(f'mach set "{name}"')
            return await self._executed()

    async def stand(self, name: str) -> dict[str, int]:
        """Registers of a machine's processor. Raises TinyMetaFedError."""
        async with self._turn:
            # One that stands still would hold up the others' time, so it goes on.
            await self._commands(f'mach set "{name}"', "machine Pause")
            try:
                return {
                    ours: int((await self._ask(f"sysbus.cpu {theirs}", _REGISTER))[1], 16)
                    for ours, theirs in (("pc", "PC"), ("lr", "LR"), ("sp", "SP"))
                }
            finally:
                await self._command("start")

    async def serve_gdb(self, name: str, script: Path) -> int:
        """Has a machine's processor stand still until GDB, on a port of 127.0.0.1 that is returned,
        lets it go on. script: emulation/renode/gdb.py. Raises TinyMetaFedError."""
        async with self._turn:
            await self._commands(f'mach set "{name}"', f'include "{script}"')
            said = await self._command("tmf_gdb")
        if (port := _PORT.search(said)) is None:
            raise TinyMetaFedError(f"Renode has no GDB server on 127.0.0.1; it answers: {said}")
        return int(port[1])

    async def settled(self) -> None:
        """Waits until Renode has done all that it was told, or has ended."""
        async with self._turn:
            if self._process is not None:
                with contextlib.suppress(TinyMetaFedError):  # it may have been told to quit
                    await self._command("")

    async def _executed(self) -> int:
        """Instructions, by the machine's processor."""
        said = await self._ask("sysbus.cpu ExecutedInstructions", _INSTRUCTIONS)
        return int(said[1], 16)

    async def _elapsed(self) -> float:
        """Seconds of the machine's own time."""
        said = await self._ask("machine ElapsedVirtualTime", _TIME)
        return 3600 * int(said[1]) + 60 * int(said[2]) + float(said[3])

    async def _at(self, name: str, *commands: str) -> None:
        async with self._turn:
            await self._commands(f'mach set "{name}"', *commands)

    async def leave(self) -> None:
        """A machine is no longer needed. It is left asleep, since one that stands still would hold
        up the others' time; with the last one the process ends."""
        async with self._turn:
            self._open -= 1
            if self._open == 0:
                await self._end()


class RenodeTransport:
    """A node in a machine of Renode."""

    immediate = False

    def __init__(self, renode: Renode, name: str, uart: int, window: Window | None) -> None:
        self._renode = renode
        self._name = name
        self._uart = uart
        self._window = window
        self._since: int | None = None  # instructions executed when `executed` counts from there

    @classmethod
    async def open(cls, renode: Renode, name: str) -> "RenodeTransport":
        """Boots it. Raises TinyMetaFedError where it does not boot."""
        return cls(renode, name, *await renode.boot(name))

    @property
    def process(self) -> asyncio.subprocess.Process | None:
        """Renode's, which all of its nodes share."""
        return self._renode.process

    async def write(self, data: bytes) -> None:
        """See Transport."""
        try:
            await descriptor.write(
                self._uart, data if self._window is None else self._window.put(data)
            )
        except OSError as error:
            raise self._lost() from error

    async def read(self) -> bytes:
        """See Transport."""
        try:
            data = await descriptor.read(self._uart)
        except (OSError, EOFError) as error:
            raise self._lost() from error
        self._since = None
        return data if self._window is None else self._window.completed(data)

    async def computing(self) -> bool:
        """See Transport: its processor executes instructions, and a sleeping one none."""
        return await self._renode.executes(self._name)

    async def executed(self) -> int:
        """See Transport: what is counted by phase stands still within a phase."""
        now = await self._renode.executed(self._name)
        if self._since is None:
            self._since = now
        return now - self._since

    async def stand(self) -> Stand:
        """See Transport."""
        return Stand(await self._renode.stand(self._name))

    def counts(self) -> OpcodeCounts | None:
        """See Transport; counted by Renode until the latest change of phase."""
        return self._renode.counts(self._name)

    def said(self) -> str:
        """See Transport."""
        return self._renode.said()

    async def close(self) -> None:
        """See Transport."""
        os.close(self._uart)
        await self._renode.leave()

    def _lost(self) -> NodeLost:
        return NodeLost(f"{self._name}: its UART is gone; {self.said()}")
