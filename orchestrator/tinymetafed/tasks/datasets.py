"""Data sets: their cards (datasets/*.toml), and the files that these name."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..errors import TinyMetaFedError
from ..places import CACHE, DATASETS
from ..settings import Settings, read
from .archives import members
from .base import warn

__all__ = ["Arrays", "Card", "File", "cached", "card", "find", "members"]

FOLDER = DATASETS
RETRIES = 3  # of a download, after 1, 2 and 3 seconds

Arrays = dict[str, NDArray[np.generic]]


class File(Settings):
    """A file of a data set.

    name: in the cache or the folder that TMF_DATA names; so are other_names.
    sha256: of the file; or, for an archive that its host packs anew, of its members with the ending
    `members`: of what sha256sum prints for them, sorted by name. unpacked: bytes of all members of
    such an archive together, at most; where its checksum is of the file, it is known before.
    """

    name: str
    other_names: tuple[str, ...] = ()
    address: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    members: str | None = None
    unpacked: Annotated[int, Field(gt=0)] = 2**30


class Card(Settings):
    """A card. `split` says in words what is seen and what is not."""

    name: str
    licence: str
    origin: str
    citation: str
    split: str


C = TypeVar("C", bound=Card)


@cache
def card(kind: type[C], name: str) -> C:
    """The card of that name. Raises TinyMetaFedError."""
    return read(kind, FOLDER / f"{name}.toml")


def find(file: File) -> Path:
    """Where the file is: in the folder that TMF_DATA names or one in it, in the cache, or there
    after a download. Raises TinyMetaFedError where it cannot be had or is not what the card says.
    """
    try:
        path = next(filter(Path.is_file, _places(file)), None)
    except OSError as error:
        raise TinyMetaFedError(f"{error.filename}: cannot be read: {error.strerror}") from None
    path = path or _download(file)
    again = f"delete it to have it downloaded again from {file.address}"
    try:
        found = _checksum(path, file)
    except OSError as error:
        raise TinyMetaFedError(f"{path}: cannot be read: {error.strerror}") from None
    except TinyMetaFedError as error:
        raise TinyMetaFedError(f"{error}; {again}") from None
    if found != file.sha256:
        raise TinyMetaFedError(
            f"{path}: truncated or altered: its SHA-256 is {found}, not {file.sha256} as its card "
            f"says; {again}"
        )
    return path


def cached(name: str, key: str, make: Callable[[], Arrays]) -> Arrays:
    """What `make` returns, kept in the cache under a name and a hash of `key`, which has to tell
    all that it depends on. Raises TinyMetaFedError where what is kept is damaged."""
    path = CACHE / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    try:
        file = path.open("rb")
    except OSError:  # not there, or not ours to read
        arrays = make()
        _keep(path, arrays)
        return arrays
    try:
        with file, np.load(file) as kept:
            return dict(kept)
    except Exception as error:  # whatever a damaged file makes numpy and zipfile raise
        raise TinyMetaFedError(f"{path}: cannot be read ({error}); delete it") from None


def _keep(path: Path, arrays: Arrays) -> None:
    """Writes the file whole or not at all: a cache that cannot be written costs time alone."""
    unfinished = path.with_suffix(f".{os.getpid()}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.savez(unfinished, allow_pickle=False, **arrays)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        warn(f"{path}: cannot be written: {reason}; each run will compute it anew")


def _places(file: File) -> Iterator[Path]:
    folders = [CACHE]
    if given := os.environ.get("TMF_DATA"):
        if not Path(given).is_dir():
            raise TinyMetaFedError(f"TMF_DATA: {given} is no folder")
        # Not in what is closed to us: the lost+found of a disk is no reason to give up.
        inner = [one for one in Path(given).iterdir() if one.is_dir() and os.access(one, os.X_OK)]
        folders = [Path(given), *sorted(inner), CACHE]
    for folder in folders:
        for name in (file.name, *file.other_names):
            yield folder / name


def _download(file: File) -> Path:
    import pooch  # with what it downloads with, it is slow to import

    pooch.get_logger().setLevel("WARNING")
    store = pooch.create(
        CACHE,
        base_url="",
        registry={file.name: None if file.members else f"sha256:{file.sha256}"},
        urls={file.name: file.address},
        retry_if_failed=RETRIES,
    )
    try:
        return Path(store.fetch(file.name, progressbar=sys.stderr.isatty()))
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise TinyMetaFedError(
            f"{file.name}: cannot be downloaded from {file.address} ({reason}); put the file into "
            f"{CACHE}, or into a folder that TMF_DATA names"
        ) from None


def _checksum(path: Path, file: File) -> str:
    if file.members is None:
        import pooch

        return pooch.file_hash(str(path))
    found = members(path, file.members, file.unpacked)
    sums = [(name.name, hashlib.sha256(data).hexdigest()) for name, data in found]
    lines = "".join(f"{checksum}  {name}\n" for name, checksum in sorted(sums))
    return hashlib.sha256(lines.encode()).hexdigest()
