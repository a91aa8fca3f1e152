"""Data sets: their cards (datasets/*.toml), and the files that these name."""

import hashlib
import os
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeVar

import numpy as np
import pooch
from numpy.typing import NDArray
from pydantic import Field

from ..errors import TinyMetaFedError
from ..places import DATASETS
from ..settings import Settings, read

FOLDER = DATASETS
CACHE = DATASETS / "cache"
RETRIES = 3  # of a download, after 1, 2 and 3 seconds

_BROKEN = (OSError, EOFError, ValueError, zipfile.BadZipFile, tarfile.TarError, zlib.error)

Arrays = dict[str, NDArray[np.generic]]


class File(Settings):
    """A file of a data set.

    name: in the cache or the folder that TMF_DATA names; so are other_names.
    sha256: of the file; or, for an archive that its host packs anew, of its members with the ending
    `members`: of what sha256sum prints for them, sorted by name.
    """

    name: str
    other_names: tuple[str, ...] = ()
    address: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    members: str | None = None


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
    try:
        found = _checksum(path, file.members)
    except _BROKEN as error:
        raise TinyMetaFedError(
            f"{path}: cannot be read ({error}): it is truncated or damaged; delete it to have it "
            f"downloaded again from {file.address}"
        ) from None
    if found != file.sha256:
        raise TinyMetaFedError(
            f"{path}: truncated or altered: its SHA-256 is {found}, not {file.sha256}; delete it "
            f"to have it downloaded again from {file.address}"
        )
    return path


def members(path: Path, ending: str) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Names and contents of an archive's members with that ending, as they lie in it."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(ending):
                    yield PurePosixPath(name), archive.read(name)
    else:
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None and member.name.endswith(ending):
                    yield PurePosixPath(member.name), content.read()


def cached(name: str, key: str, make: Callable[[], Arrays]) -> Arrays:
    """What `make` returns, kept in the cache under a name and a hash of `key`, which has to tell
    all that it depends on. Raises TinyMetaFedError."""
    path = CACHE / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if path.exists():
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                return dict(arrays)
        except _BROKEN as error:
            raise TinyMetaFedError(f"{path}: cannot be read ({error}); delete it") from None
    arrays = make()
    unfinished = path.with_suffix(f".{os.getpid()}.npz")
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        np.savez(unfinished, allow_pickle=False, **arrays)
        unfinished.replace(path)  # whole or not at all
    except OSError as error:
        raise TinyMetaFedError(f"{path}: cannot be written: {error.strerror}") from None
    return arrays


def _places(file: File) -> Iterator[Path]:
    folders = [CACHE]
    if given := os.environ.get("TMF_DATA"):
        if not Path(given).is_dir():
            raise TinyMetaFedError(f"TMF_DATA: {given} is no folder")
        folders = [Path(given), *sorted(filter(Path.is_dir, Path(given).iterdir())), CACHE]
    for folder in folders:
        for name in (file.name, *file.other_names):
            yield folder / name


def _download(file: File) -> Path:
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


def _checksum(path: Path, ending: str | None) -> str:
    if ending is None:
        return pooch.file_hash(str(path))
    sums = [(name.name, hashlib.sha256(data).hexdigest()) for name, data in members(path, ending)]
    lines = "".join(f"{checksum}  {name}\n" for name, checksum in sorted(sums))
    return hashlib.sha256(lines.encode()).hexdigest()
