"""Backend `renode`: one process for all nodes, each a machine of its own, UARTs on PTYs.

Renode is driven over its standard input; nothing of it listens on the network.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import tty
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ..energy.opcodes import OpcodeCounts, TracedPricing, traced_blocks
from ..errors import TinyMetaFedError
from ..places import EMULATION, RENODE
from . import descriptor
from .fault import Stand
from .process import last_words, start
from .renode_counting import PhaseMarks, read_trace
from .transport import NodeLost

SCRIPT = EMULATION / "renode/node.resc"
PLATFORMS = {
    "mps2_an386": EMULATION / "renode/mps2_an386.repl",
    "nrf52840dk": EMULATION / "renode/nrf52840.repl",
    "arduino_nano_33_ble": EMULATION / "renode/nrf52840.repl",
}
"""Descriptions of a machine, by board."""
START_TIMEOUT = 60.0  # seconds for Renode, and for a command of it
LOOK_TIME = 0.05  # seconds between two looks at a machine
LOOK_AT = 0.005  # seconds of its own time that are looked at
LOOKS = 200  # at a machine whose time does not go on
AT_WORK = 1e6  # instructions a second: a processor executes a hundred times as many when it works
ATTEMPTS = 5
OLDEST = (1, 15, 3)

_ERROR = re.compile(
    r"^(There was an error|Error |No such command|Parameters did not match|Could not|Bad )"
)
_LOG = re.compile(r"^\d\d:\d\d:\d\d\.\d+ \[")
_INSTRUCTIONS = re.compile(r"^0x([0-9A-F]{16})", re.MULTILINE)
_REGISTER = re.compile(r"^0x([0-9A-Fa-f]+)", re.MULTILINE)
_TIME = re.compile(r"Elapsed Virtual Time: (\d+):(\d+):(\d+\.\d+)")
_MARKER = re.compile(r'(?<!")tinymetafed-\d+;')  # in quotes it is the command for it


def program() -> str | None:
    """Renode's path: TMF_RENODE, `renode` on the PATH, or what 'make renode' has installed; None
    where there is none."""
    installed = str(RENODE) if RENODE.is_file() else None
    return os.environ.get("TMF_RENODE") or shutil.which("renode") or installed


class Renode:
    """A Renode process, started with its first machine and ended with its last.

    Attributes:
        directory: private; has its log, renode.log, and the nodes' PTYs.
        image: what its machines run.
        platform: description of a machine (.repl).
        pricing: of the image, where what its machines execute is to be counted.
    """

    def __init__(
        self, directory: Path, image: Path, platform: Path, pricing: TracedPricing | None = None
    ) -> None:
        self.directory = directory
        self.image = image
        self.platform = platform
        self.pricing = pricing
        self.log = directory / "renode.log"
        self._process: asyncio.subprocess.Process | None = None
        self._answers: asyncio.Queue[str | None] = asyncio.Queue()  # None: the process has ended
        self._reader: asyncio.Task[None] | None = None
        self._machines: dict[str, PhaseMarks | None] = {}
        self._watched: set[tuple[str, ...]] = set()  # requests of frames that were traced
        self._open = 0
        self._number = 0
        self._turn = asyncio.Lock()

    async def boot(self, name: str) -> int:
        """Starts a machine, or starts it again. Returns its UART, a file descriptor, open since
        before the first byte. Raises TinyMetaFedError."""
        pty = self.directory / f"{name}.pty"
        async with self._turn:
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
        return uart

    async def _prepare(self, name: str, pty: Path) -> None:
        """A machine that has loaded its image."""
        if name in self._machines:
            again = f'sysbus LoadELF "{self.image}"'
            await self._commands(f'mach set "{name}"', "machine Pause", "machine Reset", again)
            if marks := self._machines[name]:
                marks.restart()
            return
        values = {"name": name, "platform": self.platform, "image": self.image, "uart": pty}
        settings = [f'${key}="{value}"' for key, value in values.items()]
        await self._commands("mach clear", *settings, f'include "{SCRIPT}"')
        marks = None
        if self.pricing is not None:
            file = self.directory / f"{name}.marks"
            file.unlink(missing_ok=True)
            marks = PhaseMarks(file, self.pricing.pricing.program, self.pricing.opcodes)
            await self._commands(*marks.commands())
        self._machines[name] = marks

    def counts(self, name: str) -> OpcodeCounts | None:
        """What a machine has executed; None where nothing is counted."""
        marks = self._machines.get(name)
        return marks and marks.counts()

    @asynccontextmanager
    async def watch(self, name: str, requests: Sequence[str]) -> AsyncIterator[None]:
        """The first frame with the same requests is traced: others execute much the same."""
        kind = tuple(requests)
        marks = self._machines.get(name)
        if self.pricing is None or marks is None or kind in self._watched:
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

    async def _executed(self) -> int:
        """Instructions, by the machine's processor."""
        said = await self._ask("sysbus.cpu ExecutedInstructions", _INSTRUCTIONS)
        return int(said[1], 16)

    async def _elapsed(self) -> float:
        """Seconds of the machine's own time."""
        said = await self._ask("machine ElapsedVirtualTime", _TIME)
        return 3600 * int(said[1]) + 60 * int(said[2]) + float(said[3])

    async def _ask(self, command: str, answer: re.Pattern[str]) -> re.Match[str]:
        """What is looked for in the answer: Renode repeats the command in it, and its log may come
        on the answer's line, which is left out then."""
        said = ""
        for _ in range(ATTEMPTS):
            said = await self._command(command)
            if found := answer.search(said):
                return found
        raise TinyMetaFedError(f"Renode answers '{command}' with '{said}'")

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

    @property
    def process(self) -> asyncio.subprocess.Process | None:
        """The process, while there is one."""
        return self._process

    @property
    def running(self) -> bool:
        """The process has not ended."""
        return self._reader is not None and not self._reader.done()

    def said(self) -> str:
        """The last thing that Renode said, and where the rest is."""
        return last_words(self.log)

    async def _start(self) -> None:
        if self.running:
            return
        renode = program()
        if renode is None:
            raise TinyMetaFedError(
                "Renode is not installed; run 'make renode', put `renode` (1.15.3 or later) on the "
                "PATH, or name it in TMF_RENODE"
            )
        self._machines.clear()
        try:
            self._process = await start(
                renode, "--console", "--plain", "--disable-xwt",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT, limit=2**20, start_new_session=True,
            )  # fmt: skip
            self._answers = asyncio.Queue()
            self._reader = asyncio.create_task(self._listen(self._process))
            said = await self._command("version")
            found = re.search(r"version (\d+)\.(\d+)\.(\d+)", said)
            if found is None or tuple(map(int, found.groups())) < OLDEST:
                oldest = ".".join(map(str, OLDEST))
                raise TinyMetaFedError(
                    f"{renode}: Renode {oldest} or later is needed; {self.said()}"
                )
        except BaseException:
            await self._end()
            raise

    async def _end(self) -> None:
        process, self._process = self._process, None
        self._machines.clear()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Takes all that Renode says, so that it is never held up by saying it."""
        assert process.stdout is not None
        with self.log.open("ab", buffering=0) as log:
            while line := await process.stdout.readline():
                with contextlib.suppress(OSError):  # no space is left; it goes on all the same
                    log.write(line)
                text = line.decode(errors="replace").strip()
                if marker := _MARKER.search(text):
                    # Its log, which another thread writes, may come before the end of the line.
                    self._answers.put_nowait(marker[0])
                elif not _LOG.match(text):
                    self._answers.put_nowait(text)
        self._answers.put_nowait(None)

    async def _commands(self, *commands: str) -> None:
        for command in commands:
            await self._command(command)

    async def _command(self, command: str) -> str:
        """Has Renode do it and returns what it answers. Raises TinyMetaFedError with its own words
        where it cannot."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        self._number += 1
        marker = f"tinymetafed-{self._number};"
        answer: list[str] = []
        # One that has ended may have said why: that is still to be read.
        with contextlib.suppress(ConnectionError):
            process.stdin.write(f'{command}\necho "{marker}"\n'.encode())
            await process.stdin.drain()
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while (text := await self._answers.get()) not in (marker, None):
                    answer.append(text)
        except TimeoutError:
            raise TinyMetaFedError(
                f"Renode did not do '{command}' in {START_TIMEOUT:g} s; {self.said()}"
            ) from None
        if text is None:
            await self._end()
            raise NodeLost(f"Renode ended at '{command}'; {self.said()}")
        errors = [text for text in answer if _ERROR.match(text)]
        if errors:
            place = answer.index(errors[0])
            words = " ".join(text for text in answer[place : place + 3] if text)
            raise TinyMetaFedError(f"Renode cannot do '{command}': {words} ({self.log})")
        return "\n".join(answer)


class RenodeTransport:
    """A node in a machine of Renode."""

    immediate = False

    def __init__(self, renode: Renode, name: str, uart: int) -> None:
        self._renode = renode
        self._name = name
        self._uart = uart
        self._since: int | None = None  # instructions executed when `executed` counts from there

    @classmethod
    async def open(cls, renode: Renode, name: str) -> "RenodeTransport":
        """Boots it. Raises TinyMetaFedError where it does not boot."""
        return cls(renode, name, await renode.boot(name))

    @property
    def process(self) -> asyncio.subprocess.Process | None:
        """Renode's, which all of its nodes share."""
        return self._renode.process

    async def write(self, data: bytes) -> None:
        """See Transport."""
        try:
            await descriptor.write(self._uart, data)
        except OSError as error:
            raise self._lost() from error

    async def read(self) -> bytes:
        """See Transport."""
        try:
            data = await descriptor.read(self._uart)
        except (OSError, EOFError) as error:
            raise self._lost() from error
        self._since = None
        return data

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
