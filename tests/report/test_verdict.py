"""The first table of a page and its sentences say what the runs came to."""

from dataclasses import replace

import numpy as np
import pytest

from tinymetafed.report.groups import TaskRuns, compare
from tinymetafed.report.measured import Measured
from tinymetafed.report.results import Result
from tinymetafed.report.verdict import Verdict, reaches, verdicts
from tinymetafed.results import bootstrap
from tinymetafed.results.statistics import mean_and_interval
from tinymetafed.results.store import Store
from tinymetafed.tasks import Sine

PRICE = ("nrf52840", "ble1m")


def _task(store: Store, *runs: int, target: float | None = None) -> TaskRuns:
    (task,) = compare([Result.read(store, store.run(str(run))) for run in runs], target)
    return task


def _text(found: Verdict, baseline: int = -1) -> list[str]:
    """The sentences, with the ratios to a baseline."""

    def part(one: str | tuple[str, int]) -> str:
        if isinstance(one, str):
            return one
        column = found.column(one[0])
        assert column is not None
        return f"<{column.ratios[baseline][one[1]]}>" if baseline >= 0 else ""

    return ["".join(map(part, one)) for one in found.sentences]


def _end(one: Result) -> float:
    """The mean loss of unseen devices."""
    assert one.final is not None
    return one.final.after


def _numbers(text: str) -> list[float]:
    return [float(one.strip("[]×,").replace("−", "-")) for one in text.split()]


def test_means_and_ratios_are_those_of_a_comparison(compared: Store):
    task = _task(compared, 5, 2, 6, 7)
    (found,) = verdicts(task, [PRICE])
    score, moved = found.columns[:2]
    after = [[_end(one) for one in group.results] for group in task.groups]
    for entry, values in zip(score.entries, after, strict=True):
        shown = [entry.value, *_numbers(entry.interval)]
        assert shown == pytest.approx(mean_and_interval(values), rel=5e-3)
    sides = [
        [np.array([point.loss_after for point in one.unseen], np.float64) for one in group.results]
        for group in task.groups
    ]
    _, ratio = bootstrap.compare(sides[1], sides[0])
    shown = _numbers(score.ratios[0][1])
    assert shown == pytest.approx([ratio.value, ratio.low, ratio.high], rel=5e-2)
    assert score.ratios[0][0] == ""
    total = [np.mean([one.bytes[-1] for one in group.results]) for group in task.groups]
    assert _numbers(moved.ratios[0][1])[0] == pytest.approx(total[1] / total[0], rel=1e-2)
    joules = found.column("joules")
    assert joules is not None
    assert joules.entries[0].text == "–"  # on the host, nothing was counted
    assert joules.ratios[0][1] == ""


def test_what_never_reached_the_target_takes_more_than_it_has_spent(compared: Store):
    task = _task(compared, 5, 2, 6, 7)
    ends = sorted(min(point.after for point in one.judged) for one in task.results)
    target = (ends[0] + ends[1]) / 2  # one run alone is there
    task = replace(task, target=target)
    (found,) = verdicts(task, [PRICE])
    column = found.column("rounds until")
    assert column is not None
    reached = [sum(reaches(one, target) is not None for one in g.results) for g in task.groups]
    assert sum(reached) == 1
    for entry, there in zip(column.entries, reached, strict=True):
        assert entry.value == float("inf")
        assert entry.text.startswith("> ")
        assert entry.interval == f"reached by {there} of 2 seeds"
    assert _text(found)[-1] == f"None reaches loss ≤ {target:g} with every seed."


def test_the_best_and_the_cheapest_of_the_close_are_named(compared: Store):
    """Here both strategies have a few rounds, and so are not told apart."""
    task = _task(compared, 5, 2, 3, 6, 7, target=1e6)
    (found,) = verdicts(task, [])
    labels = [group.label for group in task.groups]
    after = [np.mean([_end(one) for one in g.results]) for g in task.groups]
    best = int(np.argmin(after))
    first, second, third = _text(found, 1 - best)
    assert first.startswith(
        f"{labels[best]} has the lowest loss after adaptation on unseen devices: "
    )
    assert first.endswith("]>.")
    moved = [np.mean([one.bytes[-1] for one in g.results]) for g in task.groups]
    assert second.startswith(f"{labels[1 - best]} is not told apart from it")
    assert f"Of these, {labels[int(np.argmin(moved))]} sends and receives least" in second
    assert third.startswith("Loss ≤ 1e+06 is reached with every seed by 2 of 2: ")


def test_what_is_the_same_is_not_told_apart(compared: Store):
    """Its interval has no width, so that none is written."""
    task = _task(compared, 5, 2, 6, 7)
    twice = [task.groups[0], replace(task.groups[0], label="the same")]
    (found,) = verdicts(replace(task, groups=twice), [])
    assert found.columns[0].ratios[0][1] == "1.00×"
    assert "the same is not told apart from it" in _text(found)[1]


def test_one_seed_is_said_to_be_one(compared: Store):
    (found,) = verdicts(_task(compared, 4, 6), [])
    assert _text(found)[1].startswith("With one seed each there are no intervals")
    assert {one.interval for one in found.columns[0].entries} == {"one seed"}


def test_accuracies_are_in_percent_and_compared_in_points(
    compared: Store, monkeypatch: pytest.MonkeyPatch
):
    def with_classes(one: Result, right: float) -> Result:
        judged = [replace(point, accuracy_after=right) for point in one.judged]
        known: Measured = one.plain
        devices = np.full(len(known.final.numbers), right)
        key = ("", "", "accuracy after adaptation")
        figures = known.figures | {key: replace(next(iter(known.figures.values())), value=right)}
        plain = replace(known, figures=figures, by_device=known.by_device | {key[-1]: devices})
        return replace(one, judged=judged, plain=plain)

    results = [Result.read(compared, compared.run(number)) for number in ("4", "6")]
    monkeypatch.setattr(Sine, "target_is_class", True)
    (task,) = compare([with_classes(results[0], 0.5), with_classes(results[1], 0.625)])
    (found,) = verdicts(task, [])
    assert found.columns[0].title == "accuracy after adaptation (%)"
    assert [one.text for one in found.columns[0].entries] == ["50.0", "62.5"]
    assert found.columns[0].ratios[0][1] == "+12.5 points"
    assert (
        _text(found)[0]
        == "reptile has the highest accuracy after adaptation on unseen devices: 62.5%."
    )
