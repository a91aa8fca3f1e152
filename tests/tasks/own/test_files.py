"""Images and recordings of a user's own: the same from a folder, an archive and a manifest."""

import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from conftest import FindReal
from recorded import nearest, write
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.tasks import Audio, Images, datasets, keywords, omniglot, pictures
from tinymetafed.tasks.own.base import OwnData
from tinymetafed.tasks.spectra import Features, spectrum

KINDS: dict[str, tuple[type[OwnData], str, dict[str, Any]]] = {
    "images": (Images, ".png", {"size": 8}),
    "audio": (Audio, ".wav", {"rate": 8000, "seconds": 0.2}),
}
MADE = {"partition": {"name": "iid", "devices": 3}}


def _bytes(kind: str, seed: int) -> bytes:
    rng, data = np.random.default_rng(seed), io.BytesIO()
    if kind == "images":
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(data, "PNG")
    else:
        soundfile.write(data, rng.normal(size=1600) / 9, 8000, format="WAV")
    return data.getvalue()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, data: Path) -> str:
    """With a cache of its own."""
    return request.param


def _folder(path: Path, kind: str, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """Six files of each class."""
    for i, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for j in range(6):
            (path / name / f"{j}{KINDS[kind][1]}").write_bytes(_bytes(kind, 10 * i + j))
    return path


def _task(kind: str, path: Path, **changes: object) -> OwnData:
    model, _, settings = KINDS[kind]
    own = {"name": kind, "path": path.name, "validation": 0, **settings, **changes}
    found = model.model_validate(own)
    return found.resolved(path.parent)


def _problem(kind: str, path: Path, **changes: object) -> str:
    with pytest.raises(TinyMetaFedError) as caught:
        _task(kind, path, **(MADE | changes)).prepare(1)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def _packed(task: OwnData) -> bytes:
    return b"".join(part.packed for part in task.device(1, 0, 2, 2))


def test_samples_are_the_same_however_they_are_kept(kind: str, tmp_path: Path):
    folder = _folder(tmp_path / "pets", kind)
    expected = _packed(_task(kind, folder, **MADE))
    shutil.make_archive(str(tmp_path / "pets"), "zip", folder)
    with tarfile.open(tmp_path / "below.tar.gz", "w:gz") as archive:
        archive.add(folder, "data/pets")
    files = sorted(folder.rglob("*.*"))
    rows = [(one.relative_to(tmp_path), one.parent.name) for one in files]
    write(tmp_path / "list.csv", rows, ("path", "label"))
    for name in ("pets.zip", "below.tar.gz", "list.csv"):
        assert _packed(_task(kind, tmp_path / name, **MADE)) == expected, name


def _rows(folder: Path, files: list[Path], users: int) -> list[tuple[str, str, str]]:
    """Of a manifest: users in turn."""
    names = [(str(one.relative_to(folder)), one.parent.name) for one in files]
    return [(*name, f"u{i % users}") for i, name in enumerate(names)]


def test_devices_are_named_by_a_manifest(kind: str, tmp_path: Path):
    folder = _folder(tmp_path / "pets", kind)
    files = sorted(folder.rglob("*.*"))
    rows = [
        (one.relative_to(tmp_path), one.parent.name, f"u{i % 3}") for i, one in enumerate(files)
    ]
    path = write(tmp_path / "list.csv", rows, ("file", "what", "who"))
    columns = {"file_column": "file", "target": "what", "device_column": "who"}
    task = _task(kind, path, **columns, normalise=False)
    values = np.stack([_sample(task, one.read_bytes()) for one in files])
    for part in ("seen", "unseen"):
        held = task.held(1, 0, part=part)
        assert held is not None
        at = nearest(held.samples, values.astype(np.float64))
        assert {rows[i][2] for i in at} == {held.name}
        assert [held.classes[label] for label in held.samples.targets] == [rows[i][1] for i in at]


def _sample(task: OwnData, data: bytes) -> NDArray[np.float32]:
    assert isinstance(task, Images | Audio)
    return task.sample(data)


def test_classes_are_drawn_anew_and_unseen_ones_are_others(kind: str, tmp_path: Path):
    """As Omniglot's, where nobody says who recorded a file."""
    classes = ("a", "b", "c", "d", "e", "f")
    folder = _folder(tmp_path / "pets", kind, classes)
    task = _task(kind, folder, ways=2, unseen=0.34, normalise=False)
    files = sorted(folder.rglob("*.*"))
    values = np.stack([_sample(task, one.read_bytes()) for one in files]).astype(np.float64)
    unseen = set(task.prepare(1)["task.unseen"].split(", "))
    assert len(unseen) == 2
    met: dict[str, set[str]] = {"seen": set(), "unseen": set()}
    for number in range(20):
        for part in ("seen", "unseen"):
            support, query = task.device(1, number, 4, 6, part=part)
            names: dict[int, set[str]] = {0: set(), 1: set()}
            rows: list[int] = []
            for some in (support, query):
                found = nearest(some, values)
                rows += found
                assert np.bincount(some.targets.astype(int)).tolist() == [len(some) // 2] * 2
                for row, label in zip(found, some.targets, strict=True):
                    names[int(label)].add(files[row].parent.name)
            assert len(set(rows)) == 10
            assert [len(one) for one in names.values()] == [1, 1]
            met[part] |= names[0] | names[1]
    assert met["unseen"] == unseen
    assert met["seen"] == set(classes) - unseen
    assert task.limits(part="seen").samples == 12


def test_episodes_of_one_device_each(kind: str, tmp_path: Path):
    folder = _folder(tmp_path / "pets", kind, ("a", "b", "c"))
    files = sorted(folder.rglob("*.*"))
    rows = [
        (one.relative_to(tmp_path), one.parent.name, f"u{i % 2}") for i, one in enumerate(files)
    ]
    path = write(tmp_path / "list.csv", rows, ("path", "label", "who"))
    task = _task(kind, path, device_column="who", ways=2, normalise=False)
    values = np.stack([_sample(task, one.read_bytes()) for one in files]).astype(np.float64)
    seen: set[tuple[str, ...]] = set()
    for number in range(12):
        support, query = task.device(1, number, 2, 4)
        at = nearest(support, values) + nearest(query, values)
        assert len({rows[i][2] for i in at}) == 1
        labels = [*support.targets, *query.targets]
        names = {int(label): rows[i][1] for i, label in zip(at, labels, strict=True)}
        seen.add((names[0], names[1]))
    assert len(seen) > 3
    limits = task.limits(part="seen")
    assert (limits.samples, limits.classes) == (6, 2)


@pytest.mark.parametrize("part", [0, 0.1, 0.6, 0.8])
def test_a_truncated_file_is_named(kind: str, tmp_path: Path, part: float):
    folder = _folder(tmp_path / "pets", kind)
    file = folder / "dog" / f"3{KINDS[kind][1]}"
    file.write_bytes(file.read_bytes()[: int(part * len(file.read_bytes()))])
    assert _problem(kind, folder).startswith(f"{file}: ")
    write(tmp_path / "list.csv", [(f"pets/dog/{i}{file.suffix}", i % 2) for i in range(6)],
          ("path", "label"))  # fmt: skip
    assert _problem(kind, tmp_path / "list.csv").startswith(
        f"{tmp_path}/list.csv: line 5: {file}: "
    )
    shutil.make_archive(str(tmp_path / "pets"), "zip", folder)
    said = _problem(kind, tmp_path / "pets.zip")
    assert said.startswith(f"{tmp_path}/pets.zip: dog/{file.name}: ")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (("", "cat", "u0"), "line 6, column path: the file is missing; enter it"),
        (("pets/cat/4{e}", "", "u0"), "line 6, column label: the class is missing; enter it"),
        (("pets/cat/4{e}", "cat", " "), "line 6, column who: the device is missing; enter it"),
        (("pets/cat/4{e}", "NA", "u0"), "line 6: {d}/pets/cat/4{e}: the class is missing; enter "
         "it"),
        (("pets/cat/9{e}", "cat", "u0"), "line 6, column path: {d}/pets/cat/9{e}: there is no such "
         "file"),
        (("pets/cat/../cat/0{e}", "cat", "u0"), "line 6, column path: {d}/pets/cat/../cat/0{e} is "
         "there twice, also in line 2"),
        (("list.csv", "cat", "u0"), "line 6, column path: {d}/list.csv ends in no ."),
        (("pets/cat/4{e}", "cat"), "line 6: it has 2 columns, the heading 3"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_manifest(
    kind: str, tmp_path: Path, row: tuple[str, ...], problem: str
):
    _folder(tmp_path / "pets", kind)
    ending = KINDS[kind][1]
    rows = [(f"pets/cat/{i}{ending}", "cat", "u1") for i in range(4)]
    rows += [tuple(cell.format(e=ending) for cell in row)]
    rows += [(f"pets/dog/{i}{ending}", "dog", "u2") for i in range(4)]
    path = write(tmp_path / "list.csv", rows, ("path", "label", "who"))
    said = _problem(kind, path, device_column="who", partition=None)
    assert said.startswith(f"{path}: {problem.format(e=ending, d=tmp_path)}")


def test_what_is_wrong_with_a_folder(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = _folder(tmp_path / "pets", kind)
    ending = KINDS[kind][1]
    (folder / ".DS_Store").write_bytes(b"")
    (folder / "cat" / "readme.txt").write_bytes(b"")
    _task(kind, folder, **MADE)
    (said,) = caplog.messages
    assert said.startswith(f"{folder}: 1 files are left out, such as cat/readme.txt, since they ")
    (folder / "cow").mkdir()
    assert _problem(kind, folder).startswith(f"{folder}/cow: no file in it ends in .")
    (folder / f"0{ending}").write_bytes(_bytes(kind, 0))
    (folder / "cow").rmdir()
    assert _problem(kind, folder) == f"{folder}/0{ending}: lies in no folder that is its class"
    assert _problem(kind, folder, partition=None, device_column="who") == (
        f"task.device_column: {folder} says no device; name each file's in a manifest (CSV), or "
        "make devices by task.partition"
    )
    assert _problem(kind, tmp_path / "gone").startswith(
        f"{tmp_path}/gone: there is no such folder, and its name ends in no .csv, "
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert _problem(kind, empty).startswith(f"{empty}: no file in it ends in .")
    one = _folder(tmp_path / "one", kind, ("cat",))
    assert _problem(kind, one) == f"{one}: every class is 'cat', so there is nothing to tell apart"


def test_changed_files_are_noticed(kind: str, tmp_path: Path):
    folder = _folder(tmp_path / "pets", kind)
    task = _task(kind, folder, **MADE)
    file = folder / "cat" / f"0{KINDS[kind][1]}"
    content = file.read_bytes()
    for change in (
        lambda: file.write_bytes(_bytes(kind, 99)),
        lambda: file.rename(folder / "dog" / f"9{file.suffix}"),
    ):
        change()
        with pytest.raises(TinyMetaFedError, match=f"{folder}: changed since the run was begun"):
            task.prepare(2)
        shutil.rmtree(folder)
        _folder(folder, kind)
    assert file.read_bytes() == content
    task.prepare(2)


def test_samples_are_computed_once(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = _folder(tmp_path / "pets", kind)
    expected = _packed(_task(kind, folder, **MADE))
    os.rename(folder, tmp_path / "moved")  # noqa: PTH104
    calls: list[bytes] = []
    monkeypatch.setattr(KINDS[kind][0], "sample", lambda self, data: calls.append(data))
    assert _packed(_task(kind, tmp_path / "moved", **MADE)) == expected
    assert not calls


# ---- images -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", sorted(pictures.FORMATS))
@pytest.mark.parametrize("colour", [False, True])
def test_images_of_every_format(form: str, colour: bool):
    flat = np.zeros((6, 4, 3), np.uint8) + np.array([200, 100, 50], np.uint8)
    data = io.BytesIO()
    Image.fromarray(flat).save(data, form, **({"lossless": True} if form == "WEBP" else {}))
    task = Images.model_validate(
        {"name": "images", "path": "x", "ways": 2, "size": [5, 7], "colour": colour}
    )
    found = task.sample(data.getvalue())
    assert found.shape == (5, 7, 3 if colour else 1)
    expected = [200, 100, 50] if colour else [0.299 * 200 + 0.587 * 100 + 0.114 * 50]
    allowed = 5 if form in ("JPEG", "GIF") else 1
    assert np.abs(found * 255 - expected).max() <= allowed


def test_images_are_turned_as_their_camera_was_held():
    image = Image.fromarray(np.array([[0, 0, 0, 0], [255, 255, 255, 255]], np.uint8).repeat(4, 0))
    turned, exif = image.rotate(90, expand=True), Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    turned.save(data, "JPEG", exif=exif, quality=95)
    assert pictures.read(data.getvalue(), ("JPEG",)).size == image.size


def test_an_animation_and_an_image_without_a_scale_are_refused():
    data = io.BytesIO()
    frames = [Image.new("L", (4, 4), value) for value in (0, 99)]
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="is animated"):
        pictures.read(data.getvalue(), tuple(pictures.FORMATS))
    for mode in ("F", "I"):
        data = io.BytesIO()
        Image.fromarray(np.full((4, 4), 1e6)).convert(mode).save(data, "TIFF")
        with pytest.raises(ValueError, match="nobody knows what is white"):
            pictures.read(data.getvalue(), tuple(pictures.FORMATS))


@given(at=st.integers(0, 400), spoilt=st.binary(min_size=1, max_size=8),
       form=st.sampled_from(sorted(pictures.FORMATS)))  # fmt: skip
def test_a_spoilt_image_is_read_or_one_line(at: int, spoilt: bytes, form: str):
    data = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(data, form)
    content = data.getvalue()
    at %= len(content)
    try:
        lines = [str(pictures.read(content[:at] + spoilt + content[at + len(spoilt) :],
                                   tuple(pictures.FORMATS)).size)]  # fmt: skip
    except ValueError as error:
        lines = str(error).splitlines()
    assert len(lines) == 1


@given(part=st.floats(0, 1, exclude_max=True), form=st.sampled_from(sorted(pictures.FORMATS)))
def test_a_truncated_image_is_none_or_lacks_no_pixel(part: float, form: str):
    """As a PNG that ends behind its last pixel."""
    data = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(data, form)
    formats, content = tuple(pictures.FORMATS), data.getvalue()
    whole = pictures.read(content, formats, colour=True)
    try:
        found = pictures.read(content[: int(part * len(content))], formats, colour=True)
    except ValueError:
        found = whole
    assert (np.asarray(found) == np.asarray(whole)).all()


# ---- recordings ---------------------------------------------------------------------------------


def test_recordings_are_kaldi_s_features():
    """MFCCs as those of keyword spotting; bands are their logarithms without the cosine
    transform."""
    data = _bytes("audio", 1)
    settings = {"name": "audio", "path": "x", "ways": 2, "rate": 8000}
    task = Audio.model_validate(settings)
    expected = spectrum(data, Features(40, 40, 10), 8000)
    assert (task.sample(data) == expected).all()
    bands = Audio.model_validate(settings | {"features": "log_mel", "coefficients": 23})
    logs = bands.sample(data)
    assert logs.shape == (25, 23)
    cepstra = spectrum(data, Features(40, 40, 23), 8000)
    n = np.arange(23)
    # Kaldi's MFCCs: the orthonormal DCT-II of the bands, then a lifter of 22.
    dct = np.sqrt(2 / 23) * np.cos(np.pi / 23 * np.outer(n, n + 0.5))
    dct[0] /= np.sqrt(2)
    lifter = 1 + 11 * np.sin(np.pi * n / 22)
    np.testing.assert_allclose(logs @ dct.T * lifter, cepstra, atol=2e-2)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"seconds": 0.05, "window": 60}, "window: 60 ms is longer than task.seconds = 0.05"),
        ({"coefficients": 24}, "coefficients: an MFCC is made of 23 bands, so 23 at most"),
        (
            {"features": "log_mel", "coefficients": 80, "rate": 4000, "window": 20},
            "coefficients: a frame of 20 ms at 4000 Hz is too short for 80 bands; use fewer",
        ),
    ],
)
def test_features_that_cannot_be(changes: dict[str, Any], problem: str):
    with pytest.raises(ValueError, match=problem):
        Audio.model_validate({"name": "audio", "path": "x", "ways": 2, **changes})


# ---- real data ----------------------------------------------------------------------------------

Real = Callable[[datasets.File], Path]


@pytest.fixture
def real(real_data: FindReal) -> Real:
    def find(file: datasets.File) -> Path:
        real_data(file)
        return datasets.find(file)

    return find


def test_omniglot_as_images_of_one_s_own(real: Real):
    """Characters are told apart by alphabet and number."""
    card = datasets.card(omniglot.Card, "omniglot")
    path = real(card.files["images_background_small1"])
    task = Images.model_validate({"name": "images", "path": str(path), "ways": 5, "size": 14})
    task = task.resolved(path.parent)
    characters = sum(card.files["images_background_small1"].alphabets.values())
    assert (task.known.groups, task.known.fewest) == (characters, 20)
    support, query = task.device(1, 0, 25, 50, part="unseen")
    assert (support.inputs.shape, len(query)) == ((25, 196), 50)


def test_spoken_digits_by_speaker(real: Real, tmp_path: Path):
    """Two recordings of each digit by each speaker, of the 3,000."""
    path = real(datasets.card(keywords.Card, "fsdd").file)
    rows: list[tuple[str, str, str]] = []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            digit, speaker, number = (*Path(name).stem.split("_"), "", "9")[:3]
            if number in ("0", "1"):
                (tmp_path / Path(name).name).write_bytes(archive.read(name))
                rows.append((Path(name).name, digit, speaker))
    write(tmp_path / "list.csv", rows, ("path", "label", "speaker"))
    task = _task("audio", tmp_path / "list.csv", device_column="speaker", seconds=1)
    assert (task.shape, task.outputs) == ((25, 10, 1), 10)
    assert (task.known.groups, task.known.fewest) == (6, 20)
    assert len(task.prepare(1)["task.unseen"].split(", ")) == 2


def test_digits_of_a_dependency(tmp_path: Path):
    """scikit-learn's: 1,797 images of 8 × 8 in 10 classes, as an array."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    np.savez(tmp_path / "digits.npz", x=digits.images[..., np.newaxis], y=digits.target)
    from tinymetafed.tasks import Table

    settings = {"name": "table", "path": "digits.npz", "target": "y"}
    partition = {"name": "dirichlet", "devices": 40, "alpha": 0.5}
    task = Table.model_validate(settings | {"partition": partition}).resolved(tmp_path)
    assert (task.shape, task.outputs, task.limits(part="seen").samples) == ((8, 8, 1), 10, 44)
    support, _ = task.device(1, 0, 44, 0)
    assert len(np.unique(support.targets)) < 10
