"""Devices in three parts: nothing is in two of them, whatever the task and the seed, and what is
learnt from or standardised by comes from those that are seen alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recording
from conftest import FindReal, MakeExperiment, UseCard
from recorded import recorded, write
from running import execute
from tiny import make_keywords, make_omniglot, make_table
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.data import holdings
from tinymetafed.experiments.experiment import read
from tinymetafed.places import PROJECT
from tinymetafed.tasks import Keywords, Omniglot, Sine, Table, Tabular, datasets, keywords, omniglot
from tinymetafed.tasks.base import PARTS, Part, Task, held_back

Make = Callable[..., Task]
SEEDS = range(4)
SHARE = st.floats(0, 0.999)


@given(SHARE, st.integers(0, 1000))
def test_a_share_leaves_some_on_both_sides(share: float, never_seen: int):
    found = held_back(share, never_seen)
    assert (1 <= found < never_seen) == (share > 0 and never_seen > 1)
    assert found or share == 0 or never_seen < 2
    assert abs(found - share * never_seen) <= 1


# ---- by task ------------------------------------------------------------------------------------


def _sine(folder: Path, use_card: UseCard) -> Task:
    return Sine(name="sine")


def _tabular(folder: Path, use_card: UseCard) -> Task:
    use_card(make_table(folder)[0])
    return Tabular(name="tabular", data="iris", rows=5)


def _omniglot(folder: Path, use_card: UseCard) -> Task:
    use_card(make_omniglot(folder)[0])
    return Omniglot(
        name="omniglot", ways=3, seen=("images_background",),
        validation=("images_evaluation/Tengwar",), unseen=("images_evaluation/Tibetan",),
    )  # fmt: skip


def _keywords(folder: Path, use_card: UseCard) -> Task:
    use_card(make_keywords(folder, "fsdd")[0])
    keywords._split.cache_clear()
    return Keywords(name="keywords", data="fsdd", ways=2, unseen=0.5)


def _own(folder: Path, **changes: object) -> Task:
    path = write(folder / "t.csv", recorded(users=7).rows())
    table: dict[str, object] = {
        "name": "table",
        "path": path.name,
        "target": "activity",
        "features": ["ax", "ay"],
    }
    table |= changes
    return Table.model_validate(table).resolved(folder)


def _by_user(folder: Path, use_card: UseCard) -> Task:
    return _own(folder, device_column="user", unseen=0.6)


def _episodes(folder: Path, use_card: UseCard) -> Task:
    return _own(folder, device_column="user", unseen=0.6, ways=2)


def _made(folder: Path, use_card: UseCard) -> Task:
    return _own(folder, unseen=0.5, partition={"name": "dirichlet", "devices": 9, "alpha": 0.5})


def _named(folder: Path, use_card: UseCard) -> Task:
    return _own(
        folder, device_column="user", unseen_devices=["user 1", "user 5"],
        validation_devices=["user 0"],
    )  # fmt: skip


MAKE = [_sine, _tabular, _omniglot, _keywords, _by_user, _episodes, _made, _named]


@pytest.fixture(params=MAKE, ids=lambda make: make.__name__[1:])
def task(request: pytest.FixtureRequest, data: Path, use_card: UseCard) -> Task:
    return request.param(data, use_card)


def _inputs(task: Task, seed: int, part: Part, first: int) -> set[bytes]:
    """All values that a part's devices have, of 30 where there are more."""
    count = int(min(task.limits(part=part).devices, 30))
    ways = getattr(task, "ways", None) or 1
    found: set[bytes] = set()
    for number in range(first, first + count):
        held = task.held(seed, number, part=part)
        sets = [held.samples] if held else task.device(seed, number, 2 * ways, ways, part=part)
        found |= {row.tobytes() for one in sets for row in one.inputs}
    assert found
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_no_sample_is_in_two_parts(task: Task, seed: int):
    """Numbers go on from part to part, as an experiment gives them."""
    every = [
        _inputs(task, seed, part, first) for part, first in zip(PARTS, (0, 30, 60), strict=True)
    ]
    assert len(set.union(*every)) == sum(map(len, every))


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_is_in_two_parts(task: Task, seed: int):
    """By the names that the run's row has."""
    made_of = task.prepare(seed)
    named = [made_of[key].removeprefix("rows ").split(", ") for key in made_of if "task." in key]
    every = [name for names in named for name in names]
    assert len(named) >= (0 if isinstance(task, Sine) else 2)
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("make", [_tabular, _keywords, _by_user, _episodes, _made])
def test_the_cut_leaves_what_is_seen_as_it_is(data: Path, use_card: UseCard, make: Any, seed: int):
    """And the others have together what training never sees."""
    task = make(data, use_card)
    whole = task.model_copy(update={"validation": 0.0})
    for number in range(3):
        ways = getattr(task, "ways", None) or 1
        pairs = [one.device(seed, number, ways, 2 * ways) for one in (task, whole)]
        assert [one.packed for one in pairs[0]] == [one.packed for one in pairs[1]]
    cut, uncut = (
        {name for key in ("task.validation", "task.unseen") if key in made_of
         for name in made_of[key].removeprefix("rows ").split(", ")}
        for made_of in (task.prepare(seed), whole.prepare(seed))
    )  # fmt: skip
    assert cut == uncut
    assert "task.validation" not in whole.prepare(seed)


