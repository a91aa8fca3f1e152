"""Renode as a process, driven over its standard input; nothing of it listens on the network."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from ..errors import TinyMetaFedError
from ..places import RENODE
from .process import last_words, start
from .transport import NodeLost

START_TIMEOUT = 60.0  # seconds for Renode, and for a command of it
ATTEMPTS = 5
OLDEST = (1, 15, 3)

_ERROR = re.compile(
    r"^(There was an error|Error |No such command|Parameters did not match|Could not|Bad )"
)
_LOG = re.compile(r"^\d\d:\d\d:\d\d\.\d+ \[")
_OURS = re.compile(r"tinymetafed-\d+;|^\([^)]*\)\s*$")  # the marker, and the prompt alone
_MARKER = re.compile(r'(?<!")tinymetafed-\d+;')  # in quotes it is the command for it


def program() -> str | None:
    """Renode's path: TMF_RENODE, `renode` on the PATH, or what 'make renode' has installed; None
    where there is none."""
    installed = str(RENODE) if RENODE.is_file() else None
    return os.environ.get("TMF_RENODE") or shutil.which("renode") or installed


class RenodeConsole:
    """A Renode process and its monitor.

    Attributes:
        log: file with all that it said.
        version: of the running process; empty before its start.
        echo: is called with each line that it says; None where nobody listens.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self.version: tuple[int, ...] = ()
        self.echo: Callable[[bytes], None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._answers: asyncio.Queue[str | None] = asyncio.Queue()  # None: the process has ended
        self._reader: asyncio.Task[None] | None = None
        self._number = 0

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
        return last_words(self.log, _OURS)

    async def _start(self) -> None:
        if self.running:
            return
        renode = program()
        if renode is None:
            raise TinyMetaFedError(
                "Renode is not installed; put `renode` (1.15.3 or later) on the PATH, or name it "
                "in TMF_RENODE; in a checkout 'make renode' fetches it"
            )
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
            self.version = tuple(map(int, found.groups())) if found else ()
            if self.version < OLDEST:
                oldest = ".".join(map(str, OLDEST))
                raise TinyMetaFedError(
                    f"{renode}: Renode {oldest} or later is needed; {self.said()}"
                )
        except BaseException:
            await self._end()
            raise

    async def _end(self) -> None:
        process, self._process = self._process, None
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
                if self.echo is not None and "tinymetafed-" not in text:
                    self.echo(line)
                if marker := _MARKER.search(text):
                    # Its log, which another thread writes, may come before the end of the line.
                    self._answers.put_nowait(marker[0])
                elif not _LOG.match(text):
                    self._answers.put_nowait(text)
        self._answers.put_nowait(None)

    async def _command(self, command: str) -> str:
        """Has Renode do it and returns what it answers. Raises TinyMetaFedError with its own words
        where it cannot."""
        return (await self._commands(command))[0]

    async def _commands(self, *commands: str) -> list[str]:
        """The same of several, all of which are said before the first is answered."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        markers: list[str] = []
        for command in commands:
            self._number += 1
            markers.append(f"tinymetafed-{self._number};")
            process.stdin.write(f'{command}\necho "{markers[-1]}"\n'.encode())
        # One that has ended may have said why: that is still to be read.
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        return [await self._answer(*one) for one in zip(commands, markers, strict=True)]

    async def _answer(self, command: str, marker: str) -> str:
        """What Renode says until the marker."""
        answer: list[str] = []
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while (text := await self._answers.get()) not in (marker, None):
                    # What an earlier command had left unread, since it failed, is not of this one.
                    answer = [] if _MARKER.fullmatch(text) else [*answer, text]
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

    async def _ask(self, command: str, answer: re.Pattern[str]) -> re.Match[str]:
        """What is looked for in the answer: Renode repeats the command in it, and its log may come
        on the answer's line, which is left out then."""
        said = ""
        for _ in range(ATTEMPTS):
            said = await self._command(command)
            if found := answer.search(said):
                return found
        raise TinyMetaFedError(f"Renode answers '{command}' with '{said}'")
