"""Emulators as processes of the orchestrator."""

import asyncio
import ctypes
import errno
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import TinyMetaFedError, printable

_PR_SET_PDEATHSIG = 1  # Linux, prctl(2)
_libc = ctypes.CDLL(None, use_errno=True)

# Of an exception's trace: a frame of it, or a mark between two traces.
_NOTHING = re.compile(r"(?!)")
_FRAME = re.compile(r"(at \S.*[(<]|--- End of )")
# QEMU says it of every node: its machine has a network card, and no network to plug it into.
_NOISE = re.compile(r"warning: nic \S+ has no peer$")


def dies_with_this_process() -> Callable[[], None]:
    """Returns what a child has to call before all else: the kernel kills it when this process ends,
    however it ends. To be called before the child is there, so that it can tell whether this
    process has ended meanwhile; its number says nothing, since an orchestrator in a container may
    be number 1."""
    parent = os.getpid()

    def bind() -> None:
        kill_with_parent()
        if os.getppid() != parent:  # it ended before the line above
            os._exit(1)

    return bind


def kill_with_parent() -> None:
    """In a child: the kernel kills it when its parent ends, from now on."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def start(
    program: str, *arguments: str, missing: str = "", **settings: Any
) -> asyncio.subprocess.Process:
    """An emulator, which ends with this process.

    missing: what to do where it is not installed. settings: of asyncio.create_subprocess_exec.
    Raises TinyMetaFedError where it cannot be started.
    """
    try:
        return await asyncio.create_subprocess_exec(
            program, *arguments, preexec_fn=dies_with_this_process(), **settings
        )
    except OSError as error:
        if missing and isinstance(error, FileNotFoundError):
            raise TinyMetaFedError(f"{program} is not installed; {missing}") from None
        raise TinyMetaFedError(
            f"{program}: cannot be started: {error.strerror}{_remedy(error.errno)}"
        ) from None


def _remedy(number: int | None) -> str:
    match number:
        case errno.EMFILE | errno.ENFILE:
            return "; allow more open files (ulimit -n) or use fewer nodes"
        case errno.EAGAIN | errno.ENOMEM:
            return "; allow more processes or memory, or use fewer nodes"
        case _:
            return ""


def is_running(process: int) -> bool:
    """Whether a thread of the process has a processor or waits for one (proc(5), state R), and not
    for anything else. False where there is no such process."""
    try:
        states = [
            file.read_text().rpartition(") ")[2][:1]
            for file in Path(f"/proc/{process}/task").glob("*/stat")
        ]
    except OSError:  # a thread has ended meanwhile
        return False
    return "R" in states


def telling(text: str) -> list[str]:
    """The lines of what an emulator said, without those that say nothing."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not _NOISE.search(line)]


def words(log: Path) -> list[str]:
    """The same of the file with what it said."""
    return telling(log.read_text(errors="replace")) if log.is_file() else []


def last_words(log: Path, but: re.Pattern[str] = _NOTHING) -> str:
    """What an emulator said last, and the file that has the rest. Of an exception it is the line
    that names it, and not the trace behind that. but: is in lines that are none of it."""
    said = [line for line in words(log) if not _FRAME.match(line) and not but.search(line)]
    if said:
        return f"it said: {printable(said[-1])} ({log})"
    if is_full(log.parent):
        return f"no space is left in {log.parent} for what it says; name another folder in TMPDIR"
    return "it said nothing"


def is_full(folder: Path) -> bool:
    """Whether nothing more can be written there."""
    try:
        return os.statvfs(folder).f_bavail == 0
    except OSError:
        return False
