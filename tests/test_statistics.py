"""Means and intervals beside Student's table and his density."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.statistics import mean_and_interval

TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 30: 2.042, 120: 1.980}
"""t of 97.5% by degrees of freedom: Abramowitz and Stegun, table 26.10."""


@pytest.mark.parametrize(("freedom", "t"), TABLE.items())
def test_the_interval_is_that_of_the_table(freedom: int, t: float):
    values = np.random.default_rng(freedom).normal(3, 2, freedom + 1)
    mean, low, high = mean_and_interval(list(values))
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert mean == pytest.approx(values.mean())
    assert (high - mean) / error == pytest.approx(t, abs=6e-4)
    assert (mean - low) / error == pytest.approx(t, abs=6e-4)


@given(st.integers(1, 200))
def test_the_interval_holds_95_percent_of_student_s_density(freedom: int):
    _, _, high = mean_and_interval([1.0, -1.0] + [0.0] * (freedom - 1))
    error = math.sqrt(2 / freedom / (freedom + 1))
    # Over the angle of tan = t/√n the density is cos^(n−1), but for a factor.
    middles = (np.arange(100_000) + 0.5) / 100_000
    ends = math.atan(high / error / math.sqrt(freedom)), np.pi / 2
    inside, outside = (x * np.sum(np.cos(x * middles) ** (freedom - 1)) for x in ends)
    assert inside / outside == pytest.approx(0.95, abs=1e-6)


def test_one_value_has_no_interval_and_none_has_no_mean():
    assert mean_and_interval([2.5]) == pytest.approx((2.5, math.nan, math.nan), nan_ok=True)
    with pytest.raises(ValueError, match="no values"):
        mean_and_interval([])
