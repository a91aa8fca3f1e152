"""Private folders for logs, counters and sockets, in the folder for temporary files."""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import TinyMetaFedError
from .process import words

PREFIX = "tinymetafed-"
LOCK = "lock"
"""A file that is locked as long as the process lives whose folder it is in."""
SHORT = 38
"""Bytes of a folder's path that leave room for a socket's name in folders in it: a path to one
takes 107 at most (unix(7)), and Ray's takes up to 69 of them."""
PLACES = ("/tmp", "/var/tmp", "/dev/shm")
"""Where a folder with a short path may be made."""


@contextmanager
def private_directory(*, short: bool = False) -> Iterator[Path]:
    """A run directory, mode 0700. It is gone afterwards; but where an error ends the run, logs that
    say something stay. Those that processes have left which are no more are removed before.

    short: with a path for sockets, which may be somewhere else. Raises TinyMetaFedError where it
    cannot be made.
    """
    directory = _make(short)
    _remove_abandoned(directory.parent)
    with _locked(directory):
        try:
            yield directory
        except TinyMetaFedError:
            _leave_logs(directory)
            raise
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        shutil.rmtree(directory, ignore_errors=True)


def _make(short: bool) -> Path:
    try:
        places = [tempfile.gettempdir()]
        if short and len(os.fsencode(f"{places[0]}/{PREFIX}")) + 8 > SHORT:
            places = [place for place in PLACES if os.access(place, os.W_OK | os.X_OK)]
            if not places:
                raise TinyMetaFedError(
                    f"{tempfile.gettempdir()}: its path is too long for a socket's name; name "
                    "another folder in TMPDIR"
                )
        return Path(tempfile.mkdtemp(prefix=PREFIX, dir=places[0]))
    except OSError as error:
        raise TinyMetaFedError(
            f"no folder for temporary files can be made: {error.strerror}"
            f"{f': {error.filename}' if error.filename else ''}; name another one in TMPDIR"
        ) from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """The kernel lets go of the lock when this process ends, however it ends. The file is there
    under its name only when it is locked."""
    new = directory / f"{LOCK}.new"
    file = os.open(new, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        new.rename(directory / LOCK)
        yield
    finally:
        os.close(file)


def _remove_abandoned(place: Path) -> None:
    """Removes this user's folders there whose processes have ended."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another process may do the same
            found = folder.lstat()
            if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
                continue
            file = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(file)


def _leave_logs(directory: Path) -> None:
    """Removes all but the logs that say something; these stay until somebody removes them."""
    for file in sorted(directory.rglob("*"), reverse=True):  # what is in a folder before it
        with suppress(OSError):  # a folder that is not empty
            if file.is_dir() and not file.is_symlink():
                file.rmdir()
            elif file.suffix != ".log" or not words(file):
                file.unlink()
    with suppress(OSError):
        directory.rmdir()
