"""Omniglot as tasks: whose drawings a device has, and how they are reduced."""

import io
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from conftest import FindReal, UseCard
from tiny import ALPHABETS, SIDE, Origin, checked, make_omniglot, pack, png
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.tasks import Omniglot, datasets
from tinymetafed.tasks.base import Part
from tinymetafed.tasks.omniglot import DRAWINGS, Card, _ink

SMALL = ("images_background_small1", "images_background_small2")
Drawings = dict[bytes, Origin]


def _task(**settings: object) -> Omniglot:
    whole: dict[str, object] = {"name": "omniglot", "size": SIDE, "ways": 3}
    return Omniglot.model_validate({**whole, "unseen": ["images_evaluation"], **settings})


@pytest.fixture
def drawings(data: Path, use_card: UseCard) -> Drawings:
    card, origins = make_omniglot(data)
    use_card(card)
    return origins


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2**63 - 1), st.integers(0, 10**6), st.integers(0, 5), st.integers(1, 5),
    st.sampled_from(("seen", "unseen")), st.booleans(),
)  # fmt: skip
def test_a_device_has_as_many_drawings_of_each_of_its_characters(
    drawings: Drawings, seed: int, device: int, shots: int, queries: int, part: Part, turn: bool
):
    task = _task(rotations=turn)
    parts = task.device(seed, device, 3 * shots, 3 * queries, part=part)
    found: dict[int, set[Origin]] = {0: set(), 1: set(), 2: set()}
    images: list[bytes] = []
    for samples, each in zip(parts, (shots, queries), strict=True):
        assert samples.inputs.dtype == np.float32
        assert samples.inputs.shape == (3 * each, task.inputs)
        assert samples.targets.dtype == np.uint32
        assert np.bincount(samples.targets.astype(int), minlength=3).tolist() == [each] * 3
        for image, label in zip(samples.inputs, samples.targets, strict=True):
            images.append(image.tobytes())
            found[int(label)].add(drawings[image.tobytes()])
    assert len(images) == len(set(images))
    origins = [origin for (origin,) in found.values()]  # one character for each label
    assert len(set(origins)) == 3
    archive = "images_evaluation" if part == "unseen" else "images_background"
    assert all(origin[0] == archive for origin in origins)
    assert turn or all(origin[-1] == "0" for origin in origins)


def test_every_character_and_rotation_is_drawn(drawings: Drawings):
    task = _task()
    split: tuple[tuple[Part, str], ...] = (
        ("seen", "images_background"), ("unseen", "images_evaluation"),
    )  # fmt: skip
    for part, archive in split:
        found: set[Origin] = set()
        for device in range(200):
            _, query = task.device(1, device, 0, 3, part=part)
            found |= {drawings[image.tobytes()] for image in query.inputs}
        assert found == {origin for origin in drawings.values() if origin[0] == archive}


def test_the_same_seed_and_device_give_the_same_samples(drawings: Drawings):
    def packed(seed: int, device: int) -> tuple[bytes, ...]:
        return tuple(part.packed for part in _task().device(seed, device, 6, 9))

    assert packed(1, 2) == packed(1, 2)
    assert len({packed(seed, device) for seed in range(10) for device in range(10)}) == 100


def test_samples_come_in_random_order(drawings: Drawings):
    """Since a node learns from one after the other."""
    for part in (0, 1):
        orders = {tuple(_task().device(1, d, 9, 9)[part].targets.tolist()) for d in range(50)}
        assert len(orders) > 40


def test_single_alphabets_can_be_named(drawings: Drawings):
    task = _task(seen=["images_background/Latin"], unseen=["images_evaluation/Tibetan"])
    split: tuple[tuple[Part, str], ...] = (("seen", "Latin"), ("unseen", "Tibetan"))
    for part, alphabet in split:
        found = [
            drawings[image.tobytes()]
            for device in range(20)
            for image in task.device(1, device, 0, 3, part=part)[1].inputs
        ]
        assert {origin[1] for origin in found} == {alphabet}


def test_an_alphabet_of_two_archives_is_drawn_from_once(drawings: Drawings):
    both = _task(seen=["images_background_small1", "images_background"])
    one = _task(seen=["images_background"])
    assert len(both.pool(1, part="seen").classes) == len(one.pool(1, part="seen").classes) == 20


