"""Strategies beside a baseline, against the store's rows; and of values that are made up."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from comparing import execute, read
from printing import printed
from tinymetafed import comparison as of_file
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.comparison import ComparisonSettings
from tinymetafed.experiments.scheduler import Comparison
from tinymetafed.report.comparison import FIRST_WEIGHTS, Outcome, outcome
from tinymetafed.report.comparison_tables import tables
from tinymetafed.report.judged import Devices, spread
from tinymetafed.report.measured import (
    BY_DEVICE,
    PLAIN,
    SHARES,
    SPREAD,
    WORSE,
    Figure,
    Key,
    Measured,
)
from tinymetafed.report.over_seeds import Result, results, told_at_start, until_target
from tinymetafed.report.summary import MeanLosses
from tinymetafed.results.statistics import mean_and_interval
from tinymetafed.results.store import Store

LOCAL = ('label = "few"', 'label = "alone"\nname = "local"\n[[strategies]]\nlabel = "few"')
FINAL = "SELECT loss_after FROM evaluation WHERE run = ? AND round = ? AND part = ? ORDER BY device"


def _compare(folder: Path, *changes: tuple[str, str]) -> tuple[ComparisonSettings, Outcome, Path]:
    settings, cells = read(folder, *changes)
    store, compared, _ = execute(folder, cells)
    return settings, outcome(settings, compared, store), store.path


def _losses(
    path: Path, found: Outcome, done: int, part: str = "unseen"
) -> dict[tuple[str, int], np.ndarray]:
    """Of each device of the part, by strategy and seed."""
    with closing(sqlite3.connect(path)) as db:
        return {
            (one.strategy, one.seed): np.array(db.execute(FINAL, (one.run, done, part)).fetchall())[
                :, 0
            ]
            for one in found.runs
        }


def _values(found: Outcome, quantity: str) -> dict[tuple[str, int], float]:
    return {(one.strategy, one.seed): one.value for one in found.values if one.quantity == quantity}


def _result(found: Outcome, strategy: str, quantity: str) -> Result:
    [one] = [one for one in found.results if (one.strategy, one.quantity) == (strategy, quantity)]
    return one


def test_devices_are_compared_with_the_first_weights(tmp_path: Path):
    _, found, path = _compare(tmp_path)
    first, last = (_losses(path, found, done, "validation") for done in (0, 4))
    assert found.no_federation == FIRST_WEIGHTS
    assert _values(found, WORSE) == {key: np.mean(last[key] > first[key]) for key in last}
    last = _losses(path, found, 4)
    for key, worst in _values(found, "loss of the worst tenth").items():
        assert worst == pytest.approx(last[key].max())  # of five devices it is half of one


def test_devices_are_compared_with_those_that_learn_alone(tmp_path: Path):
    settings, found, path = _compare(tmp_path, LOCAL)
    last = _losses(path, found, 4)
    assert found.no_federation == "alone"
    assert _values(found, WORSE) == {
        (name, seed): np.mean(last[name, seed] > last["alone", seed])
        for name in ("few", "Reptile") for seed in (1, 2)
    }  # fmt: skip
    store = Store(path.parent, read_only=True)
    _, cells = read(tmp_path, LOCAL)
    text = " ".join(printed(*tables(settings, Comparison(cells, store), found)).split())
    assert "share of devices served worse than by alone" in text


def test_differences_are_of_the_same_devices_of_the_same_seed(tmp_path: Path):
    _, found, path = _compare(tmp_path)
    assert found.baseline == "few"
    last = _losses(path, found, 4)
    one = _result(found, "Reptile", "loss after adaptation")
    assert (one.pairs, one.devices) == (2, True)
    apart = [np.mean(last["Reptile", seed] - last["few", seed]) for seed in (1, 2)]
    assert one.difference == pytest.approx(np.mean(apart))
    means = [np.mean([last[name, seed] for seed in (1, 2)]) for name in ("Reptile", "few")]
    assert one.ratio == pytest.approx(means[0] / means[1])
    assert one.difference_low is not None
    assert one.difference_low < np.mean(apart)
    bytes_, down, up = (_values(found, name) for name in ("bytes", "bytes down", "bytes up"))
    assert bytes_ == {key: down[key] + up[key] for key in down}
    ratio = sum(bytes_["Reptile", s] for s in (1, 2)) / sum(bytes_["few", s] for s in (1, 2))
    result = _result(found, "Reptile", "bytes")
    assert result.ratio == pytest.approx(ratio)
    assert not result.devices
    baseline = [row for row in found.results if row.strategy == "few"]
    assert {(row.pairs, row.difference, row.ratio) for row in baseline} == {(0, None, None)}


def test_devices_that_are_judged_otherwise_are_not_the_same(tmp_path: Path):
    """By fewer samples, so that a seed's means are compared alone."""
    less = ("percent = 10", "percent = 10\nchanges.evaluation.support = 3")
    _, found, _ = _compare(tmp_path, less)
    one = _result(found, "Reptile", "loss after adaptation")
    assert (one.pairs, one.devices) == (2, False)
    mine = _values(found, "loss after adaptation")
    ours, theirs = ([mine[name, seed] for seed in (1, 2)] for name in ("Reptile", "few"))
    low, high = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert one.difference == pytest.approx((low + high) / 2)
    assert one.difference is not None
    assert one.difference_high is not None
    assert one.difference_high - one.difference == pytest.approx((high - low) / 2, rel=0.05)
    _, alone, _ = _compare(tmp_path, LOCAL, less)
    assert {strategy for strategy, _ in _values(alone, WORSE)} == {"Reptile"}


