"""Samples that are files of a user's own: in a folder or an archive, or named by a manifest."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ...errors import TinyMetaFedError, printable
from .. import datasets
from ..base import warn
from . import columns
from .base import OwnData
from .records import Error, Records, in_order, numbered

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
MANIFESTS = (".csv", ".tsv", ".parquet", ".pq")
UNPACKED = 2**34  # bytes of an archive's members together

Column = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class Entry:
    """A file: its class, whose it is, where it is said to be, what is in it, and in an archive its
    name."""

    label: str
    owner: str
    where: str
    read: Callable[[], bytes]
    name: PurePosixPath | None = None

    def without_data(self) -> "Entry":
        """What is left of it once it is read."""
        return replace(self, read=bytes)


class Filed(OwnData):
    """`path` is a folder or an archive (zip, tar), with a folder in it for each class, or a
    manifest (CSV, Parquet) with a row for each file."""

    file_column: Column = "path"
    """Column of a manifest with a file's path, from the manifest's folder."""
    target: Column = "label"
    """Column of a manifest with a file's class."""

    @property
    @abstractmethod
    def endings(self) -> tuple[str, ...]:
        """Of the names of files that can be read."""

    @property
    @abstractmethod
    def options(self) -> str:
        """All that a sample depends on but for its file."""

    @abstractmethod
    def sample(self, data: bytes) -> NDArray[np.float32]:
        """Of a file, [height, width, channels] or so. Raises ValueError, which says what is wrong
        with it."""

    @property
    @abstractmethod
    def channels(self) -> tuple[str, ...]:
        """Names of what is standardised each by itself."""

    def sources(self) -> list[Path]:
        path = Path(self.path)
        if path.is_dir():
            self._check_no_column()
            return sorted(self._in_folder(path))
        if path.name.lower().endswith(MANIFESTS):
            return [path, *(file for file, *_ in self._manifest())]
        if path.name.lower().endswith(ARCHIVES):
            self._check_no_column()
            return [path]
        kinds = f"{', '.join(MANIFESTS)}, {', '.join(ARCHIVES)}"
        raise TinyMetaFedError(f"{path}: there is no such folder, and its name ends in no {kinds}")

    def records(self, digest: str) -> Records:
        def values() -> datasets.Arrays:
            found: list[tuple[Entry, NDArray[np.float32]]] = []
            for one in self._entries():
                try:
                    found.append((one.without_data(), self.sample(one.read())))
                except ValueError as error:
                    raise TinyMetaFedError(f"{one.where}: {error}") from None
            if not found:
                raise TinyMetaFedError(
                    f"{self.path}: no file in it ends in {', '.join(self.endings)}"
                )
            entries, samples = zip(*_below_common(found), strict=True)
            return {
                "values": np.stack(samples),
                "labels": np.array([one.label for one in entries]),
                "owners": np.array([one.owner for one in entries]),
                "where": np.array([one.where.removeprefix(self.path) for one in entries]),
            }

        kind = type(self).__name__.lower()
        kept = datasets.cached(f"own-{kind}", f"{digest} {self._layout} {self.options}", values)
        error = _errors(self.path, kept["where"])
        texts = kept["labels"].astype(np.str_)
        given = self.classes
        if given is None and not self.path.lower().endswith(MANIFESTS):  # folders' own names
            given = in_order(set(texts.tolist()))
        labels, classes = numbered(texts, given, error)
        if len(classes) < 2:
            raise TinyMetaFedError(
                f"{self.path}: every class is {printable(', '.join(classes))!r}, so there is "
                "nothing to tell apart"
            )
        owners, devices = None, ()
        if self.device_column is not None:
            owners, devices = numbered(kept["owners"].astype(np.str_), None, error, devices=True)
        for numbers, what in ((labels, "class"), (owners, "device")):
            for row in np.flatnonzero(numbers < 0)[:1] if numbers is not None else ():
                raise error(int(row), f"the {what} is missing; enter it")
        values32 = kept["values"].astype(np.float32)
        return Records(values32, self.channels, labels, classes, owners, devices, error)

    @property
    def _layout(self) -> str:
        """Where a file's class and owner are said."""
        return f"{self.file_column!r} {self.target!r} {self.device_column!r}"

    def _check_no_column(self) -> None:
        if self.device_column is not None:
            raise TinyMetaFedError(
                f"task.device_column: {self.path} says no device; name each file's in a manifest "
                "(CSV), or make devices by task.partition"
            )

    def _entries(self) -> Iterator[Entry]:
        """One after the other. Raises TinyMetaFedError."""
        path = Path(self.path)
        if path.is_dir():
            return self._of_folder(path)
        if path.name.lower().endswith(MANIFESTS):
            return self._of_manifest()
        return self._of_archive(path)

    # ---- folders and archives -------------------------------------------------------------------

    def _in_folder(self, path: Path) -> Iterator[Path]:
        """Files that are no samples are left out, and a warning says which."""
        try:
            files = [one for one in path.rglob("*") if one.is_file()]
        except OSError as error:
            raise TinyMetaFedError(f"{error.filename}: cannot be read: {error.strerror}") from None
        shown = [one for one in files if not _is_hidden(one.relative_to(path).parts)]
        good = [one for one in shown if one.name.lower().endswith(self.endings)]
        if len(good) < len(shown):
            other = min(set(shown) - set(good))
            warn(
                f"{path}: {len(shown) - len(good)} files are left out, such as "
                f"{printable(str(other.relative_to(path)))}, since they end in no "
                f"{', '.join(self.endings)}"
            )
        full = {one.relative_to(path).parts[0] for one in good}
        for folder in sorted(path.iterdir()):
            if folder.is_dir() and folder.name not in full and not _is_hidden(folder.parts[-1:]):
                raise TinyMetaFedError(f"{folder}: no file in it ends in {', '.join(self.endings)}")
        yield from good

    def _of_folder(self, path: Path) -> Iterator[Entry]:
        for file in self.sources():
            name = PurePosixPath(file.relative_to(path).as_posix())
            yield Entry(_class(name, f"{file}"), "", str(file), lambda file=file: _content(file))

    def _of_archive(self, path: Path) -> Iterator[Entry]:
        endings = tuple(sorted({*self.endings, *map(str.upper, self.endings)}))
        for name, data in datasets.members(path, endings, UNPACKED):
            if not _is_hidden(name.parts):
                where = f"{path}: {printable(str(name))}"
                yield Entry(_class(name, where), "", where, lambda data=data: data, name)

    # ---- manifests ------------------------------------------------------------------------------

    def _manifest(self) -> list[tuple[Path, str, str, str]]:
        """Each file, its class, its device and the line that names it. Raises TinyMetaFedError."""
        path = Path(self.path)
        used = {"file": self.file_column, "class": self.target, "device": self.device_column}
        texts = [name for name in used.values() if name is not None]
        if len(set(texts)) < len(texts):
            raise TinyMetaFedError(f"task.target: {texts} are one column; each is for one thing")
        found = columns.read(path, columns.Wanted((), (), texts))
        first: dict[Path, int] = {}
        rows: list[tuple[Path, str, str, str]] = []
        for row in range(len(found)):
            for what, column in used.items():
                if column is not None and not found.texts[column][row]:
                    raise found.error(row, f"the {what} is missing; enter it", column)
            file = path.parent / str(found.texts[self.file_column][row])
            if not file.is_file():
                raise found.error(row, f"{file}: there is no such file", self.file_column)
            if (before := first.setdefault(file.resolve(), row)) != row:
                raise found.error(
                    row, f"{file} is there twice, also in {found.line(before)}", self.file_column
                )
            if not file.name.lower().endswith(self.endings):
                raise found.error(
                    row, f"{file} ends in no {', '.join(self.endings)}", self.file_column
                )
            owner = "" if self.device_column is None else str(found.texts[self.device_column][row])
            rows.append((file, str(found.texts[self.target][row]), owner, found.line(row)))
        return rows

    def _of_manifest(self) -> Iterator[Entry]:
        for file, label, owner, line in self._manifest():
            where = f"{self.path}: {line}: {file}"
            yield Entry(label, owner, where, lambda file=file: _content(file))


