"""Archives that somebody built to do harm, or that broke: one line that names what is wrong."""

import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.errors import TinyMetaFedError
from tinymetafed.tasks.archives import members

CONTENT = b"RIFF" + bytes(range(256)) * 4


def _read(path: Path, **limits: int) -> dict[str, bytes]:
    return {str(name): content for name, content in members(path, ".wav", **limits)}


def _problem(path: Path, **limits: int) -> str:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(TinyMetaFedError) as caught:
        _read(path, **limits)
    assert sorted(path.parent.rglob("*")) == before  # nothing is written
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


def _tar(path: Path, *entries: tuple[str, bytes] | tarfile.TarInfo, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1]))
    return path


def _zip(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes], method: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def _special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo("evil.wav")
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tars_are_read_whatever_they_are_packed_by(tmp_path: Path, mode: str):
    entries = ("a/1.wav", CONTENT), ("a/notes.txt", b"-"), ("./2.wav", b"")
    path = _tar(tmp_path / "some.tar", *entries, mode=mode)
    assert _read(path) == {"a/1.wav": CONTENT, "2.wav": b""}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_zips_are_read_whatever_they_are_packed_by(tmp_path: Path, method: int):
    path = _zip(tmp_path / "some.zip", ("a/1.wav", CONTENT), ("b.txt", b"-"), method=method)
    assert _read(path) == {"a/1.wav": CONTENT}


LINKS = {
    "symbolic": _special(tarfile.SYMTYPE, "/etc/passwd"),
    "dangling": _special(tarfile.SYMTYPE, "nowhere"),
    "to itself": _special(tarfile.SYMTYPE, "evil.wav"),
    "hard": _special(tarfile.LNKTYPE, "1.wav"),
    "device": _special(tarfile.CHRTYPE),
    "disk": _special(tarfile.BLKTYPE),
    "fifo": _special(tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("entry", LINKS.values(), ids=LINKS.keys())
def test_a_link_or_device_of_a_tar_is_refused(tmp_path: Path, entry: tarfile.TarInfo):
    path = _tar(tmp_path / "some.tar", ("1.wav", CONTENT), entry)
    assert _problem(path) == "evil.wav: is a link or a device, and no file"


def test_a_link_of_a_zip_is_refused(tmp_path: Path):
    link = zipfile.ZipInfo("evil.wav")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    path = _zip(tmp_path / "some.zip", (link, b"/etc/passwd"))
    assert _problem(path) == "evil.wav: is a link or a device, and no file"


def test_what_is_not_asked_for_is_not_looked_at(tmp_path: Path):
    link = _special(tarfile.SYMTYPE, "/etc/passwd")
    link.name = "README"
    path = _tar(tmp_path / "some.tar", link, ("../notes.txt", b"-"), ("1.wav", CONTENT))
    assert _read(path) == {"1.wav": CONTENT}


@pytest.mark.parametrize("name", ["../evil.wav", "a/../../evil.wav", "/tmp/evil.wav"])
@pytest.mark.parametrize("pack", [_zip, _tar])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str, pack: Callable[..., Path]):
    path = pack(tmp_path / "some.archive", ("1.wav", CONTENT), (name, b"evil"))
    assert _problem(path) == f"{name}: its path leads out of the archive"


@pytest.mark.parametrize("pack", [_zip, _tar])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(tmp_path: Path, pack: Callable[..., Path]):
    path = pack(tmp_path / "some.archive", ("a/1.wav", CONTENT), ("a//1.wav", b"other"))
    assert _problem(path).endswith("1.wav: is in the archive twice")


@pytest.mark.parametrize("pack", [_zip, _tar])
def test_names_do_not_reach_the_terminal_as_they_are(tmp_path: Path, pack: Callable[..., Path]):
    path = pack(tmp_path / "some.archive", ("../\x1b[2J\n.wav", b""))
    assert _problem(path) == r"'../\x1b[2J\n.wav': its path leads out of the archive"


def test_a_name_that_is_no_text(tmp_path: Path):
    info = tarfile.TarInfo("../\udcff.wav")  # byte ff, as Python reads it
    path = _tar(tmp_path / "some.tar", info)
    assert _problem(path) == r"'../\udcff.wav': its path leads out of the archive"


@pytest.mark.parametrize("pack", [_zip, _tar])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, pack: Callable[..., Path]):
    path = pack(tmp_path / "some.archive", ("1.wav", bytes(600)), ("2.txt", bytes(600)))
    assert _problem(path, most=1199) == "2.txt: more than 1,199 bytes when unpacked"
    assert len(_read(path, most=1200)["1.wav"]) == 600


