"""Data sets' files: found, downloaded, checked."""

import errno
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pooch
import pytest

from tiny import checked, pack
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.settings import names
from tinymetafed.tasks import datasets, keywords, omniglot, tabular
from tinymetafed.tasks.datasets import Card, File, find

CONTENT = b"5.1,3.5,1.4,0.2,0\n" * 100
# No one listens there.
ADDRESS = "http://127.0.0.1:9/table.csv"
Change = Callable[[bytes], bytes]
FILE = File(name="table.csv", address=ADDRESS, sha256="0" * 64)
CARDS: dict[str, type[Card]] = {
    "omniglot": omniglot.Card, "fsdd": keywords.Card, "speech_commands": keywords.Card,
    "iris": tabular.Card, "wine": tabular.Card, "breast_cancer": tabular.Card,
}  # fmt: skip


@pytest.fixture
def file(data: Path) -> File:
    """A file in the folder of TMF_DATA."""
    (data / "table.csv").write_bytes(CONTENT)
    return checked(FILE, data / "table.csv")


def _serve(monkeypatch: pytest.MonkeyPatch, *answers: bytes | Exception) -> list[str]:
    """Downloads are given these answers, without a network; returns the addresses asked."""
    asked: list[str] = []

    def download(self: object, url: str, path: str, store: object) -> None:
        asked.append(url)
        answer = answers[min(len(asked), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        Path(path).write_bytes(answer)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", download)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    return asked


def test_every_card_is_read():
    assert CARDS.keys() == set(names(datasets.FOLDER))
    for name, kind in CARDS.items():
        card = datasets.card(kind, name)
        for text in (card.name, card.licence, card.citation, card.split):
            assert text
        assert card.origin.startswith("https://")


def test_where_a_file_is_looked_for(data: Path, file: File):
    """In the folder of TMF_DATA, in those in it, in the cache."""
    content = (data / "table.csv").read_bytes()
    cached = datasets.CACHE / "table.csv"
    for path in (data / "table.csv", data / "tables" / "table.csv", cached):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    for path in (data / "table.csv", data / "tables" / "table.csv", cached):
        assert find(file) == path
        path.unlink()


def test_without_tmf_data_there_is_the_cache(file: File, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TMF_DATA")
    datasets.CACHE.mkdir()
    (datasets.CACHE / "table.csv").write_bytes(CONTENT)
    assert find(file) == datasets.CACHE / "table.csv"


def test_tmf_data_has_to_be_a_folder(file: File, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMF_DATA", "/nowhere")
    with pytest.raises(TinyMetaFedError, match="^TMF_DATA: /nowhere is no folder$"):
        find(file)


@pytest.mark.parametrize(
    "given", ["~", "{data}/table.csv", "{data}:{data}", "{data};{data}", " ", "nowhere", "x" * 300]
)
def test_tmf_data_names_one_folder_that_there_is(
    data: Path, file: File, monkeypatch: pytest.MonkeyPatch, given: str
):
    monkeypatch.setenv("TMF_DATA", given.format(data=data))
    asked = _serve(monkeypatch, CONTENT)
    with pytest.raises(TinyMetaFedError) as caught:
        find(file)
    assert len(str(caught.value).splitlines()) == 1
    assert given.format(data=data) in str(caught.value)
    assert not asked


def test_tmf_data_empty_is_as_if_it_were_not_set(file: File, monkeypatch: pytest.MonkeyPatch):
    """And not the working folder."""
    monkeypatch.chdir(os.environ["TMF_DATA"])
    monkeypatch.setenv("TMF_DATA", "")
    _serve(monkeypatch, CONTENT)
    assert find(file) == datasets.CACHE / "table.csv"


def test_tmf_data_may_be_relative(data: Path, file: File, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(data.parent)
    monkeypatch.setenv("TMF_DATA", data.name)
    assert find(file).resolve() == data / "table.csv"


def test_a_folder_in_tmf_data_that_is_closed_to_us_is_passed_over(
    data: Path, file: File, monkeypatch: pytest.MonkeyPatch
):
    """As lost+found is on a disk of its own; seen here by somebody who is not root."""
    (data / "lost+found").mkdir()
    (data / "tables").mkdir()
    (data / "table.csv").rename(data / "tables" / "table.csv")

    def is_file(path: Path) -> bool:
        if "lost+found" in path.parts:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return path.exists() and not path.is_dir()

    monkeypatch.setattr(Path, "is_file", is_file)
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "lost+found")
    assert find(file) == data / "tables" / "table.csv"


def test_a_file_that_may_not_be_read(data: Path, file: File, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: str) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(pooch, "file_hash", refuse)
    path = data / "table.csv"
    with pytest.raises(TinyMetaFedError, match=f"^{path}: cannot be read: Permission denied$"):
        find(file)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\n", lambda b: b"6" + b[1:]])
def test_a_file_that_is_truncated_or_altered(data: Path, file: File, change: Change):
    path = data / "table.csv"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(TinyMetaFedError) as caught:
        find(file)
    assert str(caught.value).startswith(f"{path}: truncated or altered: its SHA-256 is ")
    assert str(caught.value).endswith(f"delete it to have it downloaded again from {ADDRESS}")


def test_a_file_that_cannot_be_downloaded(data: Path, file: File, monkeypatch: pytest.MonkeyPatch):
    (data / "table.csv").unlink()
    monkeypatch.setattr(datasets, "RETRIES", 0)
    with pytest.raises(TinyMetaFedError) as caught:
        find(file)
    message = str(caught.value)
    assert message.startswith(f"table.csv: cannot be downloaded from {ADDRESS} (")
    assert message.endswith(
        f"; put the file into {datasets.CACHE}, or into a folder that TMF_DATA names"
    )
    assert len(message.splitlines()) == 1
    assert not any(datasets.CACHE.iterdir())


def test_a_download_is_tried_again_and_kept(
    data: Path, file: File, monkeypatch: pytest.MonkeyPatch
):
    (data / "table.csv").unlink()
    asked = _serve(monkeypatch, ValueError("broke off"), CONTENT[:-1], CONTENT)
    for _ in range(2):
        assert find(file).read_bytes() == CONTENT
    assert asked == [ADDRESS] * 3


def test_a_download_of_something_else_is_not_kept(
    data: Path, file: File, monkeypatch: pytest.MonkeyPatch
):
    (data / "table.csv").unlink()
    asked = _serve(monkeypatch, b"<html>Sign in</html>")
    with pytest.raises(TinyMetaFedError, match=r"table\.csv: cannot be downloaded.*hash"):
        find(file)
    assert len(asked) == 1 + datasets.RETRIES
    assert not any(datasets.CACHE.iterdir())


def test_a_cache_that_cannot_be_written(data: Path, file: File, monkeypatch: pytest.MonkeyPatch):
    """There is a file where its folder should be."""
    (data / "table.csv").rename(data / "other.csv")
    _serve(monkeypatch, CONTENT)
    monkeypatch.setattr(datasets, "CACHE", data / "other.csv" / "cache")
    with pytest.raises(TinyMetaFedError, match="table.csv: cannot be .*Not a directory"):
        find(file)


def test_a_cache_that_cannot_be_written_costs_time_alone(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    (data / "file").write_bytes(b"")
    monkeypatch.setattr(datasets, "CACHE", data / "file" / "cache")
    for _ in range(2):
        assert datasets.cached("name", "key", lambda: {"values": np.arange(3)})["values"].sum() == 3
    assert len(caplog.messages) == 1  # told once
    assert "npz: cannot be written: Not a directory; each run will" in caplog.messages[0]


def test_a_full_disk_leaves_nothing_half_written(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fill_up(path: Path, **arrays: object) -> None:
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", fill_up)
    assert datasets.cached("name", "key", lambda: {"values": np.arange(3)})["values"].sum() == 3
    assert not any(datasets.CACHE.iterdir())
    assert "npz: cannot be written: No space left on device" in caplog.text


MEMBERS = {f"recordings/{i}.wav": bytes([i]) * 1000 for i in range(9)} | {"README.md": b"made by"}


@pytest.fixture
def recordings(data: Path, tmp_path: Path) -> File:
    """Checked by the contents of its WAV files, as the shell adds them up."""
    for name, content in MEMBERS.items():
        (tmp_path / Path(name).name).write_bytes(content)
    shell = "LC_ALL=C sha256sum *.wav | sha256sum"
    printed = subprocess.run(
        ["sh", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    return File(
        name="tag.zip", other_names=("own.tar.gz",), address=ADDRESS, members=".wav",
        sha256=printed.split()[0],
    )  # fmt: skip


@pytest.mark.parametrize("name", ["tag.zip", "own.tar.gz"])
def test_an_archive_packed_in_another_way_is_the_same(data: Path, recordings: File, name: str):
    other = {f"tag-1.0/{key}": MEMBERS[key] for key in reversed(MEMBERS)} | {"LICENSE": b""}
    pack(data / name, other)
    assert find(recordings) == data / name
    assert {path.name: content for path, content in datasets.members(data / name, ".wav")} == {
        Path(key).name: content for key, content in MEMBERS.items() if key.endswith(".wav")
    }


@pytest.mark.parametrize(
    "change",
    [{"recordings/3.wav": b"other"}, {"recordings/10.wav": b""}, {"a/3.wav": b"other"}, None],
)
def test_an_archive_with_another_recording(
    data: Path, recordings: File, change: Mapping[str, bytes] | None
):
    members = {**MEMBERS, **(change or {})}
    if change is None:
        del members["recordings/0.wav"]
    pack(data / "tag.zip", members)
    with pytest.raises(TinyMetaFedError, match=r"tag\.zip: truncated or altered: its SHA-256"):
        find(recordings)


@pytest.mark.parametrize("name", ["tag.zip", "own.tar.gz"])
@pytest.mark.parametrize("keep", [0, 10, 200, -30])
def test_an_archive_that_breaks_off(data: Path, recordings: File, name: str, keep: int):
    path = data / name
    pack(path, {key: os.urandom(300) + value for key, value in MEMBERS.items()})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(TinyMetaFedError, match=r"(cannot be read \(|truncated or altered)"):
        find(recordings)


def test_a_downloaded_archive_is_checked_by_its_contents(
    data: Path, recordings: File, monkeypatch: pytest.MonkeyPatch
):
    pack(data / "packed.zip", MEMBERS)
    _serve(monkeypatch, (data / "packed.zip").read_bytes())
    assert find(recordings) == datasets.CACHE / "tag.zip"


def test_an_archive_that_grows_beyond_what_its_card_allows(data: Path, recordings: File):
    """Before it is unpacked, since it has no checksum of its own."""
    pack(data / "tag.zip", MEMBERS | {"bomb.txt": bytes(10**6)})
    small = recordings.model_copy(update={"unpacked": 10**5})
    assert find(recordings) == data / "tag.zip"
    with pytest.raises(TinyMetaFedError) as caught:
        find(small)
    assert str(caught.value) == (
        f"{data}/tag.zip: bomb.txt: more than 100,000 bytes when unpacked; delete it to have it "
        f"downloaded again from {ADDRESS}"
    )


def test_what_is_cached_is_made_once_for_a_key(data: Path):
    made: list[int] = []

    def make() -> datasets.Arrays:
        made.append(len(made))
        return {"values": np.arange(len(made)), "words": np.array(["a", "bc"])}

    for _ in range(2):
        found = datasets.cached("name", "key", make)
        assert (found["values"] == [0]).all()
        assert found["words"].tolist() == ["a", "bc"]
    assert len(datasets.cached("name", "other", make)["values"]) == 2
    assert made == [0, 1]
    assert len(list(datasets.CACHE.iterdir())) == 2


@pytest.mark.parametrize("change", [lambda b: b[:-40], lambda b: b"", lambda b: b[::-1]])
def test_a_cached_file_that_is_damaged(data: Path, change: Change):
    datasets.cached("name", "key", lambda: {"values": np.arange(1000)})
    (path,) = datasets.CACHE.iterdir()
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(TinyMetaFedError, match=rf"{path.name}: cannot be read \(.*; delete it"):
        datasets.cached("name", "key", lambda: {})
