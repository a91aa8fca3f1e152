"""Archives: what is in a zip or a tar, read without extracting it.

Nothing is written, so names that lead out of a folder, links and devices do no harm; one that is
asked for is refused all the same, since nobody can say what was meant by it.
"""

import math
import stat
import tarfile
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath

from ..errors import TinyMetaFedError

LONGEST_HEADER = 2**20  # bytes, of a tar; those of a name and its like have a few hundred
_HEADERS = {
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
}  # fmt: skip

Entry = tuple[str, int, str, Callable[[], bytes]]
"""Of a member that is no folder: name, bytes unpacked, why it is not read, how it is."""


def members(
    path: Path, ending: str | tuple[str, ...], most: float = math.inf
) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Names and contents of an archive's members with that ending, as they lie in it.

    most: bytes of all members together, unpacked. Raises TinyMetaFedError that names the archive,
    and the member where it is one: no zip or tar, damaged, encrypted, packed by a method that is
    unknown here, larger than `most`, twice the same name, no file, a name that leads elsewhere.
    """
    where, unpacked, known = f"{path}", 0, set[PurePosixPath]()
    try:
        with closing(_zip(path) if zipfile.is_zipfile(path) else _tar(path)) as entries:
            for text, size, problem, read in entries:
                where = f"{path}: {text if text.isprintable() else ascii(text)}"
                unpacked += size
                if unpacked > most:
                    raise TinyMetaFedError(f"{where}: more than {most:,} bytes when unpacked")
                if not text.endswith(ending):
                    continue
                name = PurePosixPath(text)
                if name.is_absolute() or ".." in name.parts:
                    problem = "its path leads out of the archive"
                elif name in known:
                    problem = "is in the archive twice"
                if problem:
                    raise TinyMetaFedError(f"{where}: {problem}")
                known.add(name)
                yield name, read()
                where = f"{path}"
    except TinyMetaFedError:
        raise
    except Exception as error:  # whatever a file that is damaged on purpose makes its reader raise
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        reason = reason or type(error).__name__
        raise TinyMetaFedError(f"{where}: cannot be read ({reason})") from None


def _zip(path: Path) -> Generator[Entry, None, None]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                continue
            problem = "is encrypted" if info.flag_bits & 1 else ""
            if kind not in (0, stat.S_IFREG):  # 0: the archive does not say
                problem = "is a link or a device, and no file"
            yield info.filename, info.file_size, problem, partial(archive.read, info)


class _Member(tarfile.TarInfo):
    """tarfile reads a header for a long name into memory, however long that is said to be."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > LONGEST_HEADER:
            raise TinyMetaFedError(f"{archive.name}: a name's header has {self.size:,} bytes")
        return super()._proc_member(archive)  # pyright: ignore


def _tar(path: Path) -> Generator[Entry, None, None]:
    try:
        archive = tarfile.open(path, tarinfo=_Member)  # noqa: SIM115
    except tarfile.ReadError:  # says for every method, on a line each, why it is not that one
        raise TinyMetaFedError(f"{path}: cannot be read (no zip or tar archive)") from None
    with archive:
        for member in archive:
            if member.isdir():
                continue
            problem = "" if member.isreg() else "is a link or a device, and no file"
            yield member.name, member.size, problem, partial(_content, archive, member)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    assert content is not None  # since it is a regular file
    return content.read()
