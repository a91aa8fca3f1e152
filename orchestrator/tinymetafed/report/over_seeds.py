"""The quantities of a comparison over the seeds, and each strategy's beside the baseline's.

What each quantity and interval is, and why: docs/statistics.md.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..results import bootstrap, survival
from ..results.bootstrap import Estimate, Values
from ..results.statistics import mean_and_interval
from .measured import (
    BY_DEVICE,
    PLAIN,
    ROUNDS_UNTIL,
    UNTIL,
    WORST,
    Figure,
    Key,
    Measured,
    ends,
    same_devices,
    statistic,
)

MOST_NAMES = 4
"""Of strategies in a sentence."""
Runs = Mapping[tuple[str, str, int], Measured]
"""By task, strategy and seed: what is finished."""


@dataclass(frozen=True)
class Result:
    """A quantity over the seeds that have it: the mean and the bounds of its 95% confidence
    interval by Student's t, cut at measured.ends, None where there is one seed.

    censored: seeds of which it is only known that it is more. Where there are any, mean is a lower
    bound, since such a seed counts by what it has spent, and high is None. at_start: seeds, of what
    is until the target, that were there before training.

    pairs: seeds that the baseline has too; 0 of the baseline itself. difference, ratio: to the
    baseline over these, with the bounds of their 95% confidence intervals by the bootstrap of
    results/bootstrap.py, of which `devices` says whether it was of devices too, or of seeds alone.
    bound: "lower" where both are lower bounds, since some of the strategy's seeds are censored, and
    so have no high; "upper" where some of the baseline's are, and they have no low; else empty.
    What is not known is None: a ratio to nothing; both where seeds of both are censored, or some
    were at the target before training.
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
    at_start: int = 0
    pairs: int = 0
    devices: bool = False
    bound: str = ""
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None


@dataclass(frozen=True)
class UntilTarget:
    """What it took to reach the target, over all finished runs of a strategy: how many have reached
    it, and, of these, before training; and the Kaplan–Meier median with its 95% confidence
    interval, None where the runs do not tell, but that it is more than `longest`, the most of any
    run."""

    task: str
    strategy: str
    device: str
    radio: str
    quantity: str
    target: float
    runs: int
    reached: int
    at_start: int
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
                    task, strategy, *key, target, len(spent), reached, _starting(mine.values()),
                    median, low, high, max(spent),
                )
            )  # fmt: skip
    return found


def told_at_start(found: Iterable[Result]) -> str:
    """What is to be said of a task's target where runs were there before training, as it then says
    nothing of how fast they train; empty where none was."""
    until = [one for one in found if one.quantity == ROUNDS_UNTIL]
    labels: dict[tuple[int, int], list[str]] = defaultdict(list)
    for one in until:
        if one.at_start:
            labels[one.at_start, one.seeds].append(one.strategy)
    if not labels:
        return ""
    parts: list[str] = []
    for (number, seeds), mine in labels.items():
        names = ", ".join(mine) if len(mine) <= MOST_NAMES else f"{len(mine)} strategies"
        parts.append(f"{number} of {seeds} seeds" + f" ({names})" * (len(mine) < len(until)))
    return f"{' and '.join(parts)} are at the target before training; choose another."


def _starting(runs: Iterable[Measured]) -> int:
    """How many were at the target before training."""
    found = [one.figures.get((*PLAIN, ROUNDS_UNTIL)) for one in runs]
    return sum(one is not None and not one.censored and one.value == 0 for one in found)


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
    least, most = ends(key[-1])
    mean, low, high = mean_and_interval(spent, least, most)
    if any(censored):
        high = math.nan
    pairs = [
        (one, other)
        for seed, one in mine.items()
        if (other := runs.get((names[0], baseline, seed))) is not None
        and key in one.figures
        and key in other.figures
    ]
    by_device = bool(pairs) and key[-1] in BY_DEVICE and all(same_devices(*pair) for pair in pairs)
    sides, bound = (_devices(pairs, key), "") if by_device else _seeds(pairs, key)
    difference = ratio = Estimate(math.nan)
    if sides[0]:
        difference, ratio = (
            Estimate(
                one.value,
                math.nan if bound == "upper" else one.low,
                math.nan if bound == "lower" else one.high,
            )
            for one in bootstrap.compare(
                *sides, statistic(key[-1]) if by_device else bootstrap.mean, most - least
            )
        )
    return Result(
        *names, *key, len(spent), mean, _known(low), _known(high), sum(censored),
        _starting(mine.values()) if key[-1] in UNTIL else 0, len(sides[0]), by_device, bound,
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


def _seeds(pairs: Pairs, key: Key) -> tuple[Sides, str]:
    """A value for each run, and which bound of the means' difference and ratio these make. Of what
    is censored it is what has been spent. None where some of both sides are, and where some were at
    the target before training, which has nothing to do with it."""
    ours, theirs = ([pair[i].figures[key] for pair in pairs] for i in (0, 1))
    lower, upper = (any(one.censored for one in side) for side in (ours, theirs))
    if (lower and upper) or (key[-1] in UNTIL and any(map(_starting, pairs))):
        return ([], []), ""
    bound = "lower" if lower else "upper" if upper else ""
    return (_each(ours), _each(theirs)), bound


def _each(side: list[Figure]) -> list[Values]:
    return [np.array([one.value], np.float64) for one in side]


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