def test_a_tar_whose_header_promises_much(tmp_path: Path):
    info = tarfile.TarInfo("1.wav")
    info.size = 2**40
    (tmp_path / "some.tar").write_bytes(info.tobuf())
    assert _problem(tmp_path / "some.tar", most=10**9).startswith("1.wav: more than 1,000,000,000")
    assert "cannot be read" in _problem(tmp_path / "some.tar")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_tar_whose_names_are_a_bomb(tmp_path: Path, kind: bytes):
    """A header for a member's name is read into memory before there is a member."""
    info = tarfile.TarInfo("1.wav")
    info.type, info.size = kind, 2**40
    (tmp_path / "some.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(999))
    assert _problem(tmp_path / "some.tar") == "a name's header has 1,099,511,627,776 bytes"


def _central(path: Path, offset: int, value: int) -> Path:
    """Changes 16 bits of the first member's header, and of its entry in the directory."""
    data = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", offset), (b"PK\x01\x02", offset + 2)):
        struct.pack_into("<H", data, data.index(signature) + at, value)
    path.write_bytes(data)
    return path


def test_an_encrypted_zip(tmp_path: Path):
    path = _central(_zip(tmp_path / "some.zip", ("1.wav", CONTENT)), offset=6, value=1)
    assert _problem(path) == "1.wav: is encrypted"


@pytest.mark.parametrize("method", [1, 9, 93, 98])  # shrunk, Deflate64, Zstandard, PPMd
def test_a_zip_by_a_method_that_is_unknown_here(tmp_path: Path, method: int):
    path = _central(_zip(tmp_path / "some.zip", ("1.wav", CONTENT)), offset=8, value=method)
    assert _problem(path).startswith("1.wav: cannot be read (")


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04", b"\x1f\x8b\x08\x00", bytes(511)])
def test_what_is_no_archive(tmp_path: Path, content: bytes):
    (tmp_path / "some.zip").write_bytes(content)
    assert _problem(tmp_path / "some.zip").startswith("cannot be read (")


def test_an_archive_that_is_not_there(tmp_path: Path):
    assert _problem(tmp_path / "some.zip") == "cannot be read (No such file or directory)"


@cache
def _archives(folder: Path) -> list[bytes]:
    entries = [(f"{i}.wav", CONTENT) for i in range(3)]
    return [
        _tar(folder / "a", *entries, mode=f"w{one}").read_bytes()
        for one in ("", ":gz", ":bz2", ":xz")
    ] + [
        _zip(folder / "a", *entries, method=method).read_bytes()
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
    ]


@given(st.integers(0, 6), st.integers(0, 4000), st.binary(min_size=1, max_size=4), st.booleans())
def test_a_spoilt_archive_gives_members_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, kind: int, at: int, spoilt: bytes, cut: bool
):
    folder = tmp_path_factory.getbasetemp()
    data, path = _archives(folder)[kind], folder / "spoilt"
    at %= len(data)
    path.write_bytes(data[:at] + (b"" if cut else spoilt + data[at + len(spoilt) :]))
    try:
        said = [f"{path}: {name}" for name, _ in members(path, ".wav", 10**6)]
    except TinyMetaFedError as error:
        said = [str(error)]
    assert len("\n".join(said).splitlines()) == len(said)
    assert all(one.startswith(f"{path}: ") for one in said)