@pytest.mark.parametrize("make", [_tabular, _keywords, _by_user, _episodes, _made])
def test_a_split_of_its_own_is_the_same_in_runs_of_any_seed(
    data: Path, use_card: UseCard, make: Any
):
    """It is that of a run whose seed it is."""
    task = make(data, use_card)
    split = task.model_copy(update={"split": 3})
    assert len({str(task.prepare(seed)) for seed in SEEDS}) > 1
    for seed in SEEDS:
        assert split.prepare(seed) == task.prepare(3)
        for part in PARTS:
            helds = [one.held(at, 0, part=part) for one, at in ((split, seed), (task, 3))]
            assert len({held and held.samples.packed for held in helds}) == 1


@pytest.mark.parametrize("make", [_keywords, _by_user, _episodes])
def test_what_a_device_draws_is_of_the_run_s_seed_under_a_split_too(
    data: Path, use_card: UseCard, make: Any
):
    task = make(data, use_card).model_copy(update={"split": 3})
    drawn = {str([one.packed for one in task.device(seed, 1, 2, 4)]) for seed in SEEDS}
    assert len(drawn) == len(SEEDS)


@settings(deadline=None, max_examples=25)
@given(st.floats(0.05, 0.95), SHARE, st.integers(0, 2**32 - 1), st.integers(1, 7))
def test_devices_of_a_table_are_in_one_part(
    tmp_path_factory: pytest.TempPathFactory, unseen: float, validation: float, seed: int,
    least: int,
):  # fmt: skip
    folder = tmp_path_factory.mktemp("table")
    task = _own(
        folder, device_column="user", unseen=unseen, validation=validation, min_samples=least
    )
    assert isinstance(task, Table)
    dealt = task.dealt(seed)
    assert {part: len(some) for part, some in dealt.parts.items()} == task.counts
    names = [name for some in dealt.parts.values() for name, _ in some]
    assert len(set(names)) == len(names) == 7
    assert task.counts["seen"] >= 1
    assert task.counts["unseen"] >= 1
    assert [task.limits(part=part).devices for part in PARTS] == [task.counts[p] for p in PARTS]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("changed", ["validation", "unseen"])
def test_values_of_other_parts_change_nothing_that_is_seen(
    tmp_path: Path, seed: int, changed: Part
):
    """Nor what a value is standardised by, or its range."""
    found = recorded(users=7)
    parts: list[list[bytes]] = []
    ranges: list[Any] = []
    spoiled = np.zeros(len(found.users), bool)
    for time in range(2):
        folder = tmp_path / str(time)
        folder.mkdir()
        rows = found.rows()
        for row in np.flatnonzero(spoiled):
            rows[row][:2] = ["1000", "-1000"]
        table: dict[str, object] = {"name": "table", "path": "t.csv", "target": "activity"}
        table |= {"device_column": "user", "unseen": 0.6}
        write(folder / "t.csv", rows)
        task = Table.model_validate(table).resolved(folder)
        spoiled = np.isin(found.users, task.prepare(seed)[f"task.{changed}"].split(", "))
        others: list[Part] = [part for part in PARTS if part != changed]
        parts.append([
            one.packed
            for part in others
            for number in range(int(task.limits(part=part).devices))
            for one in task.device(seed, number, 10, 20, part=part)
        ])  # fmt: skip
        ranges.append(task.ranges(seed))
    assert parts[0] == parts[1]
    assert ranges[0] == ranges[1]


