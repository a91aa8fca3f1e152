"""Tables of a user's own: whose rows are whose, and what is wrong with one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorded import ACTIVITIES, Recorded, nearest, recorded, write
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.tasks import Signals, Table
from tinymetafed.tasks.base import Part
from tinymetafed.tasks.samples import Samples

Make = Callable[..., Table]
PARTITIONS: list[dict[str, Any]] = [
    {"name": "iid", "devices": 6},
    {"name": "dirichlet", "devices": 6, "alpha": 0.3},
    {"name": "shards", "devices": 6, "shards": 3},
    {"name": "size", "devices": 6, "alpha": 0.5, "smallest": 5},
]
BY_USER = {"device_column": "user"}


def _task(path: Path, **changes: object) -> Table:
    table = {"name": "table", "path": path.name, "target": "activity", "validation": 0}
    table |= changes
    return Table.model_validate(table).resolved(path.parent)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """The task on what was recorded, by users where nothing else is said."""

    def make(found: Recorded | None = None, **changes: object) -> Table:
        path = write(tmp_path / "t.csv", (found or recorded()).rows())
        return _task(path, **(BY_USER | changes))

    return make


def _problem(path: Path, **changes: object) -> str:
    with pytest.raises(TinyMetaFedError) as caught:
        _task(path, **(BY_USER | changes)).prepare(1)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value).removeprefix(f"{path}: ")


def _everything(task: Table, seed: int, *, part: Part) -> list[tuple[str, Samples]]:
    first = task.held(seed, 0, part=part)
    assert first is not None
    every = [task.held(seed, i, part=part) for i in range(first.count)]
    return [(one.name, one.samples) for one in every if one is not None]


@pytest.mark.parametrize("seed", range(3))
def test_devices_are_users_and_unseen_ones_are_others(make: Make, seed: int):
    """Standardised by the rows of those that are seen."""
    found = recorded()
    task = make(found)
    unseen = task.prepare(seed)["task.unseen"].split(", ")
    assert len(unseen) == 2  # 30% of five, rounded
    seen = ~np.isin(found.users, unseen)
    values = found.values
    scaled = (values - values[seen].mean(axis=0)) / values[seen].std(axis=0)
    for part in ("seen", "unseen"):
        for name, samples in _everything(task, seed, part=part):
            rows = np.flatnonzero(found.users == name)
            assert (name in unseen) == (part == "unseen")
            assert sorted(nearest(samples, scaled)) == rows.tolist()
            for row, label in zip(nearest(samples, scaled), samples.targets, strict=True):
                assert ACTIVITIES[label] == found.activities[row]
    assert (task.shape, task.outputs, task.target_is_class) == ((1, 1, 2), 3, True)


def test_other_seeds_have_other_unseen_devices(make: Make):
    task = make()
    assert len({task.prepare(seed)["task.unseen"] for seed in range(20)}) > 5


def test_unseen_devices_by_name(make: Make):
    task = make(unseen_devices=["user 3"])
    assert {task.prepare(seed)["task.unseen"] for seed in range(5)} == {"user 3"}
    assert (task.limits(part="seen").devices, task.limits(part="unseen").devices) == (4, 1)


@settings(deadline=None)
@given(support=st.integers(0, 36), query=st.integers(0, 36), number=st.integers(0, 9))
def test_support_and_query_share_no_row(
    support: int, query: int, number: int, tmp_path_factory: pytest.TempPathFactory
):
    found = recorded()
    path = write(tmp_path_factory.mktemp("own") / "t.csv", found.rows())
    task = _task(path, **BY_USER, normalise=False)
    if support + query > 36:
        with pytest.raises(TinyMetaFedError, match="samples are asked for, and user"):
            task.device(1, number, support, query)
        return
    one, other = task.device(1, number, support, query)
    assert (len(one), len(other)) == (support, query)
    rows = nearest(one, found.values) + nearest(other, found.values)
    assert len(set(rows)) == support + query
    assert len(set(found.users[rows])) <= 1
    again = task.device(1, number, support, query)
    assert (one.packed, other.packed) == (again[0].packed, again[1].packed)


@pytest.mark.parametrize("partition", PARTITIONS, ids=lambda one: one["name"])
@pytest.mark.parametrize("seed", range(3))
def test_devices_that_are_made_share_no_row(make: Make, partition: dict[str, Any], seed: int):
    found = recorded()
    task = make(found, device_column=None, partition=partition, normalise=False, unseen=0.4,
                features=["ax", "ay"])  # fmt: skip
    held = _everything(task, seed, part="seen"), _everything(task, seed, part="unseen")
    assert tuple(map(len, held)) == (4, 2)
    rows = [nearest(samples, found.values) for kind in held for _, samples in kind]
    everything = [row for part in rows for row in part]
    assert len(set(everything)) == len(everything) <= len(found.values)
    sizes = sorted(map(len, rows))
    if partition["name"] == "size":
        assert sizes[0] >= 5
        assert len(everything) == len(found.values)
        assert len(set(sizes)) > 1
    else:
        assert sizes == [30] * 6
    assert task.limits(part="seen").samples == (5 if partition["name"] == "size" else 30)


def test_shards_have_few_classes(make: Make):
    partition = {"name": "shards", "devices": 30, "shards": 2}
    task = make(device_column=None, partition=partition, features=["ax", "ay"])
    classes = [len(set(one.targets.tolist())) for _, one in _everything(task, 1, part="seen")]
    assert max(classes) == 2
    assert min(classes) == 1


def test_values_to_predict(tmp_path: Path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 4)).round(3)
    rows = [[*row, f"d{i % 3}"] for i, row in enumerate(values.tolist())]
    path = write(tmp_path / "t.csv", rows, ("a", "b", "y", "z", "user"))
    task = _task(path, **BY_USER, target=["z", "y"], regression=True, normalise=False)
    assert (task.outputs, task.target_is_class, task.shape) == (2, False, (1, 1, 2))
    support, _ = task.device(1, 0, 20, 0)
    found = nearest(support, values[:, :2])
    np.testing.assert_array_equal(support.targets, values[found][:, [3, 2]].astype(np.float32))


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["2", "10", "2", "10"], ("2", "10"), [0, 1, 0, 1]),
        (["b", "a", "b", "a"], ("a", "b"), [1, 0, 1, 0]),
        (["1.0", "2", "1", "2.0"], ("1", "2"), [0, 1, 0, 1]),
        (["-1", "1", "-1", "+1"], ("-1", "1"), [0, 1, 0, 1]),
    ],
)
def test_classes_are_numbered(
    tmp_path: Path, labels: list[str], names: tuple[str, ...], numbers: list[int]
):
    rows = [[i, label, user] for user in "ab" for i, label in enumerate(labels)]
    path = write(tmp_path / "t.csv", rows, ("x", "activity", "user"))
    task = _task(path, **BY_USER, normalise=False)
    assert task.known.classes == names
    held = task.held(1, 0, part="seen")
    assert held is not None
    assert dict(zip(held.samples.inputs[:, 0], held.samples.targets, strict=True)) == dict(
        enumerate(numbers)
    )


def test_classes_in_an_order_of_one_s_own(make: Make):
    task = make(classes=["walk", "sit", "run"])
    held = task.held(1, 0, part="seen")
    plain = make().held(1, 0, part="seen")
    assert held is not None
    assert plain is not None
    assert (held.samples.targets + plain.samples.targets == 2).all()


def _spoilt(path: Path, row: int, column: int, cell: str) -> Path:
    rows = recorded().rows()
    rows[row][column] = cell
    return write(path / "t.csv", rows)


MISSING = 'enter it, or set task.missing to "drop" or "mean"'


@pytest.mark.parametrize(
    ("column", "cell", "problem"),
    [
        (0, "", f"line 6, column ax: the value is missing; {MISSING}"),
        (0, "NaN", f"line 6, column ax: the value is missing; {MISSING}"),
        (1, "-inf", f"line 6, column ay: the value is infinite; {MISSING}"),
        (1, "red", "line 6, column ay: 'red' is no number"),
        (
            2, "", "line 6, column activity: the class is missing (''); enter it, or set "
            'task.missing = "drop", or name it in task.classes',
        ),
        (
            2, "7", "line 6, column activity: '7' is a number, and classes before it are names; "
            "name all in task.classes",
        ),
        (
            3, "?", "line 6, column user: the device is missing ('?'); enter it, or set "
            'task.missing = "drop"',
        ),
    ],
)  # fmt: skip
def test_a_cell_that_is_wrong_is_named(tmp_path: Path, column: int, cell: str, problem: str):
    assert _problem(_spoilt(tmp_path, 4, column, cell)) == problem


def test_classes_that_differ_by_case_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = _spoilt(tmp_path, 40, 2, "Walk")
    assert _problem(path) == (
        f"line {_first(path, 'walk')}, column activity: 'Walk' and 'walk' differ by case alone; "
        "write them alike, or name both in task.classes"
    )
    _task(path, **BY_USER, classes=["Walk", *ACTIVITIES])
    _task(_spoilt(tmp_path, 40, 3, "User 1"), **BY_USER)
    assert caplog.messages == [
        f"{path}: line {_first(path, 'user 1')}, column user: 'User 1' and 'user 1' differ by case "
        "alone, and are two devices"
    ]


def _first(path: Path, text: str) -> int:
    """The line that has it first."""
    return next(i for i, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def test_a_class_that_is_not_among_those_named(tmp_path: Path):
    path = _spoilt(tmp_path, 4, 2, "Walk")
    assert _problem(path, classes=ACTIVITIES) == (
        "line 6, column activity: 'Walk' is no class; task.classes has run, sit, walk"
    )


def test_a_fraction_is_no_class(tmp_path: Path):
    rows = [[i, i / 2, user] for user in "ab" for i in range(4)]
    path = write(tmp_path / "t.csv", rows, ("x", "activity", "user"))
    assert _problem(path) == (
        "line 3, column activity: the class is '0.5'; a class is a whole number or a name; for "
        "values set task.regression = true"
    )


def test_only_one_class(tmp_path: Path):
    path = write(tmp_path / "t.csv", [[i, "a", u] for u in "ab" for i in range(4)],
                 ("x", "activity", "user"))  # fmt: skip
    assert _problem(path) == (
        "column activity: every class is 'a', so there is nothing to tell apart"
    )


def test_a_word_for_nothing_may_be_a_class(tmp_path: Path):
    rows = [[i, ("none", "wave")[i % 2], user] for user in "ab" for i in range(4)]
    path = write(tmp_path / "t.csv", rows, ("x", "activity", "user"))
    assert _task(path, **BY_USER, classes=["none", "wave"]).known.classes == ("none", "wave")
    assert "the class is missing ('none')" in _problem(path)


def test_rows_with_what_is_missing_are_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """They are as if they had never been there."""
    rows = recorded().rows()
    complete = write(tmp_path / "complete.csv", rows[:3] + rows[6:])
    rows[3][0], rows[4][2], rows[5][3] = "", "NA", "?"
    spoilt = write(tmp_path / "spoilt.csv", rows)
    found = [
        one.packed
        for path in (complete, spoilt)
        for one in _task(path, **BY_USER, missing="drop").device(1, 0, 10, 10)
    ]
    assert found[:2] == found[2:]
    assert caplog.messages == [
        f"{spoilt}: 3 of 180 rows have a missing value and are left out (task.missing)"
    ]


def test_the_mean_of_what_is_seen_takes_a_missing_value_s_place(tmp_path: Path):
    found = recorded()
    rows = found.rows()
    for row in range(0, len(rows), 7):
        rows[row][1] = "nan"
    task = _task(write(tmp_path / "t.csv", rows), **BY_USER, missing="mean", normalise=False)
    seen = ~np.isin(found.users, task.prepare(1)["task.unseen"].split(", "))
    known = np.arange(len(rows)) % 7 > 0
    mean = np.float32(found.values[seen & known, 1].mean())
    for part in ("seen", "unseen"):
        for name, samples in _everything(task, 1, part=part):
            filled = samples.inputs[:, 1] == mean
            assert filled.sum() == (~known & (found.users == name)).sum()


def test_a_class_that_only_unseen_devices_have(tmp_path: Path):
    """Nobody could have learnt it."""
    rows = recorded().rows()
    rows[36][2] = "jump"  # of user 1
    path = write(tmp_path / "t.csv", rows)
    assert _problem(path, unseen_devices=["user 1"]) == (
        "line 38: the class 'jump' is that of devices alone that are not seen, as of 'user 1', so "
        "none can learn it; change task.unseen_devices, task.unseen or the seed"
    )
    _task(path, **BY_USER, unseen_devices=["user 0"]).prepare(1)


def test_a_device_with_few_samples(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    found = recorded()
    path = write(tmp_path / "t.csv", found.rows()[30:])  # six of user 0
    task = _task(path, **BY_USER)
    limits = task.limits(part="seen")
    assert limits.samples == 6
    assert limits.who == ("user 0 has no more; task.min_samples leaves out those that have too few")
    task = _task(path, **BY_USER, min_samples=10)
    assert (task.limits(part="seen").samples, task.known.groups) == (36, 4)
    assert caplog.messages == [
        f"{path}: 1 of 5 devices have fewer than 10 samples and are left out (task.min_samples)"
    ]
    assert _problem(path, min_samples=100) == (
        "0 devices with at least 100 samples, and two are the fewest: one that is seen and one "
        "that is not"
    )


def test_a_constant_column_is_0_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    rows = recorded().rows()
    for row in rows:
        row[0] = "0.1"
    path = write(tmp_path / "t.csv", rows)
    held = _task(path, **BY_USER).held(1, 0, part="unseen")
    assert held is not None
    assert (held.samples.inputs[:, 0] == 0).all()
    assert caplog.messages == [f"{path}: constant in what seen devices have, so 0 in every "
                               "sample: ax"]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"device_column": None}, "device_column: who recorded a sample is not known"),
        ({"partition": PARTITIONS[0]}, "partition: task.device_column says whose samples are"),
        ({"features": ["ax", "user"]}, "features: 'user' is used twice"),
        ({"target": ["ax", "ay"]}, "target: one column has the class"),
        ({"regression": True, "ways": 2}, "ways: with task.regression there are no classes"),
        ({"classes": ["a", "a"]}, "classes: one is there twice"),
        (
            {"device_column": None, "partition": PARTITIONS[0], "min_samples": 5},
            "min_samples: devices are made by task.partition; leave it out",
        ),
    ],
)
def test_settings_that_do_not_go_together(tmp_path: Path, changes: dict[str, Any], problem: str):
    with pytest.raises(ValueError, match=problem):
        _task(tmp_path / "t.csv", **(BY_USER | changes))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"unseen_devices": ["Bob"]}, "task.unseen_devices: 'Bob' is none of them; there are: "
         "user 0, user 1, user 2, user 3, user 4"),
        ({"unseen_devices": [f"user {i}" for i in range(5)]}, "task.unseen_devices: these are all "
         "devices; none is left to see"),
        ({"device_column": None, "partition": {"name": "iid", "devices": 181}},
         "task.partition: 180 samples are too few for 181 devices"),
        ({"device_column": None, "partition": {"name": "size", "devices": 60, "alpha": 1,
                                               "smallest": 4}},
         "task.partition: 180 samples are too few for 60 devices"),
        ({"device_column": None, "partition": PARTITIONS[1], "features": ["ax"], "target": "ay",
          "regression": True}, "task.partition: dirichlet needs classes, and the targets are "
         "values"),
    ],
)  # fmt: skip
def test_what_the_data_cannot_give(tmp_path: Path, changes: dict[str, Any], problem: str):
    found = _problem(write(tmp_path / "t.csv", recorded().rows()),
                     **({"features": ["ax", "ay"]} | changes))  # fmt: skip
    assert found == problem


@given(
    at=st.integers(0, 10_000),
    spoilt=st.binary(max_size=4) | st.sampled_from([b"\n", b",", b'"', b"nan", b"1e999", b"\0"]),
    kind=st.sampled_from([Table, Signals]), missing=st.sampled_from(["error", "drop", "mean"]),
    ways=st.sampled_from([None, 2]), regression=st.booleans(),
)  # fmt: skip
def test_a_spoilt_file_is_learnt_from_or_is_one_line(
    at: int, spoilt: bytes, kind: type[Table | Signals], missing: str, ways: int | None,
    regression: bool, tmp_path_factory: pytest.TempPathFactory,
):  # fmt: skip
    """What is learnt from is finite."""
    path = write(tmp_path_factory.mktemp("own") / "t.csv", recorded(users=3).rows())
    content = path.read_bytes()
    at %= len(content)
    path.write_bytes(content[:at] + spoilt + content[at + len(spoilt) :])
    table: dict[str, Any] = {"name": kind.__name__.lower(), "path": path.name, **BY_USER}
    table["missing"] = missing
    if regression:
        table |= {"target": "ay", "regression": True, "features": ["ax"]}
    else:
        table |= {"target": "activity", "ways": ways}
    if kind is Signals:
        table["window"] = 3
    try:
        task = kind.model_validate(table).resolved(path.parent)
        task.prepare(1)
        parts = [task.device(1, i, 2, 2, part=part) for i in (0, 1) for part in ("seen", "unseen")]
    except TinyMetaFedError as error:
        lines, finite = len(str(error).splitlines()), True
    else:
        lines = 1
        finite = all(
            np.isfinite(part.inputs).all() and np.isfinite(part.targets).all()
            for both in parts
            for part in both
        )
    assert (lines, finite) == (1, True)
