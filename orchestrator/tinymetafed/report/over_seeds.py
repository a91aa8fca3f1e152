"""The quantities of a comparison over the seeds, and each strategy's beside the baseline's.

What each quantity and interval is, and why: docs/statistics.md.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..results import bootstrap, survival
from ..results.bootstrap import Estimate, Values
from ..results.statistics import mean_and_interval
from .measured import BY_DEVICE, UNTIL, WORST, Figure, Key, Measured, same_devices, statistic

Runs = Mapping[tuple[str, str, int], Measured]
"""By task, strategy and seed: what is finished."""


@dataclass(frozen=True)
class Result:
    """A quantity over the seeds that have it: the mean and the bounds of its 95% confidence
    interval by Student's t, None where there is one seed.

    censored: seeds of which it is only known that it is more. Where there are any, mean, low and
    high are of what is spent up to the horizon of results/survival.py, lower bounds of the mean's.

    pairs: seeds that the baseline has too; 0 of the baseline itself. difference, ratio: to the
    baseline over these, with the bounds of their 95% confidence intervals by the bootstrap of
    results/bootstrap.py, of which `devices` says whether it was of devices too, or of seeds alone.
    What is not known is None: a ratio to nothing, or of what neither has reached.
    """

    task: str
    strategy: str
    device: str
    radio: str
    quantity: str
    seeds: int
    mean: float
    low: float | None
    high: float | None
    censored: int = 0
    pairs: int = 0
    devices: bool = False
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None


@dataclass(frozen=True)
class UntilTarget:
    """What it took to reach the target, over all finished runs of a strategy: how many have reached
    it; and the Kaplan–Meier median with its 95% confidence interval, None where the runs do not
    tell, but that it is more than `longest`, the most of any run."""

    task: str
    strategy: str
    device: str
    radio: str
    quantity: str
    target: float
    runs: int
    reached: int
    median: float | None
    low: float | None
    high: float | None
    longest: float


def results(runs: Runs, baseline: str) -> list[Result]:
    """Each quantity of each strategy on each task. baseline: a strategy's label."""
    return [
        _result((task, strategy), key, mine, {} if strategy == baseline else runs, baseline)
        for (task, strategy), mine in _by_strategy(runs).items()
        for key in _keys(mine)
    ]


def until_target(runs: Runs, targets: Mapping[str, float | None]) -> list[UntilTarget]:
    """Of each strategy on each task. targets: by task."""
    found: list[UntilTarget] = []
    for (task, strategy), mine in _by_strategy(runs).items():
        target = targets[task]
        for key in _keys(mine):
            if key[-1] not in UNTIL or target is None:
                continue
            spent, censored = _spent(mine, key)
            middle = survival.median(spent, censored)
            median, low, high = map(_known, (middle.value, middle.low, middle.high))
            reached = len(spent) - sum(censored)
            found.append(
                UntilTarget(
                    task, strategy, *key, target, len(spent), reached, median, low, high, max(spent)
                )
            )
    return found


def _by_strategy(runs: Runs) -> dict[tuple[str, str], dict[int, Measured]]:
    found: dict[tuple[str, str], dict[int, Measured]] = defaultdict(dict)
    for (task, strategy, seed), one in runs.items():
        found[task, strategy][seed] = one
    return found


def _keys(mine: Mapping[int, Measured]) -> Iterator[Key]:
    """What any of them has; of WORST, what all have, since those do not whose adaptation
    diverged."""
    for key in dict.fromkeys(key for one in mine.values() for key in one.figures):
        if key[-1] not in WORST or all(key in one.figures for one in mine.values()):
            yield key


def _spent(runs: Mapping[int, Measured], key: Key) -> tuple[list[float], list[bool]]:
    figures = [one.figures[key] for one in runs.values() if key in one.figures]
    return [one.value for one in figures], [one.censored for one in figures]


def _result(
    names: tuple[str, str], key: Key, mine: Mapping[int, Measured], runs: Runs, baseline: str
) -> Result:
    spent, censored = _spent(mine, key)
    horizon = survival.horizon(spent, censored)
    mean, low, high = mean_and_interval([min(one, horizon) for one in spent])
    pairs = [
        (one, other)
        for seed, one in mine.items()
        if (other := runs.get((names[0], baseline, seed))) is not None
        and key in one.figures
        and key in other.figures
    ]
    by_device = bool(pairs) and key[-1] in BY_DEVICE and all(same_devices(*pair) for pair in pairs)
    sides = _devices(pairs, key) if by_device else _seeds(pairs, key)
    difference = ratio = Estimate(math.nan)
    if sides[0]:
        difference, ratio = bootstrap.compare(
            *sides, statistic(key[-1]) if by_device else bootstrap.mean
        )
    return Result(
        *names, *key, len(spent), mean, _known(low), _known(high), sum(censored), len(sides[0]),
        by_device,
        *map(_known, (difference.value, difference.low, difference.high)),
        *map(_known, (ratio.value, ratio.low, ratio.high)),
    )  # fmt: skip


Pairs = list[tuple[Measured, Measured]]
Sides = tuple[list[Values], list[Values]]


def _devices(pairs: Pairs, key: Key) -> Sides:
    """By run the values of the devices that diverged on neither side."""
    ours: list[Values] = []
    theirs: list[Values] = []
    for pair in pairs:
        values = [one.by_device[key[-1]] for one in pair]
        there = ~np.isnan(values).any(axis=0)
        if there.any():
            ours.append(values[0][there])
            theirs.append(values[1][there])
    return ours, theirs


def _seeds(pairs: Pairs, key: Key) -> Sides:
    """A value for each run; of what is until a target, up to the horizon of both sides; none where
    neither has reached it by then."""
    figures: list[list[Figure]] = [
        [one.figures[key] for one in side] for side in zip(*pairs, strict=True)
    ]
    every = [one for side in figures for one in side]
    horizon = survival.horizon([one.value for one in every], [one.censored for one in every])
    if not any(one.value < horizon for one in every):
        return [], []
    ours, theirs = (
        [np.array([min(one.value, horizon)], np.float64) for one in side] for side in figures
    )
    return ours, theirs


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
