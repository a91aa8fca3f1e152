"""Signals of a user's own: which rows a window has, and what no window goes over."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorded import ACTIVITIES, nearest, recorded, write
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.tasks import Signals
from tinymetafed.tasks.base import Part

NAMES = ("x", "label", "user", "t", "part")
NUMBERED = {"features": ["x"], "target": "label", "device_column": "user", "normalise": False}


def _task(path: Path, **changes: object) -> Signals:
    table = {"name": "signals", "path": path.name, "window": 4, "validation": 0, **changes}
    return Signals.model_validate(table).resolved(path.parent)


def _windows(task: Signals, parts: tuple[Part, ...] = ("seen", "unseen")) -> dict[str, set[Any]]:
    """Of each device: the windows' values and classes."""
    found: dict[str, set[Any]] = {}
    for part in parts:
        held = task.held(1, 0, part=part)
        assert held is not None
        for i in range(held.count):
            if one := task.held(1, i, part=part):
                rows = map(tuple, one.samples.inputs.tolist())
                found[one.name] = set(zip(rows, one.samples.targets.tolist(), strict=True))
    return found


@given(
    runs=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 9)), min_size=1),
    window=st.integers(2, 5), stride=st.integers(1, 6),
)  # fmt: skip
def test_a_window_has_rows_of_one_device_and_class(
    runs: list[tuple[int, int, int]], window: int, stride: int,
    tmp_path_factory: pytest.TempPathFactory,
):  # fmt: skip
    """Each run of rows by itself gives those that a loop over it finds."""
    runs = [(0, 0, window), (1, 1, window), *runs, (0, 2, window), (1, 2, window)]
    rows: list[tuple[Any, ...]] = []
    for user, label, length in runs:
        rows += [(len(rows) + i, f"c{label}", f"u{user}", 0, 0) for i in range(length)]
    expected: dict[str, set[Any]] = {}
    first = 0
    while first < len(rows):
        last = first
        while last < len(rows) and rows[last][1:3] == rows[first][1:3]:
            last += 1
        for start in range(first, last - window + 1, stride):
            values = tuple(float(row[0]) for row in rows[start : start + window])
            expected.setdefault(rows[first][2], set()).add((values, int(rows[first][1][1:])))
        first = last
    path = write(tmp_path_factory.mktemp("own") / "t.csv", rows, NAMES)
    classes = ["c0", "c1", "c2"]
    settings = NUMBERED | {"window": window, "stride": stride, "classes": classes}
    task = _task(path, **settings, min_samples=1, unseen_devices=["u1"])
    found = {
        name: {(values, label) for values, label in windows}
        for name, windows in _windows_of_all(task).items()
    }
    assert found == expected


def _windows_of_all(task: Signals) -> dict[str, set[Any]]:
    """By device, from the records themselves: the split may leave a class to unseen devices."""
    records = task.records("")
    assert records.owners is not None
    found: dict[str, set[Any]] = {}
    for values, label, owner in zip(
        records.values[:, :, 0].tolist(), records.targets.tolist(), records.owners, strict=True
    ):
        found.setdefault(records.devices[owner], set()).add((tuple(values), label))
    return found


def test_samples_are_windows_of_channels(tmp_path: Path):
    """Standardised by channel, over what seen devices have."""
    found = recorded()
    path = write(tmp_path / "t.csv", found.rows())
    task = _task(path, target="activity", device_column="user")
    assert (task.shape, task.outputs, task.limits(part="unseen").samples) == ((1, 4, 2), 3, 9)
    seen = ~np.isin(found.users, task.prepare(1)["task.unseen"].split(", "))
    scaled = (found.values - found.values[seen].mean(axis=0)) / found.values[seen].std(axis=0)
    windows = scaled.reshape(-1, 4, 2)
    support, query = task.device(1, 0, 5, 4)
    rows = nearest(support, windows) + nearest(query, windows)
    assert len(set(rows)) == 9
    for row, label in zip(rows, [*support.targets, *query.targets], strict=True):
        assert found.activities[4 * row] == ACTIVITIES[label]


@given(
    window=st.integers(2, 8), stride=st.integers(1, 8), support=st.integers(1, 4),
    ways=st.sampled_from([None, 2, 3]), number=st.integers(0, 5),
)  # fmt: skip
def test_support_and_query_share_no_row_of_the_file(
    window: int, stride: int, support: int, ways: int | None, number: int,
    tmp_path_factory: pytest.TempPathFactory,
):  # fmt: skip
    """Where windows overlap too. And there are as many as the limits promise."""
    length = 80
    rows = [
        (1000 * user + 100 * label + i, f"c{label}", f"u{user}", 0, 0)
        for user in range(3)
        for label in range(3)
        for i in range(length)
    ]
    path = write(tmp_path_factory.mktemp("own") / "t.csv", rows, NAMES)
    task = _task(path, **NUMBERED, window=window, stride=stride, ways=ways)
    limits = task.limits(part="seen")
    support *= ways or 1
    query = int(limits.samples) - support * limits.blocked
    if query < limits.classes:
        return
    one, other = task.device(1, number, support, query - query % limits.classes)
    assert (len(one), len(other)) == (support, query - query % limits.classes)
    assert not set(one.inputs.ravel()) & set(other.inputs.ravel())