def test_the_baseline_is_the_readers(tmp_path: Path):
    settings, found, path = _compare(tmp_path, ("seeds =", 'baseline = "Reptile"\nseeds ='))
    assert found.baseline == "Reptile"
    assert {one.strategy for one in found.results if one.pairs} == {"few"}
    assert settings.beside("few").compared_with == "few"
    with pytest.raises(TinyMetaFedError, match=r"--baseline x: no label .* are: few, Reptile"):
        settings.beside("x")
    with pytest.raises(TinyMetaFedError, match="baseline: no label of a strategy; there are: few"):
        read(tmp_path, ("seeds =", 'baseline = "x"\nseeds ='))
    read(tmp_path)
    table = of_file(tmp_path / "two.toml", baseline="Reptile", store=path.parent)
    assert (table.baseline, table.no_federation) == ("Reptile", FIRST_WEIGHTS)
    row = table.results.loc["sine", "few", "", "", "loss after adaptation"]
    assert row["difference"] == _result(found, "few", "loss after adaptation").difference
    assert len(table.values) == len(found.values)
    assert len(table.runs) == 4
    assert set(table.until_target["reached"]) == {2}


def test_the_spread_is_of_the_last_fifth():
    def at(number: int, loss: float, accuracy: float) -> MeanLosses:
        return MeanLosses(number, 5, 0, 0.0, loss, 0.0, accuracy, "validation")

    curve = [at(number, loss, 1 - loss / 10) for number, loss in enumerate((9, 8, 7, 3, 1, 2))]
    assert spread(curve, classes=False) == pytest.approx(2**-0.5)  # of rounds 4 and 5
    assert spread(curve, classes=True) == pytest.approx(0.1 * 2**-0.5)
    assert np.isnan(spread(curve[:1], classes=False))
    assert np.isnan(spread([*curve[:-1], at(5, np.nan, np.nan)], classes=False))


def test_a_run_s_spread_is_of_its_last_evaluations(tmp_path: Path):
    longer = "target = 100\nchanges = { rounds = 10, evaluation = { every = 1 } }"
    _, found, path = _compare(tmp_path, ("target = 100", longer))
    points = [_losses(path, found, done, "validation") for done in (8, 9, 10)]
    expected = {key: np.std([one[key].mean() for one in points], ddof=1) for key in points[0]}
    assert _values(found, SPREAD) == pytest.approx(expected)


