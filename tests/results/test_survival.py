"""What was censored, against a published example and definitions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.results.survival import median

REMISSION = [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
"""Weeks under 6-mercaptopurine, Freireich et al. 1963, Blood 21(6); of the last 12 patients it is
known that it took longer."""
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def test_a_textbook_s_example():
    """Medians and intervals as R's survival package has them: survfit(…, conf.type = "log-log")."""
    found = median(REMISSION, [False] * 9 + [True] * 12)
    assert found.value == 23
    assert found.low == 13
    assert math.isnan(found.high)
    found = median(PLACEBO, [False] * 21)
    assert (found.value, found.low, found.high) == (8, 4, 11)


def test_where_few_have_reached_it():
    found = median([50, 40, 50], [True, False, True])
    assert math.isnan(found.value)
    assert median([50.0], [False]).value == 50
    assert math.isnan(median([50.0], [True]).value)


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=15))
def test_the_median_is_that_of_the_product_of_shares(runs: list[tuple[int, bool]]):
    """Kaplan & Meier's definition, step by step."""
    share = 1.0
    expected = math.nan
    for time in sorted({spent for spent, _ in runs}):
        at_risk = sum(spent >= time for spent, _ in runs)
        reached = sum(spent == time and not censored for spent, censored in runs)
        share *= 1 - reached / at_risk
        if share <= 0.5 + 1e-12:
            expected = time
            break
    found = median([spent for spent, _ in runs], [censored for _, censored in runs])
    assert found.value == pytest.approx(expected, nan_ok=True)


def test_no_run_has_no_median():
    with pytest.raises(ValueError, match="no runs"):
        median([], [])
