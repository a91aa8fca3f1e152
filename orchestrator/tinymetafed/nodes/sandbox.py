"""A process that may read files, and neither change any nor run another program.

By Landlock, of Linux 5.13 or later: https://docs.kernel.org/userspace-api/landlock.html."""

import ctypes
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from ..errors import TinyMetaFedError

# System calls have these numbers on every architecture; rights are those of linux/landlock.h.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE = 1 << 0, 1 << 1
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
_TRUNCATE = 1 << 14  # since version 3; before, a file that is truncated has to be open for writing
_NO_NEW_PRIVILEGES = 38  # prctl(2)

_libc = ctypes.CDLL(None, use_errno=True)


def is_there() -> bool:
    """Whether the kernel has Landlock, and lets this process use it."""
    return _version() > 0


def _version() -> int:
    return _libc.syscall(_CREATE_RULESET, None, 0, _GET_VERSION)


@contextmanager
def restriction(program: Path, changes: Sequence[Path]) -> Iterator[Callable[[], None]]:
    """Yields what a child has to call before it becomes `program`: from then on it can write to
    the files in `changes`, and to what is open; it can make, remove or run nothing else.

    Raises TinyMetaFedError where the kernel cannot do it.
    """
    truncate = _TRUNCATE if _version() >= 3 else 0
    handled = struct.pack("=Q", _EXECUTE | _WRITE_FILE | _REMOVE_AND_MAKE | truncate)
    rules = _called(_libc.syscall(_CREATE_RULESET, handled, len(handled), 0))

    def restrict() -> None:
        _called(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        _called(_libc.syscall(_RESTRICT_SELF, rules, 0))

    try:
        for path in (program, *_interpreter(program)):
            _allow(rules, path, _EXECUTE)
        for path in changes:
            _allow(rules, path, _WRITE_FILE | truncate)
        yield restrict
    finally:
        os.close(rules)


def _allow(rules: int, path: Path, rights: int) -> None:
    file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights, file)
        _called(_libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, rule, 0))
    finally:
        os.close(file)


def _interpreter(program: Path) -> list[Path]:
    """What the kernel runs in the program's place to load it."""
    try:
        with program.open("rb") as file:
            segments = ELFFile(file).iter_segments("PT_INTERP")
            return [Path(os.fsdecode(segment.data().rstrip(b"\0"))) for segment in segments]
    except ELFError:
        return []


def _called(result: int) -> int:
    if result < 0:
        reason = os.strerror(ctypes.get_errno())
        raise TinyMetaFedError(f"the program cannot be kept from this machine's files: {reason}")
    return result