def test_no_interval_has_what_cannot_be(tmp_path: Path):
    """Of the few seeds of a small comparison Student's t alone would have losses below 0."""
    _, found, _ = _compare(tmp_path)
    uncut = 0
    for one in found.results:
        mine = [
            value.value for value in found.values
            if (value.strategy, value.quantity) == (one.strategy, one.quantity)
        ]  # fmt: skip
        _, low, high = mean_and_interval(mine)
        least, most = (0.0, 1.0) if one.quantity.startswith("share") else (0.0, np.inf)
        assert (one.low, one.high) == (max(low, least), min(high, most))
        uncut += low < 0
    assert uncut


def test_accuracies_and_shares_are_at_most_one(made: Measured):
    """91.2% of accuracy had an interval to 101.7%."""
    known = {"accuracy after adaptation", "accuracy of the worst tenth", WORSE, *SHARES.values()}
    for quantity in (*known, "loss after adaptation", "bytes", SPREAD):
        runs = {
            ("task", label, seed): replace(
                made,
                by_device={quantity: np.array([value])} if quantity in BY_DEVICE else {},
                figures={(*PLAIN, quantity): Figure(value)},
            )
            for label, values in (("base", (0.0, 0.02, 0.1)), ("other", (1.0, 0.8, 0.94)))
            for seed, value in enumerate(values)
        }
        base, other = results(runs, "base")
        assert base.low == 0
        assert other.difference == pytest.approx(0.8733, abs=1e-4)
        assert other.high is not None
        assert other.difference_high is not None
        assert (other.high == 1) == (other.difference_high == 1) == (quantity in known)
        assert other.high > 0.94


UNTIL: Key = (*PLAIN, "rounds until target")


def _until(made: Measured, found: dict[str, list[tuple[float, bool]]]) -> list[Result]:
    runs = {
        ("sine", name, seed): replace(made, figures={UNTIL: Figure(*one)})
        for name, every in found.items()
        for seed, one in enumerate(every)
    }
    for one in until_target(runs, {"sine": 1.0}):
        assert one.reached == sum(not censored for _, censored in found[one.strategy])
        assert one.at_start == found[one.strategy].count((0.0, False))
    return results(runs, "base")


@pytest.fixture
def made(tmp_path: Path) -> Measured:
    """A run, of which figures are replaced."""
    _, cells = read(tmp_path)
    nothing = np.zeros(0)
    devices = Devices(nothing.astype(np.int64), nothing, nothing, nothing, nothing)
    return Measured(cells[0].experiment, [], devices, {}, {})


def test_what_is_beside_something_censored_is_a_bound(made: Measured):
    """Which of both it is, and without the end that is not known."""
    slow = [(40.0, True), (30.0, False), (40.0, True)]
    fast = [(10.0, False), (5.0, False), (6.0, False)]
    mine = _until(made, {"base": fast, "other": slow})
    assert (mine[1].mean, mine[1].high, mine[1].censored) == (pytest.approx(110 / 3), None, 2)
    assert mine[1].bound == "lower"
    assert mine[1].ratio == pytest.approx(110 / 21)
    assert mine[1].difference == pytest.approx((110 - 21) / 3)
    ends = stats.ttest_rel([40, 30, 40], [10, 5, 6]).confidence_interval(0.95)
    assert mine[1].difference_low == pytest.approx(ends.low, rel=0.05)
    assert mine[1].ratio_low is not None
    assert (mine[1].difference_high, mine[1].ratio_high) == (None, None)
    mine = _until(made, {"base": slow, "other": fast})
    assert (mine[0].bound, mine[1].bound, mine[1].censored) == ("", "upper", 0)
    assert mine[1].ratio == pytest.approx(21 / 110)
    assert mine[1].ratio_high is not None
    assert (mine[1].difference_low, mine[1].ratio_low) == (None, None)
    mine = _until(made, {"base": fast, "other": [*reversed(fast)]})
    assert (mine[1].bound, mine[1].ratio) == ("", 1)
    assert mine[1].ratio_high is not None


