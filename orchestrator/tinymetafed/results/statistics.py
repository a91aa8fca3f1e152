"""Statistics over the seeds of an experiment."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit


def mean_and_interval(
    values: Sequence[float], least: float = -math.inf, most: float = math.inf
) -> tuple[float, float, float]:
    """The mean, and the lower and the upper bound of its 95% confidence interval.

    By Student's t with n − 1 degrees of freedom, so for values that are about normal. least, most:
    of what the values can be; the interval is cut there, since what it loses cannot be the mean.
    One value has no interval: NaN. Raises ValueError where there is none.
    """
    if len(values) == 0:
        raise ValueError("no values")
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, math.nan, math.nan
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stdtrit(len(values) - 1, 0.975)) * error
    return mean, max(mean - half, least), min(mean + half, most)
