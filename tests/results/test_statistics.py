"""Means and intervals against the density of Student's t, integrated."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.results.statistics import mean_and_interval


def _probability(t: float, freedom: int) -> float:
    """P(|T| ≤ t), by Simpson's rule on the density."""
    x = np.linspace(-t, t, 20_001)
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    scale = math.exp(log_scale) / math.sqrt(freedom * math.pi)
    density = scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    weights = np.full(len(x), 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    return float((weights * density).sum() * (x[1] - x[0]) / 3)


@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_the_interval_is_student_s(count: int, seed: int):
    values = np.random.default_rng(seed).normal(3.0, 2.0, count)
    mean, low, high = mean_and_interval(values.tolist())
    assert mean == pytest.approx(values.sum() / count)
    assert mean - low == pytest.approx(high - mean)
    deviation = math.sqrt(((values - values.mean()) ** 2).sum() / (count - 1))
    t = (high - mean) / (deviation / math.sqrt(count))
    assert _probability(t, count - 1) == pytest.approx(0.95, abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_the_interval_is_cut_at_the_ends_of_what_can_be(values: list[float]):
    """And not moved: what is left of it is what it was."""
    mean, low, high = mean_and_interval(values)
    cut = mean_and_interval(values, 0.0, 1.0)
    assert cut == (mean, max(low, 0.0), min(high, 1.0))
    assert 0 <= cut[1] <= cut[0] <= cut[2] <= 1 + 1e-12


def test_one_value_has_no_interval():
    mean, low, high = mean_and_interval([2.5])
    assert mean == 2.5
    assert math.isnan(low)
    assert math.isnan(high)


def test_no_value_has_no_mean():
    with pytest.raises(ValueError, match="no values"):
        mean_and_interval([])
