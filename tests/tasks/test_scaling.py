"""Standardisation, and what of it has no scale."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.tasks.scaling import standardised


def test_columns_have_mean_0_and_deviation_1_over_the_rows_seen():
    values = np.random.default_rng(1).normal([5, -3], [1e-3, 1e6], (50, 2))
    seen = np.arange(40)
    scaled, constant = standardised(values, seen)
    np.testing.assert_allclose(scaled[seen].mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(scaled[seen].std(axis=0), 1)
    mean, deviation = values[seen].mean(axis=0), values[seen].std(axis=0)
    assert (scaled == (values - mean) / deviation).all()
    assert not len(constant)


@given(st.floats(-1e30, 1e30), st.integers(2, 500), st.integers(0, 2**32 - 1))
def test_a_constant_column_is_0_whatever_its_value_and_the_order_of_rows(
    value: float, rows: int, seed: int
):
    """Their mean is rounded, so that the standard deviation of equal values need not be 0."""
    values = np.full((rows, 2), value)
    values[:, 1] = np.random.default_rng(seed).normal(size=rows)
    values[-1, 0] += 1  # not seen
    scaled, constant = standardised(values, np.arange(rows - 1))
    assert 0 in constant
    assert (scaled[:, 0] == 0).all()


@pytest.mark.parametrize(("noise", "is_constant"), [(1e-16, True), (1e-9, False)])
def test_a_column_that_varies_by_rounding_alone_is_constant(noise: float, is_constant: bool):
    """And one that varies by a billionth of its value is not."""
    rng = np.random.default_rng(1)
    values = 0.1 * (1 + noise * rng.choice([-1.0, 1.0], (100, 1)))
    scaled, constant = standardised(values, np.arange(100))
    assert constant.tolist() == ([0] if is_constant else [])
    assert np.abs(scaled).max() == (0 if is_constant else pytest.approx(1, abs=0.2))


def test_columns_are_the_last_axis():
    values = np.random.default_rng(1).normal(size=(6, 5, 3)).astype(np.float32)
    values[:, :, 1] = 0.1
    seen = np.arange(6) < 4
    scaled, constant = standardised(values, seen)
    assert constant.tolist() == [1]
    assert scaled.shape == values.shape
    np.testing.assert_allclose(scaled[seen].mean(axis=(0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(scaled[seen].std(axis=(0, 1)), [1, 0, 1], atol=1e-6)
