"""What ends a command from outside, and what a container's first process has to do. Of the standard
library alone, because it is needed before anything else is imported."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

INTERRUPTED = 130
"""Exit status of what was interrupted, by whichever signal."""


def ending() -> list[signal.Signals]:
    """The signals, SIGINT apart, that are to end a command as Ctrl-C does. SIGHUP is none where
    nohup, or whoever started this process, has it ignored."""
    found = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found


@contextlib.contextmanager
def handlers_restored() -> Iterator[None]:
    """What SIGINT and the signals that end a command did before, they do afterwards, whatever was
    made of them meanwhile."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ending())}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # another one may set none
            for number, handler in before.items():
                signal.signal(number, handler)


def interrupt_on_ending() -> None:
    """Each of them raises KeyboardInterrupt from now on, so that nothing is left behind."""
    for number in ending():
        signal.signal(number, signal.default_int_handler)


def end_at_once_on_ending() -> None:
    """Ctrl-C, and each of them, ends this process from now on, where there is nothing yet to be
    put in order: an exception amid the import of a library may become another one, or none."""
    every = ending()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        every.append(signal.SIGINT)
    for number in every:
        signal.signal(number, _end_at_once)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    del number, frame
    os.write(sys.stderr.fileno(), b"Interrupted.\n")
    os._exit(INTERRUPTED)


def serve_as_first_process() -> None:
    """Where this process is number 1, as a container's entry point is, goes on in a child.

    Number 1 is killed by no signal that it does not handle, and is given the children of all
    processes that end. It passes signals on to the child, takes note of whoever ends, and ends with
    the child's exit status, 128 more than the signal's number where a signal ended it.
    """
    if os.getpid() != 1:
        return
    passed_on = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, passed_on | {signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    # A terminal's Ctrl-C then reaches the child alone, and once.
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
        if os.isatty(0):
            os.tcsetpgrp(0, child)
    while True:
        number = signal.sigwait(passed_on | {signal.SIGCHLD})
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
            continue
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if ended == 0:
                break
            if ended == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)