_SPENT = st.lists(st.integers(1, 100), min_size=3, max_size=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(_SPENT, _SPENT, st.integers(1, 100), st.booleans())
def test_a_bound_is_on_the_side_that_it_says(
    made: Measured, slow: list[int], fast: list[int], end: int, ours: bool
):
    """Of the ratio that would be seen if runs went on until each was there."""
    cut = [(float(min(one, end)), one > end) for one in slow]
    there = [(float(one), False) for one in fast]
    base, other = (there, cut) if ours else (cut, there)
    truth = sum(slow) / sum(fast) if ours else sum(fast) / sum(slow)
    mine = _until(made, {"base": base, "other": other})[1]
    assert mine.ratio is not None
    if not any(censored for _, censored in cut):
        assert (mine.bound, mine.ratio) == ("", pytest.approx(truth))
    elif ours:
        assert mine.bound == "lower"
        assert mine.ratio < truth
    else:
        assert mine.bound == "upper"
        assert mine.ratio > truth


def test_where_both_are_censored_there_is_no_ratio(made: Measured):
    never = [(50.0, True)] * 3
    for other in (never, [(20.0, False), (50.0, True), (30.0, False)]):
        mine = _until(made, {"base": never, "other": other})[1]
        assert (mine.ratio, mine.difference, mine.pairs, mine.bound) == (None, None, 0, "")


def test_a_target_that_was_reached_before_training_is_no_speed(made: Measured):
    found = {
        "base": [(0.0, False), (20.0, False), (0.0, False)],
        "other": [(0.0, False), (5.0, False), (10.0, False)],
        "third": [(40.0, True), (5.0, False), (10.0, False)],
        "fourth": [(40.0, True), (5.0, False), (10.0, False)],
    }
    mine = _until(made, found)
    assert [one.at_start for one in mine] == [2, 1, 0, 0]
    assert [one.ratio for one in mine] == [None] * 4
    assert (
        told_at_start(mine) == "2 of 3 seeds (base) and 1 of 3 seeds (other) are at the target "
        "before training; choose another."
    )
    assert told_at_start(mine[:1]).startswith("2 of 3 seeds are at the target before training;")
    assert told_at_start(mine[2:]) == ""
    # One that ended at once never was there.
    assert [one.at_start for one in _until(made, {"base": [(0.0, True)]})] == [0]


def test_the_worst_tenth_is_of_all_seeds_or_of_none(tmp_path: Path):
    """One whose adaptation diverged is among the worst, so the others' would flatter."""
    settings, cells = read(tmp_path)
    store, compared, _ = execute(tmp_path, cells)
    run = compared.runs[0]
    assert run is not None
    columns = ("loss_before", "loss_after", "accuracy_before", "accuracy_after")
    changed = ", ".join(f"{name} = NULL" for name in columns)
    query = f"UPDATE evaluation SET {changed} WHERE run = ? AND round = 4 AND device ="
    for end in ("min", "max"):  # one for validation, and one unseen
        chosen = f"(SELECT {end}(device) FROM evaluation WHERE run = ?)"
        store._db.execute(f"{query} {chosen}", [run.id] * 2)
    found = outcome(settings, compared, store)
    assert ("few", 1) not in _values(found, "loss of the worst tenth")
    assert ("few", 2) in _values(found, "loss of the worst tenth")
    there = {one.strategy for one in found.results if one.quantity == "loss of the worst tenth"}
    assert there == {"Reptile"}
    # Differences are of the devices that diverged with neither.
    last = _losses(store.path, found, 4)
    ours, theirs = last["Reptile", 1].astype(float), last["few", 1].astype(float)
    apart = [np.nanmean(ours - theirs), np.mean(last["Reptile", 2] - last["few", 2])]
    one = _result(found, "Reptile", "loss after adaptation")
    assert one.difference == pytest.approx(np.mean(apart))
    worse = _values(found, WORSE)["few", 1]
    first, after = (
        _losses(store.path, found, done, "validation")["few", 1].astype(float) for done in (0, 4)
    )
    assert np.isnan(after).sum() == 1
    assert worse == np.mean(np.isnan(after) | (after > first))
