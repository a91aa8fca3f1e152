"""The first table of a page and its sentences say what the runs came to."""

from dataclasses import replace

import numpy as np
import pytest

from tinymetafed.report.groups import TaskRuns, compare
from tinymetafed.report.measured import Measured
from tinymetafed.report.results import Result
from tinymetafed.report.units import three
from tinymetafed.report.verdict import Verdict, reaches, verdicts
from tinymetafed.results import bootstrap
from tinymetafed.results.statistics import mean_and_interval
from tinymetafed.results.store import Store
from tinymetafed.tasks import Sine

PRICE = ("nrf52840", "ble1m")


def _task(store: Store, *runs: int, target: float | None = None) -> TaskRuns:
    (task,) = compare([Result.read(store, store.run(str(run))) for run in runs], target)
    return task


def _trained(task: TaskRuns) -> TaskRuns:
    """The same, as if no device had been served well before training."""

    def worse(one: Result) -> Result:
        first, *rest = one.plain.curve
        return replace(
            one, plain=replace(one.plain, curve=[replace(first, after=float("inf")), *rest])
        )

    groups = [replace(group, results=[*map(worse, group.results)]) for group in task.groups]
    return replace(task, groups=groups)


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
        assert shown == pytest.approx(mean_and_interval(values, least=0.0), rel=5e-3)
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
    ends = sorted(min(point.after for point in one.judged[1:]) for one in task.results)
    target = (ends[0] + ends[1]) / 2  # one run alone is there
    task = _trained(replace(task, target=target))
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
    task = _trained(_task(compared, 5, 2, 3, 6, 7, target=1e6))
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
    beside = found.columns[0].ratios[best][1 - best]
    assert "× [" in beside
    assert second.startswith(
        f"These runs do not tell {labels[1 - best]} ({beside}) apart from it (paired by seed and"
    )
    assert f"Of these, {labels[int(np.argmin(moved))]} sends and receives least" in second
    assert third.startswith("Loss ≤ 1e+06 is reached with every seed by 2 of 2: ")


def test_what_is_the_same_is_not_told_apart(compared: Store):
    """Its interval has no width, so that none is written."""
    task = _task(compared, 5, 2, 6, 7)
    twice = [task.groups[0], replace(task.groups[0], label="the same")]
    (found,) = verdicts(replace(task, groups=twice), [])
    assert found.columns[0].ratios[0][1] == "1.00×"
    (found,) = verdicts(_trained(replace(task, groups=twice, target=1e6)), [])
    assert _text(found)[-1] == "Loss ≤ 1e+06 is reached with every seed by 2 of 2."
    assert "do not tell the same (1.00×) apart from it" in _text(found)[1]


def test_up_to_three_that_are_close_are_named_with_their_differences(compared: Store):
    task = _task(compared, 5, 2, 6, 7)
    for others in (3, 4):
        more = [replace(task.groups[0], label=f"as {i}") for i in range(others)]
        (found,) = verdicts(replace(task, groups=[task.groups[0], *more]), [])
        names = "as 0 (1.00×), as 1 (1.00×) and as 2 (1.00×)" if others == 3 else "4 others"
        assert f"do not tell {names} apart from it" in _text(found)[1]


def test_a_target_that_is_reached_before_training_is_not_praised(compared: Store):
    """No strategy is named or ranked by it, nor has a ratio."""
    task = _task(compared, 5, 2, 3, 6, 7)
    first = sorted(one.plain.curve[0].after for one in task.results)
    for target in (1e6, (first[0] + first[1]) / 2):  # all of them, and one
        (found,) = verdicts(replace(task, target=target), [])
        there = [
            sum(one.plain.curve[0].after <= target for one in group.results)
            for group in task.groups
        ]
        assert sum(there) == (5 if target == 1e6 else 1)
        told = " and ".join(
            f"{number} of {len(group.results)} seeds ({group.label})"
            for number, group in zip(there, task.groups, strict=True) if number
        )  # fmt: skip
        said = f"{told} are at the target before training; choose another."
        assert found.at_start == said
        assert _text(found)[-1] == f"Loss ≤ {target:g}: {said}"
        for key in ("rounds until", "bytes until"):
            column = found.column(key)
            assert column is not None
            assert {one.value for one in column.entries} == {None}
            said_so = [f"{n} of" in one.interval and "before training" in one.interval
                       for n, one in zip(there, column.entries, strict=True)]  # fmt: skip
            assert said_so == [n > 0 for n in there]
            if target == 1e6:
                assert not any(map(any, column.ratios))


def test_a_ratio_of_what_some_have_not_reached_is_a_bound(compared: Store):
    task = _task(compared, 5, 2, 6, 7)

    def there(one: Result, loss: float) -> Result:
        curve = [replace(point, after=loss if point.round else 9.0) for point in one.plain.curve]
        return replace(one, plain=replace(one.plain, curve=curve))

    slow, fast = (
        replace(group, results=[there(one, loss) for one in group.results])
        for group, loss in zip(task.groups, (5.0, 0.5), strict=True)
    )
    (found,) = verdicts(replace(task, groups=[slow, fast], target=1.0), [])
    column = found.column("rounds until")
    assert column is not None
    # By rounds of a node: all have four rounds, and the fast are there after the second.
    ends, steps = (g.results[0].experiment.per_round * n for g, n in ((slow, 4), (fast, 2)))
    assert [one.text for one in column.entries] == [f"> {three(ends)}", three(steps)]
    assert column.ratios[1][0] == f"> {three(ends / steps, 2)}×"
    assert column.ratios[0][1].startswith("< 0.")
    assert "reached with every seed by 1 of 2: " in _text(found)[-1]


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
