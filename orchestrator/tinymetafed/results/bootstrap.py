"""Paired differences and ratios of two strategies, with intervals by a hierarchical bootstrap.

A strategy is judged in some runs, one for each seed, and in each by some devices. Of the resamples
each draws as many runs as there are, with replacement, and of each run drawn as many devices as it
has, with replacement: Davison & Hinkley 1997, Bootstrap Methods and their Application, section 3.8;
Saravanan, Berman & Sober 2020, arXiv:2007.07797. Both strategies have the same draws, since a seed
has the same devices for both; what a device adds to both cancels in the difference.

The interval is the estimate ± t times the resamples' standard deviation times √(n ÷ (n − 1)), with
Student's t of n − 1 degrees of freedom, n the number of runs: Hesterberg 2015, What Teachers Should
Know About the Bootstrap, The American Statistician 69(4), for samples as small as three runs, of
which percentiles leave out the truth too often. Of single values by run it is the interval of the
paired t test. With one run it is over the devices of that run, n the number of these.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

RESAMPLES = 2000
SEED = 0
"""The same runs have the same intervals."""

Values = NDArray[np.float64]
Statistic = Callable[[Values, NDArray[Any]], Values]
"""Of values [n], each so many times as counts [resamples, n] say: float64 [resamples]."""


@dataclass(frozen=True)
class Estimate:
    """A value and the bounds of its 95% confidence interval, NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan


def mean(values: Values, counts: NDArray[Any]) -> Values:
    """The weighted mean; a Statistic."""
    return counts @ values / counts.sum(axis=1)


def highest_tenth(values: Values, counts: NDArray[Any]) -> Values:
    """The mean of the highest tenth; a Statistic.

    Where a tenth is no whole number, the value at its edge counts by the part of it that is within:
    the conditional value at risk of Rockafellar & Uryasev 2002, Journal of Banking & Finance 26. Of
    losses it is of the worst devices, which q-FFL gives too: Li et al. 2020, arXiv:1905.10497.
    """
    order = np.argsort(-values, kind="stable")
    falling = values[order]
    among = np.cumsum(np.take(counts, order, axis=1), axis=1)  # whole numbers, exact in float32
    tail = 0.1 * among[:, -1:].astype(np.float64)
    among = np.minimum(among, tail)
    # The sum over i of (among_i − among_{i−1}) · value_i, by parts.
    steps = np.append(falling[:-1] - falling[1:], falling[-1])
    return among @ steps / tail[:, 0]


def lowest_tenth(values: Values, counts: NDArray[Any]) -> Values:
    """The mean of the lowest tenth, of accuracies that of the worst devices; a Statistic."""
    return -highest_tenth(-values, counts)


def at(statistic: Statistic, values: Values) -> float:
    """Of the values as they are."""
    return float(statistic(values, np.ones((1, len(values))))[0])


def compare(
    ours: Sequence[Values],
    baseline: Sequence[Values],
    statistic: Statistic = mean,
    most: float = math.inf,
) -> tuple[Estimate, Estimate]:
    """The difference, ours − the baseline's, and the ratio, ours ÷ the baseline's, of the means
    over the runs of a statistic of the devices of each.

    ours, baseline: by run the devices' values, float64 [devices], the same devices in both, at
    least one, without NaN. most: that a difference can be, either way; its interval is cut there.
    The ratio's interval is that of its logarithm; it is NaN where the
    baseline's is 0, and has no interval where a resample is not above 0. Raises ValueError where
    nothing is paired.
    """
    sizes = [len(one) for one in ours]
    if not sizes or 0 in sizes or sizes != [len(one) for one in baseline]:
        raise ValueError("nothing, or not the same, on both sides")
    ours_now, baseline_now = (
        float(np.mean([at(statistic, one) for one in side])) for side in (ours, baseline)
    )
    difference = Estimate(ours_now - baseline_now)
    ratio = Estimate(ours_now / baseline_now if baseline_now else math.nan)
    n = len(sizes) if len(sizes) > 1 else sizes[0]
    if n == 1:
        return difference, ratio
    ours_then, baseline_then = _resampled(ours, statistic), _resampled(baseline, statistic)
    factor = float(stdtrit(n - 1, 0.975)) * math.sqrt(n / (n - 1))
    half = factor * float(np.std(ours_then - baseline_then))
    low, high = difference.value - half, difference.value + half
    difference = Estimate(difference.value, max(low, -most), min(high, most))
    positive = min(ours_then.min(), baseline_then.min(), ours_now, baseline_now) > 0
    if positive:
        # Beyond the greatest of floats there is no bound.
        spread = factor * float(np.std(np.log(ours_then) - np.log(baseline_then)))
        half = math.exp(spread) if spread < 700 else math.nan
        ratio = Estimate(ratio.value, ratio.value / half, ratio.value * half)
    return difference, ratio


def _resampled(values: Sequence[Values], statistic: Statistic) -> Values:
    """The mean over the runs drawn, float64 [RESAMPLES]."""
    return _of_bytes(tuple(np.asarray(one, np.float64).tobytes() for one in values), statistic)


@lru_cache(maxsize=2048)  # a page has each strategy beside each; 16 KB
def _of_bytes(values: tuple[bytes, ...], statistic: Statistic) -> Values:
    arrays = [np.frombuffer(one, np.float64) for one in values]
    drawn, counts = _draws(tuple(map(len, arrays)))
    found = np.empty(drawn.size)
    for one, (places, of_devices) in zip(arrays, counts, strict=True):
        found[places] = one[0] if len(one) == 1 else statistic(one, of_devices)
    return found.reshape(drawn.shape).mean(axis=1)


@lru_cache(maxsize=4)
def _draws(
    sizes: tuple[int, ...],
) -> tuple[NDArray[np.int64], list[tuple[NDArray[np.int64], NDArray[np.float32]]]]:
    """Which runs are drawn, int64 [RESAMPLES, runs]; and, of each run, the places where it is in
    that, int64 [times], and how often it has each of its devices there: float32 [times,
    devices]."""
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(len(sizes), size=(RESAMPLES, len(sizes)))
    counts: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    for i, size in enumerate(sizes):
        places = np.flatnonzero(drawn == i)
        times = len(places)
        picks = rng.integers(size, size=(times, size)) + size * np.arange(times)[:, None]
        found = np.bincount(picks.ravel(), minlength=times * size).reshape(times, size)
        counts.append((places, found.astype(np.float32)))
    return drawn, counts