# ---- what cannot be -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"validation_devices": ["user 1"]},
            "validation_devices: name the unseen ones too, unseen_devices"),
        ({"validation_devices": ["user 1"], "unseen_devices": ["user 2", "user 1"]},
            "validation_devices: user 1 would be unseen too; a device is in one part"),
        ({"validation_devices": ["Bob"], "unseen_devices": ["user 1"]},
            "task.validation_devices: 'Bob' is none of them; there are: user 0, "),
        ({"validation_devices": ["user 0", "user 1"], "unseen_devices":
            [f"user {i}" for i in range(2, 7)]}, "these are all devices; none is left to see"),
        ({"validation": 1}, "validation"),
        ({"validation_devices": ["1"], "device_column": None, "partition":
            {"name": "iid", "devices": 3}}, "validation_devices: devices are made by"),
    ],
)  # fmt: skip
def test_own_devices_that_cannot_be(tmp_path: Path, changes: dict[str, object], says: str):
    with pytest.raises((ValueError, TinyMetaFedError)) as caught:
        _own(tmp_path, **({"device_column": "user"} | changes)).prepare(1)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"validation": ["images_evaluation"]}, "validation: Tibetan would be unseen too"),
        ({"validation": ["images_background/Latin"]}, "validation: Latin would be seen too"),
        ({"validation": ["images_evaluation/Tengwar"], "ways": 9},
            "ways: 9 of the 8 classes of task.validation"),
        ({"unseen": ["images_background/Latin"]}, "unseen: Latin would be seen too"),
    ],
)  # fmt: skip
def test_alphabets_of_two_parts(
    data: Path, use_card: UseCard, changes: dict[str, object], says: str
):
    use_card(make_omniglot(data)[0])
    own = {"name": "omniglot", "ways": 3, "unseen": ["images_evaluation/Tibetan"], **changes}
    with pytest.raises(ValueError, match="Value error") as caught:
        Omniglot.model_validate(own)
    assert says in str(caught.value)


def test_alphabets_where_none_is_named():
    card = datasets.card(omniglot.Card, "omniglot")
    task = Omniglot(name="omniglot")
    assert [*task.validation, *task.unseen] == [
        f"images_evaluation/{a}" for a in card.files["images_evaluation"].alphabets
    ]
    assert len(task.validation) == len(task.unseen) == 10
    named = Omniglot(name="omniglot", unseen=("images_evaluation/Tibetan",))
    assert named.validation == ()
    assert named.limits(part="validation").devices == 0


# ---- in a run -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 3, 4])
def test_unseen_devices_are_judged_once_at_the_end(
    tmp_path: Path, experiment: MakeExperiment, rounds: int
):
    settings = experiment(
        f"rounds={rounds}", "evaluation={devices=2, unseen=3, every=2}", "devices.seen=5"
    )
    store, run = execute(settings, tmp_path)
    rows = [(one.round, one.device, one.part) for one in store.evaluations(run.id)]
    validated = sorted({0, *range(0, rounds + 1, 2), rounds})
    assert rows == sorted(
        [(done, device, "validation") for done in validated for device in (5, 6)]
        + [(rounds, device, "unseen") for device in (7, 8, 9)]
    )


def test_who_is_judged_changes_no_weight(tmp_path: Path, experiment: MakeExperiment):
    judged = ("{devices=2, unseen=3}", "{devices=0, unseen=1}", "{devices=4, unseen=0, every=1}")
    runs = [
        execute(experiment(f"evaluation={one}"), tmp_path / str(i))[1]
        for i, one in enumerate(judged)
    ]
    assert len({run.theta for run in runs}) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("evaluation={devices=0, unseen=0}", "evaluation.devices: no device is judged"),
        ("evaluation={devices=-1}", "evaluation.devices: -1 is not allowed"),
    ],
)
def test_nobody_is_judged(experiment: MakeExperiment, change: str, says: str):
    with pytest.raises(TinyMetaFedError) as caught:
        experiment(change)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["iris", "digits", "omniglot", "mobilenet"])
def test_the_project_s_experiments_have_three_parts(real_data: FindReal, name: str):
    settings = read(PROJECT / f"experiments/{name}.toml")
    for file in recording.files(settings):
        real_data(file)
    found = holdings(settings, 2)
    assert {one.part for one in found} == set(PARTS)
    rows = {
        part: {
            row.tobytes() for one in found if one.part == part for row in one.held.samples.inputs
        }
        for part in PARTS
    }
    if name != "iris":  # which has rows that are alike
        assert len(set.union(*rows.values())) == sum(map(len, rows.values()))
