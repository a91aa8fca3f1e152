"""Statistics over seeds."""

import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95


def mean_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean and the ends of its 95% confidence interval, by Student's t with n − 1 degrees of
    freedom. One value has no interval: NaN. Raises ValueError where there is none."""
    if len(values) == 0:
        raise ValueError("no values")
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, math.nan, math.nan
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = _two_sided(CONFIDENCE, len(values) - 1) * error
    return mean, mean - half, mean + half


def _two_sided(probability: float, freedom: int) -> float:
    """The t with P(|T| ≤ t) = probability, T of Student's distribution, by bisection of the angle
    atan(t/√freedom)."""
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        if _within(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(high)


def _within(angle: float, freedom: int) -> float:
    """P(|T| ≤ t) at the angle atan(t/√freedom): Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = cosine if odd else 1.0, 0.0
    for n in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (n - 1) / n
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
