"""Files that a user asks for: written whole, or the one that was there stays. What runs came to is
private, as the store is: a new file can be read by its user alone."""

import errno
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any

from .errors import TinyMetaFedError


@contextmanager
def reporting(path: Path) -> Iterator[None]:
    """What goes wrong in writing `path`, or a file that the error names, as TinyMetaFedError."""
    try:
        yield
    except OSError as error:
        raise TinyMetaFedError(
            f"{error.filename or path}: cannot be written: {error.strerror or error}"
        ) from None


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` once all of it is there, with the mode of the
    one that was there. Where `path` is a device or a pipe, it is written itself. Raises
    TinyMetaFedError."""
    with reporting(path):
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        target = path.resolve()  # what a link leads to is replaced, and not the link
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        with _beside(target, path) as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            Path(file.name).replace(target)


def check(path: Path) -> None:
    """Raises TinyMetaFedError where a file could not be written there as things are; leaves nothing
    behind. What takes long asks first."""
    with reporting(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if path.exists() and not path.is_file():
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return
        with _beside(path.resolve(), path):
            pass


def check_folder(path: Path) -> None:
    """The same of files in a folder, which need not be there yet, nor those that it lies in."""
    there = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
    with reporting(path):
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        with _beside(there / "file", path):
            pass


@contextmanager
def _beside(target: Path, path: Path) -> Iterator[IO[bytes]]:
    try:
        file = NamedTemporaryFile(  # noqa: SIM115
            dir=target.parent, prefix=".tinymetafed-", delete=False
        )
    except OSError as error:
        error.filename = path
        raise
    try:
        with file:
            yield file  # type: ignore[misc]
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = path
        raise
    finally:
        with suppress(OSError):  # it is in its place
            Path(file.name).unlink()


@contextmanager
def writing(path: Path) -> Iterator[IO[str]]:
    """The same for text, UTF-8."""
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.flush()
        text.detach()


def escaped(cells: Iterable[Any]) -> list[Any]:
    """Cells of a CSV file, of which a spreadsheet takes none for a formula: text that begins as one
    has an apostrophe before it, numbers stay (OWASP, CSV Injection)."""
    return [f"'{cell}" if isinstance(cell, str) and _is_formula(cell) else cell for cell in cells]


def _is_formula(text: str) -> bool:
    if not text.startswith(("=", "+", "-", "@", "\t", "\r")):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False
