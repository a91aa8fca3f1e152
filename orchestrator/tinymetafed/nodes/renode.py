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
from pathlib import Path

from ..errors import TinyMetaFedError
from ..places import EMULATION
from .process import die_with_parent
from .transport import NodeLost

PLATFORM = EMULATION / "renode/mps2_an386.repl"
START_TIMEOUT = 60.0  # seconds for Renode, and for a command of it
OLDEST = (1, 15, 3)

_ERROR = re.compile(
    r"^(There was an error|Error |No such command|Parameters did not match|Could not|Bad )"
)
_LOG = re.compile(r"^\d\d:\d\d:\d\d\.\d+ \[")


def program() -> str | None:
    """Renode's path: TMF_RENODE, or `renode` on the PATH; None where there is none."""
    return os.environ.get("TMF_RENODE") or shutil.which("renode")


class Renode:
    """A Renode process, started with its first machine and ended with its last.

    Attributes:
        directory: private; has its log, renode.log, and the nodes' PTYs.
        platform: description of a machine (.repl).
    """

    def __init__(self, directory: Path, platform: Path = PLATFORM) -> None:
        self.directory = directory
        self.platform = platform
        self.log = directory / "renode.log"
        self._process: asyncio.subprocess.Process | None = None
        self._machines: set[str] = set()
        self._open = 0
        self._number = 0
        self._turn = asyncio.Lock()

    async def boot(self, name: str, image: Path) -> int:
        """Starts a machine with the image, or starts it again. Returns its UART, a file descriptor,
        open since before the first byte. Raises TinyMetaFedError."""
        if not image.is_file():
            raise TinyMetaFedError(f"{image}: no firmware image; run 'make firmware'")
        pty = self.directory / f"{name}.pty"
        async with self._turn:
            await self._start()
            uart = None
            try:
                await self._prepare(name, pty)
                uart = os.open(pty, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
                tty.setraw(uart)
                await self._commands(f"sysbus LoadELF @{image}", "start")
            except BaseException:
                if uart is not None:
                    os.close(uart)
                if self._open == 0:
                    await self._end()
                raise
            self._open += 1
        return uart

    async def _prepare(self, name: str, pty: Path) -> None:
        if name in self._machines:
            await self._commands(f'mach set "{name}"', "machine Pause", "machine Reset")
            return
        await self._commands(
            f'mach create "{name}"',
            f"machine LoadPlatformDescription @{self.platform}",
            f'emulation CreateUartPtyTerminal "{name}" "{pty}" true',
            f"connector Connect sysbus.uart0 {name}",
        )
        self._machines.add(name)

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
        return self._process is not None and self._process.returncode is None

    def said(self) -> str:
        """The last thing that Renode said."""
        text = self.log.read_text(errors="replace") if self.log.is_file() else ""
        lines = [line for line in text.splitlines() if line.strip()]
        return f"it said: {lines[-1].strip()} ({self.log})" if lines else "it said nothing"

    async def _start(self) -> None:
        if self.running:
            return
        renode = program()
        if renode is None:
            raise TinyMetaFedError(
                "Renode is not installed; put `renode` (1.15.3 or later) on the PATH or name it in "
                "TMF_RENODE; see renode.io"
            )
        self._machines.clear()
        try:
            self._process = await asyncio.create_subprocess_exec(
                renode, "--console", "--plain", "--disable-xwt",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT, preexec_fn=die_with_parent, limit=2**20,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise TinyMetaFedError(f"{renode}: cannot be started: {error.strerror}") from None
        try:
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

    async def _commands(self, *commands: str) -> None:
        for command in commands:
            await self._command(command)

    async def _command(self, command: str) -> str:
        """Has Renode do it and returns what it answers. Raises TinyMetaFedError with its own words
        where it cannot."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        self._number += 1
        marker = f"tinymetafed-{self._number}"
        answer: list[str] = []
        try:
            # One that has ended may have said why: that is still to be read.
            with contextlib.suppress(ConnectionError):
                process.stdin.write(f'{command}\necho "{marker}"\n'.encode())
                await process.stdin.drain()
            async with asyncio.timeout(START_TIMEOUT):
                with self.log.open("a") as log:
                    while line := (await process.stdout.readline()).decode(errors="replace"):
                        log.write(line)
                        text = line.strip()
                        if text == marker:
                            break
                        if not _LOG.match(text):
                            answer.append(text)
        except TimeoutError:
            raise TinyMetaFedError(
                f"Renode did not do '{command}' in {START_TIMEOUT:g} s; {self.said()}"
            ) from None
        if not line:
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

    def __init__(self, renode: Renode, name: str, uart: int) -> None:
        self._renode = renode
        self._name = name
        self._uart = uart

    @classmethod
    async def open(cls, renode: Renode, name: str, image: Path) -> "RenodeTransport":
        """Boots `image`. Raises TinyMetaFedError where it does not boot."""
        return cls(renode, name, await renode.boot(name, image))

    @property
    def process(self) -> asyncio.subprocess.Process | None:
        """Renode's, which all of its nodes share."""
        return self._renode.process

    async def write(self, data: bytes) -> None:
        """See Transport."""
        loop = asyncio.get_running_loop()
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._uart, left) :]
            except BlockingIOError:
                ready = loop.create_future()
                loop.add_writer(self._uart, _settle, ready)
                try:
                    await ready
                finally:
                    loop.remove_writer(self._uart)
            except OSError as error:
                raise NodeLost(f"{self._name}: its UART is gone; {self._renode.said()}") from error

    async def read(self) -> bytes:
        """See Transport."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(self._uart, _settle, ready)
        try:
            await ready
            data = os.read(self._uart, 65536)
        except OSError as error:
            raise NodeLost(f"{self._name}: its UART is gone; {self._renode.said()}") from error
        finally:
            loop.remove_reader(self._uart)
        if not data:
            raise NodeLost(f"{self._name}: its UART is gone; {self._renode.said()}")
        return data

    def counts(self) -> None:
        """None: Renode's counters are not read."""
        return None

    async def close(self) -> None:
        """See Transport."""
        os.close(self._uart)
        await self._renode.leave()


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
