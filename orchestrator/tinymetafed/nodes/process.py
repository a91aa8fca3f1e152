"""Emulators as processes of the orchestrator."""

import ctypes
import os
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # Linux, prctl(2)
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """In the child: the kernel kills the emulator when the orchestrator ends, however it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # it ended before the line above
        os._exit(1)


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


def last_words(log: Path) -> str:
    """What an emulator said last, and the file that has the rest."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return f"it said: {lines[-1].strip()} ({log})" if lines else "it said nothing"
