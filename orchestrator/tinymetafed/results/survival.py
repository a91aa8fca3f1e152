"""What it took to reach a target, where some runs never did: those are right-censored.

Of such a run it is known that it takes more than it has spent until its end. To leave it out, or to
count it as if it had been there at its end, would make what reaches the target seldom look fast.
"""

import math
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .bootstrap import Estimate


def median(spent: Sequence[float], censored: Sequence[bool]) -> Estimate:
    """The Kaplan–Meier median: the least that half of the runs reach the target by.

    spent: until the target, or, where it is censored, until the run's end. NaN where the estimated
    share of runs that have not reached it stays above a half, then the median is above the greatest
    of `spent`; so is a bound of its interval. The interval is that of Brookmeyer & Crowley 1982,
    Biometrics 38(1), by the log-minus-log interval of the survival function. Kaplan & Meier 1958,
    Journal of the American Statistical Association 53(282). Raises ValueError where there is no
    run.
    """
    if len(spent) == 0:
        raise ValueError("no runs")
    data = stats.CensoredData.right_censored(
        np.asarray(spent, np.float64), np.asarray(censored, np.bool_)
    )
    survival = stats.ecdf(data).sf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # it has no interval where it is 0 or 1
        bounds = survival.confidence_interval(0.95, method="log-log")
    return Estimate(*(
        _first_at_half(one.quantiles, one.probabilities)
        for one in (survival, bounds.low, bounds.high)
    ))  # fmt: skip


def _first_at_half(spent: NDArray[np.float64], share: NDArray[np.float64]) -> float:
    """Where the share is a half at most for the first time; NaN where it never is."""
    there = spent[share <= 0.5 + 1e-12]
    return float(there[0]) if len(there) else math.nan
