"""Omniglot as tasks: whose drawings a device has, and how they are reduced."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from conftest import FindReal, UseCard
from tiny import ALPHABETS, SIDE, Origin, make_omniglot, png
from tinymetafed.tasks import Omniglot, datasets
from tinymetafed.tasks.omniglot import DRAWINGS, Card, _ink

SMALL = ("images_background_small1", "images_background_small2")
Drawings = dict[bytes, Origin]


def _task(**settings: object) -> Omniglot:
    return Omniglot.model_validate({"name": "omniglot", "size": SIDE, "ways": 3, **settings})


@pytest.fixture
def drawings(data: Path, use_card: UseCard) -> Drawings:
    card, origins = make_omniglot(data)
    use_card(card)
    return origins


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2**63 - 1), st.integers(0, 10**6), st.integers(0, 5), st.integers(1, 5),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_a_device_has_as_many_drawings_of_each_of_its_characters(
    drawings: Drawings, seed: int, device: int, shots: int, queries: int, unseen: bool, turn: bool
):
    task = _task(rotations=turn)
    parts = task.device(seed, device, 3 * shots, 3 * queries, unseen=unseen)
    found: dict[int, set[Origin]] = {0: set(), 1: set(), 2: set()}
    images: list[bytes] = []
    for part, each in zip(parts, (shots, queries), strict=True):
        assert part.inputs.dtype == np.float32
        assert part.inputs.shape == (3 * each, task.inputs)
        assert part.targets.dtype == np.uint32
        assert np.bincount(part.targets.astype(int), minlength=3).tolist() == [each] * 3
        for image, label in zip(part.inputs, part.targets, strict=True):
            images.append(image.tobytes())
            found[int(label)].add(drawings[image.tobytes()])
    assert len(images) == len(set(images))
    origins = [origin for (origin,) in found.values()]  # one character for each label
    assert len(set(origins)) == 3
    archive = "images_evaluation" if unseen else "images_background"
    assert all(origin[0] == archive for origin in origins)
    assert turn or all(origin[-1] == "0" for origin in origins)


def test_every_character_and_rotation_is_drawn(drawings: Drawings):
    task = _task()
    for unseen, archive in ((False, "images_background"), (True, "images_evaluation")):
        found: set[Origin] = set()
        for device in range(200):
            _, query = task.device(1, device, 0, 3, unseen=unseen)
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
    for unseen, alphabet in ((False, "Latin"), (True, "Tibetan")):
        found = [
            drawings[image.tobytes()]
            for device in range(20)
            for image in task.device(1, device, 0, 3, unseen=unseen)[1].inputs
        ]
        assert {origin[1] for origin in found} == {alphabet}


def test_an_alphabet_of_two_archives_is_drawn_from_once(drawings: Drawings):
    both = _task(seen=["images_background_small1", "images_background"])
    one = _task(seen=["images_background"])
    assert len(both.pool(1, unseen=False).classes) == len(one.pool(1, unseen=False).classes) == 20


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
    seen, unseen = (task.pool(1, unseen=unseen) for unseen in (False, True))
    assert (len(seen.classes), len(unseen.classes)) == (4 * 136, 4 * 106)
    assert not set(map(bytes, seen.examples)) & set(map(bytes, unseen.examples))
    support, _ = task.device(1, 0, 25, 5)
    assert support.inputs.min() == 0
    assert 0.5 < support.inputs.max() <= 1
    assert 0.02 < support.inputs.mean() < 0.2


def test_an_alphabet_of_two_archives_is_the_same(real_data: FindReal):
    card = datasets.card(Card, "omniglot")
    real_data(card.files[SMALL[0]])
    greek = [_task(size=28, seen=[f"{name}/Greek"]).pool(1, unseen=False) for name in SMALL]
    assert (greek[0].examples == greek[1].examples).all()


def test_the_published_numbers_of_characters():
    files = datasets.card(Card, "omniglot").files
    assert sum(files["images_background"].alphabets.values()) == 964
    assert sum(files["images_evaluation"].alphabets.values()) == 659
    for small in SMALL:
        assert files[small].alphabets.items() <= files["images_background"].alphabets.items()


def test_the_tiny_card_is_consistent():
    assert sum(ALPHABETS["images_background"].values()) * 4 == 20
