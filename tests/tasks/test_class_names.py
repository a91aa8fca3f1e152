"""What a task calls a device's classes is what its samples are of."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import UseCard
from recorded import nearest, recorded, write
from tiny import make_keywords, make_omniglot, make_table
from tinymetafed.tasks import Keywords, Omniglot, Table, Tabular, keywords
from tinymetafed.tasks.base import PARTS, Part, Task
from tinymetafed.tasks.samples import Samples
from tinymetafed.tasks.spectra import Features, spectrum


def _named(
    task: Task, number: int, support: int, query: int, part: Part
) -> list[tuple[str, bytes]]:
    """The samples of a device, each with the name of its class."""
    sets = task.device(3, number, support, query, part=part)
    names = list(task.class_names(3, number, support, query, part=part))
    assert len(set(names)) == len(names) == task.outputs
    return [
        (names[label], values.tobytes())
        for one in sets
        for values, label in zip(one.inputs, one.targets.tolist(), strict=True)
    ]


def _values(data: bytes) -> NDArray[np.float32]:
    return np.frombuffer(data, np.float32)


def test_of_omniglot_they_are_alphabet_character_and_turn(data: Path, use_card: UseCard):
    card, origins = make_omniglot(data)
    use_card(card)
    task = Omniglot.model_validate(
        {"name": "omniglot", "ways": 3, "unseen": ["images_evaluation"], "validation": []}
    )
    for part in ("seen", "unseen"):
        for number in range(20):
            for name, image in _named(task, number, 3, 6, part):
                _, alphabet, character, turns = origins[image]
                turned = {"0": "", "1": " 90°", "2": " 180°", "3": " 270°"}[turns]
                assert name == f"{alphabet}/{character}{turned}"


def test_of_keywords_they_are_the_words(data: Path, use_card: UseCard):
    card, recordings = make_keywords(data, "fsdd")
    use_card(card)
    keywords._split.cache_clear()
    task = Keywords.model_validate({"name": "keywords", "data": "fsdd", "ways": 2, "unseen": 0.5})
    features = Features(window=40, step=40, coefficients=10)
    words = [word for (word, _), several in recordings.items() for _ in several]
    first = [spectrum(one, features)[:, 0] for several in recordings.values() for one in several]
    for part in PARTS:
        for number in range(10):
            for name, values in _named(task, number, 2, 4, part):
                # Standardised by a mean and a deviation, which no correlation depends on.
                mine = _values(values).reshape(-1, 10)[:, 0]
                alike = np.array([np.corrcoef(mine, one)[0, 1] for one in first])
                assert alike.max() > 0.9999
                assert words[int(alike.argmax())] == name


def test_of_a_table_of_the_bench_they_are_the_card_s(data: Path, use_card: UseCard):
    card, _ = make_table(data)
    use_card(card)
    task = Tabular.model_validate({"name": "tabular", "data": "iris", "rows": 5})
    assert task.class_names(1, 0, 2, 3) == ("setosa", "versicolor", "virginica")


@pytest.mark.parametrize(
    "whose",
    [
        {"device_column": "user"}, {"device_column": "user", "ways": 2},
        {"partition": {"name": "dirichlet", "devices": 9, "alpha": 0.5}},
    ],
)  # fmt: skip
def test_of_a_table_of_a_user_s_they_are_its_classes(tmp_path: Path, whose: dict[str, object]):
    found = recorded(users=7)
    path = write(tmp_path / "t.csv", found.rows())
    task = Table.model_validate({
        "name": "table", "path": path.name, "target": "activity", "normalise": False,
        "features": ["ax", "ay"], "unseen": 0.5, "validation": 0.0, **whose,
    }).resolved(tmp_path)  # fmt: skip
    for part in ("seen", "unseen"):
        for number in range(4):
            for name, values in _named(task, number, 4, 6, part):
                one = Samples(_values(values)[None], np.zeros(1, np.uint32))
                assert found.activities[nearest(one, found.values)[0]] == name


def test_classes_that_are_drawn_from_all_are_named(tmp_path: Path):
    """Each row's second value says which class it is of."""
    rng = np.random.default_rng(1)
    kinds = [f"kind {i}" for i in range(8)]
    rows = [
        [repr(rng.random()), str(i), kind, "all"] for i, kind in enumerate(kinds) for _ in range(9)
    ]
    path = write(tmp_path / "t.csv", rows)
    task = Table.model_validate({
        "name": "table", "path": path.name, "target": "activity", "normalise": False, "ways": 3,
        "features": ["ax", "ay"], "unseen": 0.5, "validation": 0.0,
    }).resolved(tmp_path)  # fmt: skip
    for part in ("seen", "unseen"):
        for number in range(10):
            for name, values in _named(task, number, 3, 6, part):
                assert name == f"kind {int(_values(values)[1])}"