def _below_common(
    found: list[tuple[Entry, NDArray[np.float32]]],
) -> list[tuple[Entry, NDArray[np.float32]]]:
    """An archive's in the order of their names, with classes below the folders that all of it is
    in; others as they are."""
    named = [(one.name, one, sample) for one, sample in found if one.name is not None]
    if not named:
        return found
    parents = [name.parts[:-1] for name, *_ in named]
    common = 0
    while len({parts[common] for parts in parents}) == 1 and min(map(len, parents)) > common + 1:
        common += 1
    return [
        (replace(one, label="/".join(name.parts[common:-1])), sample)
        for name, one, sample in sorted(named, key=lambda one: one[0])
    ]


def _is_hidden(parts: tuple[str, ...]) -> bool:
    """What systems put beside a user's files."""
    return any(part.startswith((".", "__MACOSX")) or part == "Thumbs.db" for part in parts)


def _class(name: PurePosixPath, where: str) -> str:
    if len(name.parts) < 2:
        raise TinyMetaFedError(f"{where}: lies in no folder that is its class")
    return str(name.parent)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TinyMetaFedError(f"{file}: cannot be read: {error.strerror}") from None


def _errors(path: str, where: NDArray[np.generic]) -> Error:
    return lambda row, problem: TinyMetaFedError(f"{path}{where[row]}: {problem}")