def test_what_a_run_was_made_of(drawings: Drawings):
    made_of = _task(unseen=["images_evaluation/Tengwar"]).prepare(1)
    assert made_of["task.seen"] == "Greek, Latin"
    assert made_of["task.unseen"] == "Tengwar"
    assert made_of["images_background.zip"].startswith("sha256:")
    assert made_of.keys() - {"pillow"} == {
        "task.seen", "task.unseen", "images_background.zip", "images_evaluation.zip",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"seen": ["images"]}, "seen: 'images' is unknown; use images_background, images_evalua"),
        ({"unseen": ["images_evaluation/Latin"]}, "unseen: 'images_evaluation/Latin' is unknown; "
            "images_evaluation has Tengwar, Tibetan"),
        ({"unseen": ["images_background_small1"]}, "unseen: Greek would be seen too"),
        ({"ways": 21}, "ways: 21 of the 20 classes of task.seen"),
        ({"ways": 9, "rotations": False, "unseen": ["images_evaluation/Tengwar"],
            "seen": ["images_background", "images_evaluation/Tibetan"]},
            "ways: 9 of the 8 classes of task.seen"),
        ({"ways": 9, "unseen": ["images_evaluation/Tengwar"]},
            "ways: 9 of the 8 classes of task.unseen"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(drawings: Drawings, settings: dict[str, object], says: str):
    with pytest.raises(ValueError, match=r"Value error") as caught:
        _task(**settings)
    assert says in str(caught.value)


def _area_averaged(ink: NDArray[np.bool_], size: int) -> NDArray[np.float64]:
    """Of each pixel's area the part that is ink, from how much of each row and column it covers."""
    edges = np.arange(size + 1) * len(ink) / size
    cells = np.arange(len(ink))
    low, high = edges[:-1, None], edges[1:, None]
    covered = np.clip(np.minimum(high, cells + 1) - np.maximum(low, cells), 0, None)
    return covered @ ink @ covered.T / (high - low) ** 2


@pytest.mark.parametrize("size", [14, 28])
@pytest.mark.parametrize("seed", range(3))
def test_images_are_reduced_to_the_part_of_an_area_that_is_ink(size: int, seed: int):
    ink = np.random.default_rng(seed).random((105, 105)) < 0.3
    found = _ink(png(ink), size) / 255
    assert (*found.shape, 1) == _task(size=size).shape
    np.testing.assert_allclose(found, _area_averaged(ink, size), atol=0.51 / 255)


def test_ink_is_one_and_paper_zero():
    assert (_ink(png(np.ones((105, 105), bool)), 14) == 255).all()
    assert (_ink(png(np.zeros((105, 105), bool)), 14) == 0).all()


INK = np.random.default_rng(1).random((105, 105)) < 0.3


def _png(image: Image.Image, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG", **options)
    return data.getvalue()


def _see_through(mode: str, ink: int) -> Image.Image:
    """Ink on nothing: what is transparent is black, as most programs leave it."""
    image = Image.fromarray(np.where(INK, ink, 0).astype(np.uint8)).convert(mode)
    image.putalpha(Image.fromarray(np.where(INK, 255, 0).astype(np.uint8)))
    return image


GREY = Image.fromarray(np.where(INK, 0, 255).astype(np.uint8))
MODES = {
    "1": _png(GREY.convert("1")),
    "L": _png(GREY),
    "L, 2 bits": _png(GREY.convert("P", palette=Image.Palette.ADAPTIVE, colors=2), bits=2),
    "16 bits": _png(Image.fromarray(np.where(INK, 0, 65535).astype(np.uint16))),
    "RGB": _png(GREY.convert("RGB")),
    "palette": _png(GREY.convert("P")),
    "LA": _png(_see_through("L", 0)),
    "RGBA": _png(_see_through("RGB", 0)),
    "transparent colour": _png(GREY, transparency=255),
    "transparent palette entry": _png(GREY.convert("P"), transparency=255),
    "with resolution": _png(GREY, dpi=(300, 300)),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [14, 28])
def test_drawings_in_other_modes_are_the_same(mode: str, size: int):
    assert (_ink(MODES[mode], size) == _ink(png(INK), size)).all()


def test_grey_of_16_bits_is_grey():
    grey = np.arange(105 * 105, dtype=np.uint16).reshape(105, 105) % 256
    deep = _png(Image.fromarray(grey * np.uint16(257)))
    assert (_ink(deep, 28) == _ink(_png(Image.fromarray(grey.astype(np.uint8))), 28)).all()


def test_half_transparent_ink_is_half_ink():
    image = Image.new("RGBA", (28, 28), (0, 0, 0, 128))
    assert (_ink(_png(image), 14) == 128).all()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _huge(side: int) -> bytes:
    """A PNG that claims so many pixels, and has none."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(bytes(9)))


WHOLE = MODES["RGB"]
ANIMATED = _png(GREY, save_all=True, append_images=[GREY.transpose(Image.Transpose.ROTATE_90)])
JPEG = io.BytesIO()
GREY.save(JPEG, "JPEG")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "cannot be read (no PNG image)"),
        (b"<html>", "cannot be read (no PNG image)"),
        (JPEG.getvalue(), "cannot be read (no PNG image)"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read (no PNG image)"),
        (WHOLE[:20], "cannot be read ("),
        (WHOLE[: len(WHOLE) // 2], "cannot be read (image file is truncated"),
        (WHOLE[:60] + b"\0\0\0" + WHOLE[63:], "cannot be read ("),
        (ANIMATED, "is animated"),
        (_png(Image.new("L", (105, 90))), "105 × 90 pixels; a square of at most 512 is wanted"),
        (_png(Image.new("1", (513, 513))), "513 × 513 pixels; a square of at most 512"),
        (_huge(10_000), "cannot be read (Image size (100000000 pixels) exceeds limit"),
        (_huge(100_000), "cannot be read (Image size (10000000000 pixels) exceeds limit"),
        (_huge(512), "cannot be read (image file is truncated"),
        (_png(Image.new("I;16", (9, 9)), transparency=5), "16 bits with a transparent colour"),
    ],
)
def test_an_image_that_is_wrong(data: bytes, says: str):
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        _ink(data, 14)
    assert len(str(caught.value).splitlines()) == 1


@given(st.sampled_from(sorted(MODES)), st.integers(0, 2000), st.binary(min_size=1, max_size=8))
def test_a_spoilt_image_is_an_image_or_one_line(mode: str, at: int, spoilt: bytes):
    data = MODES[mode]
    at %= len(data)
    try:
        said = str(_ink(data[:at] + spoilt + data[at + len(spoilt) :], 14).shape)
    except ValueError as error:
        said = str(error)
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"Greek/character01/07.png": b"x"}, "/Greek/character01/07.png: cannot be read (no PNG"),
        ({"Greek/character09/07.png": png(INK)}, "Greek has 4 characters, and its card says 3"),
        ({"Latin": None}, "Latin has 0 characters, and its card says 2"),
        ({"": None}, "Greek has 0 characters, and its card says 3"),
    ],
)
def test_an_archive_that_is_not_as_its_card_says(
    data: Path, use_card: UseCard, changes: dict[str, bytes | None], says: str
):
    card, _ = make_omniglot(data)
    path = data / "images_background.zip"
    with zipfile.ZipFile(path) as archive:
        members: dict[str, bytes] = {name: archive.read(name) for name in archive.namelist()}
    for key, content in changes.items():
        members = {name: one for name, one in members.items() if key not in name}
        if content is not None:
            members[f"images_background/{key}"] = content
    pack(path, members | {"cover.png": png(INK)})  # which is in no alphabet
    file = card.files["images_background"]  # pyright: ignore[reportAttributeAccessIssue]
    files = {"images_background": checked(file, path)}
    use_card(card.model_copy(update={"files": card.files | files}))  # pyright: ignore
    with pytest.raises(TinyMetaFedError) as caught:
        _task(unseen=["images_evaluation"]).prepare(1)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("archive", SMALL)
def test_the_card_s_alphabets_are_those_of_the_archive(real_data: FindReal, archive: str):
    file = datasets.card(Card, "omniglot").files[archive]
    real_data(file)
    drawn: dict[str, dict[str, int]] = {}
    for name, _ in datasets.members(datasets.find(file), ".png"):
        folder, alphabet, character, _ = name.parts
        assert folder == archive
        characters = drawn.setdefault(alphabet, {})
        characters[character] = characters.get(character, 0) + 1
    assert {alphabet: len(found) for alphabet, found in drawn.items()} == file.alphabets
    assert {n for found in drawn.values() for n in found.values()} == {DRAWINGS}


def test_the_small_archives_without_what_both_have(real_data: FindReal):
    card = datasets.card(Card, "omniglot")
    real_data(card.files[SMALL[1]])
    others = [f"{SMALL[1]}/{name}" for name in ("Japanese_(katakana)", "Sanskrit", "Tagalog")]
    task = _task(size=14, ways=5, seen=[SMALL[0]], unseen=others)
    seen, unseen = (task.pool(1, part=part) for part in ("seen", "unseen"))
    assert (len(seen.classes), len(unseen.classes)) == (4 * 136, 4 * 106)
    assert not set(map(bytes, seen.examples)) & set(map(bytes, unseen.examples))
    support, _ = task.device(1, 0, 25, 5)
    assert support.inputs.min() == 0
    assert 0.5 < support.inputs.max() <= 1
    assert 0.02 < support.inputs.mean() < 0.2


def test_an_alphabet_of_two_archives_is_the_same(real_data: FindReal):
    card = datasets.card(Card, "omniglot")
    real_data(card.files[SMALL[0]])
    greek = [_task(size=28, seen=[f"{name}/Greek"]).pool(1, part="seen") for name in SMALL]
    assert (greek[0].examples == greek[1].examples).all()


def test_the_published_numbers_of_characters():
    files = datasets.card(Card, "omniglot").files
    assert sum(files["images_background"].alphabets.values()) == 964
    assert sum(files["images_evaluation"].alphabets.values()) == 659
    for small in SMALL:
        assert files[small].alphabets.items() <= files["images_background"].alphabets.items()


def test_the_tiny_card_is_consistent():
    assert sum(ALPHABETS["images_background"].values()) * 4 == 20