def _timed(path: Path, times: list[float], parts: list[int] | None = None) -> Path:
    rows = [
        (i, f"c{label}", f"u{user}", time, (parts or [0] * len(times))[i])
        for user in range(2)
        for label in range(2)
        for i, time in enumerate(times)
    ]
    return write(path / "t.csv", rows, NAMES)


def _starts(task: Signals) -> list[int]:
    held = task.held(1, 0, part="seen")
    assert held is not None
    one = held.samples.inputs[held.samples.targets == 0]
    return sorted(one[:, 0].astype(int).tolist())


TIMED = NUMBERED | {"time": "t", "rate": 50}


def test_no_window_goes_over_a_gap_in_time(tmp_path: Path):
    times = [0.02 * i for i in range(10)] + [5 + 0.02 * i for i in range(10)]
    assert _starts(_task(_timed(tmp_path, times), **TIMED)) == [0, 4, 10, 14]
    assert _starts(_task(_timed(tmp_path, times), **NUMBERED)) == [0, 4, 8, 12, 16]


def test_no_window_goes_over_the_end_of_a_recording(tmp_path: Path):
    path = _timed(tmp_path, [0.02 * (i % 10) for i in range(20)], [i // 10 for i in range(20)])
    assert _starts(_task(path, **TIMED, recording="part")) == [0, 4, 10, 14]


def test_no_window_goes_over_a_row_that_was_dropped(tmp_path: Path):
    path = _timed(tmp_path, [0.02 * i for i in range(20)])
    path.write_text(path.read_text().replace("\n9,c0", "\n,c0"))
    assert _starts(_task(path, **NUMBERED, missing="drop")) == [0, 4, 10, 14]


@pytest.mark.parametrize(
    ("times", "changes", "problem"),
    [
        (
            [0.02 * (i % 10) for i in range(20)], TIMED, "line 12: column t: time goes from 0.18 "
            "to 0; sort the rows, or name the column in task.recording that tells recordings apart",
        ),
        (
            [20.0 * i for i in range(20)], TIMED, "column t: rows are 20 apart in the median; at "
            "task.rate = 50 it has to be 0.02 seconds",
        ),
        (
            [0.02 * i for i in range(3)], NUMBERED, "line 2: the longest run of rows of one "
            "device, class and recording begins here and has 3, and task.window is 4; sort the "
            "rows, or use a smaller window",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_signals(
    tmp_path: Path, times: list[float], changes: dict[str, Any], problem: str
):
    path = _timed(tmp_path, times)
    with pytest.raises(TinyMetaFedError) as caught:
        _task(path, **changes)
    assert str(caught.value) == f"{path}: {problem}"


def test_a_value_to_predict_is_that_of_the_last_row(tmp_path: Path):
    rows = [(i, 10 * i, f"u{i // 8}") for i in range(16)]
    path = write(tmp_path / "t.csv", rows, ("x", "y", "user"))
    task = _task(path, target="y", regression=True, device_column="user", normalise=False)
    for support, _ in (task.device(1, 0, 2, 0), task.device(1, 0, 2, 0, part="unseen")):
        assert (support.targets[:, 0] == 10 * support.inputs[:, -1]).all()


def test_windows_that_overlap_are_not_shared_out(tmp_path: Path):
    path = write(tmp_path / "t.csv", recorded().rows())
    made = {"partition": {"name": "iid", "devices": 4}, "features": ["ax", "ay"]}
    task = _task(path, target="activity", **made, stride=4)
    assert task.limits(part="seen").samples == 11
    with pytest.raises(TinyMetaFedError, match="task.partition: windows overlap, so two devices"):
        _task(path, target="activity", **made, stride=3)


def test_time_needs_a_rate(tmp_path: Path):
    with pytest.raises(ValueError, match="rate: task.time needs it, in Hz"):
        _task(tmp_path / "t.csv", **NUMBERED, time="t")


def test_a_device_without_a_window_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    rows = [(i, f"c{i // 8}", f"u{user}", 0, 0) for user in range(3) for i in range(16)]
    path = write(tmp_path / "t.csv", [*rows, *((0, "c0", "late", 0, 0),) * 3], NAMES)
    task = _task(path, **NUMBERED)
    assert (task.known.groups, task.known.fewest) == (3, 4)
    assert caplog.messages == [f"{path}: devices that have no sample are left out: late"]


def test_windows_that_are_cut_already(tmp_path: Path):
    path = tmp_path / "t.npz"
    np.savez(path, x=np.zeros((4, 8, 3)), label=[0, 1, 0, 1], user=[0, 0, 1, 1])
    with pytest.raises(TinyMetaFedError) as caught:
        _task(path, **NUMBERED)
    assert str(caught.value) == (
        f'{path}: array x: [4, 8, 3] are windows already; use task.name = "table"'
    )
