"""Tables dealt out to devices: who has which rows, and of what classes."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from conftest import FindReal, UseCard
from tiny import ROWS, checked, make_table
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.tasks import Tabular, datasets
from tinymetafed.tasks.base import Part
from tinymetafed.tasks.partition import parts_of
from tinymetafed.tasks.samples import Samples
from tinymetafed.tasks.tabular import Card, _deal

Table = NDArray[np.float64]


def _task(**settings: object) -> Tabular:
    own = {"name": "tabular", "data": "iris", "rows": 8, "validation": 0, **settings}
    return Tabular.model_validate(own)


@pytest.fixture
def table(data: Path, use_card: UseCard) -> Table:
    card, found = make_table(data)
    use_card(card)
    return found


def _population(task: Tabular, seed: int, first: int, *, part: Part) -> list[Samples]:
    """Of every device, all that it has."""
    count = int(task.limits(part=part).devices)
    return [task.device(seed, first + i, task.rows, 0, part=part)[0] for i in range(count)]


@pytest.mark.parametrize("alpha", [None, 10.0, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_devices_share_no_row_and_unseen_ones_have_others(
    table: Table, seed: int, alpha: float | None
):
    """Standardised by the rows of the seen devices."""
    task = _task(alpha=alpha)
    made_of = task.prepare(seed)
    unseen_rows = [int(row) for row in made_of["task.unseen"].removeprefix("rows ").split(", ")]
    assert len(set(unseen_rows)) == 16
    seen_rows = np.setdiff1d(np.arange(ROWS), unseen_rows)
    values = table[:, :-1]
    scaled = (values - values[seen_rows].mean(axis=0)) / values[seen_rows].std(axis=0)
    split: tuple[tuple[Any, Part, int], ...] = (
        (seen_rows, "seen", 3), (unseen_rows, "unseen", 2),
    )  # fmt: skip
    for rows, part, devices in split:
        population = _population(task, seed, 0, part=part)
        assert len(population) == devices
        held: list[int] = []
        for samples in population:
            for x, label in zip(samples.inputs, samples.targets, strict=True):
                distances = np.abs(scaled - x).max(axis=1)
                row = int(distances.argmin())
                assert distances[row] < 1e-5
                assert table[row, -1] == label
                held.append(row)
        assert sorted(held) == sorted(rows)


def test_devices_of_consecutive_numbers_differ(table: Table):
    """An experiment numbers the unseen ones from where the seen ones end."""
    for first in range(5):
        population = _population(_task(), 1, first, part="unseen")
        assert len({samples.packed for samples in population}) == 2


def test_support_and_query_share_no_row(table: Table):
    support, query = _task().device(1, 0, 3, 5)
    rows = {row.tobytes() for row in (*support.inputs, *query.inputs)}
    assert (len(support), len(query), len(rows)) == (3, 5, 8)
    assert (support.inputs.dtype, support.targets.dtype) == (np.float32, np.uint32)


def test_the_seed_decides_who_has_what(table: Table):
    def packed(seed: int) -> bytes:
        return _task(alpha=0.5).device(seed, 1, 8, 0)[0].packed

    assert packed(1) == packed(1)
    assert len({packed(seed) for seed in range(20)}) == 20


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=4, max_size=60), st.integers(1, 8),
    st.none() | st.floats(1e-3, 1e6), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_parts_are_of_one_size_and_disjoint(
    labels: list[int], size: int, alpha: float | None, seed: int
):
    parts = parts_of(np.random.default_rng(seed), np.array(labels, np.uint32), size, alpha)
    assert len(parts) == len(labels) // size
    assert all(len(part) == size for part in parts)
    held = np.concatenate([np.empty(0, int), *parts])
    assert len(set(held.tolist())) == len(held)


def _classes_of_a_part(alpha: float | None) -> float:
    """Mean over the parts of 20 deals of 300 rows in three classes."""
    labels = np.repeat(np.arange(3, dtype=np.uint32), 100)
    deals = [parts_of(np.random.default_rng(seed), labels, 10, alpha)[:10] for seed in range(20)]
    return float(np.mean([len(set(labels[part])) for parts in deals for part in parts]))


def test_the_smaller_alpha_the_fewer_classes_has_a_device():
    found = [_classes_of_a_part(alpha) for alpha in (0.01, 0.3, 3.0, 1e6)]
    assert found == sorted(found)
    assert found[0] < 1.1
    assert found[-1] > 2.9
    assert found[-1] == pytest.approx(_classes_of_a_part(None), abs=0.05)


def test_alike_devices_have_the_table_s_proportion():
    labels = np.repeat(np.arange(2, dtype=np.uint32), [300, 100])
    counts = [
        int((labels[parts_of(np.random.default_rng(seed), labels, 40, None)[i]] == 1).sum())
        for seed in range(100)
        for i in (0, -1)
    ]
    # Hypergeometric: mean 10, variance 40 · ¼ · ¾ · 360/399.
    assert np.mean(counts) == pytest.approx(10, abs=0.7)
    assert np.var(counts) == pytest.approx(6.77, rel=0.35)


def test_more_rows_than_there_are(table: Table):
    with pytest.raises(ValueError, match="rows: 17 of the 16 rows for unseen devices"):
        _task(rows=17)
    with pytest.raises(ValueError, match="rows: 5 of the 4 rows for seen devices"):
        _task(rows=5, unseen=0.9)


Edit = Callable[[list[list[str]]], None]
"""Changes the cells of the table, without its heading."""


@pytest.fixture
def edited(data: Path, use_card: UseCard) -> Callable[..., Path]:
    """The tiny table with other cells, for a card that says `rows`."""

    def edit(change: Edit, rows: int = ROWS) -> Path:
        card, _ = make_table(data)
        path = data / "table.csv"
        heading, *lines = path.read_text().splitlines()
        cells = [line.split(",") for line in lines]
        change(cells)
        path.write_text("\n".join([heading, *map(",".join, cells)]) + "\n")
        file = checked(datasets.card(Card, "iris").file, path)
        use_card(card.model_copy(update={"file": file, "rows": rows}))
        return path

    return edit


def _set(row: int, column: int, cell: str) -> Edit:
    def change(cells: list[list[str]]) -> None:
        cells[row][column] = cell

    return change


def _column(column: int, *values: str) -> Edit:
    """Has the values in turn."""

    def change(cells: list[list[str]]) -> None:
        for row, cell in zip(cells, itertools.cycle(values), strict=False):
            row[column] = cell

    return change


def _fails(**settings: object) -> str:
    with pytest.raises(TinyMetaFedError) as caught:
        _task(**settings).prepare(1)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("cell", "kind"), [("", "missing"), ("nan", "missing"), ("?", "missing"), ("-inf", "infinite")]
)
def test_a_missing_value_is_an_error_that_names_it(
    edited: Callable[..., Path], cell: str, kind: str
):
    path = edited(_set(4, 2, cell))
    assert _fails() == (
        f"{path}: line 6, column 3: the value is {kind}; enter it, or set task.missing to "
        '"drop" or "mean"'
    )


@pytest.mark.parametrize("missing", ["error", "mean"])
def test_a_missing_class_has_no_mean(edited: Callable[..., Path], missing: str):
    path = edited(_set(4, 4, "NA"))
    assert _fails(missing=missing) == (
        f'{path}: line 6, column 5: the class is missing; enter it, or set task.missing = "drop"'
    )


def _cells(path: Path) -> Table:
    """NaN where there is no number."""
    return np.genfromtxt(path, delimiter=",", skip_header=1, missing_values=["?"])


def test_the_mean_of_the_rows_seen_takes_a_missing_value_s_place(edited: Callable[..., Path]):
    """So that of unseen rows nothing is known in training: it is 0 after standardisation."""
    path = edited(_column(1, "?", "1.5", "4", "?", "7.25"))
    task = _task(missing="mean")
    table = _cells(path)
    unseen_rows = [int(one) for one in task.prepare(1)["task.unseen"][5:].split(", ")]
    seen_rows = np.setdiff1d(np.arange(ROWS), unseen_rows)
    mean = np.nanmean(table[seen_rows, 1])
    assert mean != pytest.approx(np.nanmean(table[:, 1]))
    filled = np.where(np.isnan(table), mean, table)[:, :-1]
    scaled = (filled - filled[seen_rows].mean(axis=0)) / filled[seen_rows].std(axis=0)
    split: tuple[tuple[Any, Part], ...] = ((seen_rows, "seen"), (unseen_rows, "unseen"))
    for rows, part in split:
        found = np.concatenate([one.inputs for one in _population(task, 1, 0, part=part)])
        expected = scaled[rows].astype(np.float32)
        np.testing.assert_allclose(
            found[np.lexsort(found.T)], expected[np.lexsort(expected.T)], atol=1e-5
        )
        assert 0 < (np.abs(found[:, 1]) < 1e-6).sum() < len(found)


def test_rows_with_a_missing_value_are_dropped(edited: Callable[..., Path]):
    """They are as if they had never been there."""

    def spoil(cells: list[list[str]]) -> None:
        cells[3][0], cells[17][4], cells[18][2] = "nan", "", "inf"
        cells[18][1] = ""

    def remove(cells: list[list[str]]) -> None:
        for row in (18, 17, 3):
            del cells[row]

    packed: list[list[bytes]] = []
    for change, missing in ((spoil, "drop"), (remove, "error"), (remove, "drop")):
        edited(change, rows=ROWS - 3)
        _deal.cache_clear()
        task = _task(missing=missing)
        population = _population(task, 1, 0, part="seen") + _population(task, 1, 0, part="unseen")
        packed.append([samples.packed for samples in population])
    assert packed[0] == packed[1] == packed[2]


def test_the_card_says_how_many_rows_are_left(edited: Callable[..., Path]):
    """Since with less of them two devices would have the same."""
    path = edited(_set(4, 2, ""))
    assert _fails(missing="drop") == (
        f"{path}: 39 of 40 rows are complete, and datasets/iris.toml says 40: enter rows = 39 there"
    )
    edited(list.clear)
    assert _fails() == f"{path}: 0 rows, and datasets/iris.toml says 40: enter rows = 0 there"


@pytest.mark.parametrize("values", [("0.1",), ("0.1", "0.10000000000000002"), ("1e30",)])
def test_a_constant_column_is_0_and_is_told_once(
    edited: Callable[..., Path], caplog: pytest.LogCaptureFixture, values: tuple[str, ...]
):
    path = edited(_column(2, *values))
    task = _task()
    for part in ("seen", "unseen"):
        for samples in _population(task, 1, 0, part=part):
            assert (samples.inputs[:, 2] == 0).all()
            assert np.abs(samples.inputs).max() < 10
            assert np.abs(samples.inputs[:, 3]).max() > 0.1
    task.prepare(2)
    assert caplog.messages == [
        f"{path}: constant in the rows of the seen devices, so 0 in every sample: column 3"
    ]


def test_an_unseen_row_far_beyond_those_seen(edited: Callable[..., Path]):
    """float32 has no place for it, though it has for each number of the table."""
    edited(_column(2, "0", "1e-6"))
    row = int(_task().prepare(1)["task.unseen"].removeprefix("rows ").partition(",")[0])

    def change(cells: list[list[str]]) -> None:
        _column(2, "0", "1e-6")(cells)
        cells[row][2] = "3e38"

    path = edited(change)
    _deal.cache_clear()
    assert re.fullmatch(
        rf"{path}: line {row + 2}, column 3: 6e\+44 standard deviations from the mean of the seen "
        "devices' rows: beyond float32", _fails()
    )  # fmt: skip


def test_a_column_that_no_seen_row_has(edited: Callable[..., Path]):
    path = edited(_column(2, "NA"))
    assert _fails(missing="mean") == (
        f"{path}: column 3: no row of the seen devices has a value, so there is no mean"
    )


def test_a_class_that_no_row_is_of_is_told(
    edited: Callable[..., Path], caplog: pytest.LogCaptureFixture
):
    """As where classes are numbered from 1, and the card has one too many."""
    path = edited(_column(4, "1", "2"))
    _task().prepare(1)
    assert caplog.messages == [f"{path}: no row is of class 0 (setosa)"]


def test_a_cell_that_is_wrong_is_named(edited: Callable[..., Path]):
    path = edited(_set(4, 2, "red"))
    assert _fails() == f"{path}: line 6, column 3: 'red' is no number"


def test_missing_has_three_values():
    with pytest.raises(ValueError, match="'error', 'drop' or 'mean'"):
        _task(missing="median")


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer"])
def test_the_tables_are_as_their_cards_say(real_data: FindReal, name: str):
    card = datasets.card(Card, name)
    real_data(card.file)
    table = np.loadtxt(datasets.find(card.file), delimiter=",", skiprows=1)
    assert table.shape == (card.rows, card.columns + 1)
    assert set(table[:, -1]) == set(range(len(card.classes)))
    task = _task(data=name, rows=15)
    assert (task.inputs, task.outputs) == (card.columns, len(card.classes))
    seen = np.concatenate([one.inputs for one in _population(task, 1, 0, part="seen")])
    assert np.abs(seen.mean(axis=0)).max() < 0.2
    assert np.isfinite(seen).all()
