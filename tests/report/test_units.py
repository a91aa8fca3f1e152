"""Figures with units that one can read."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.report import units
from tinymetafed.report.units import best, three


@pytest.mark.parametrize(
    ("base", "values", "name"),
    [
        ("J", [717_600.0, 3.0], "kJ"), ("J", [0.0], "J"), ("J", [], "J"), ("J", [0.5e-3], "µJ"),
        ("B", [999.4], "B"), ("B", [999.7], "kB"), ("B", [2.5e9], "GB"), ("s", [717_600.0], "d"),
        ("s", [0.0042], "ms"), ("s", [119.0], "s"), ("s", [121.0], "min"), ("s", [7201.0], "h"),
        ("", [1e9], ""), ("J", [math.nan, None, 20.0], "J"),
    ],
)  # fmt: skip
def test_a_unit_fits_the_largest_value(base: str, values: list[float | None], name: str):
    assert best(base, values).name == name


@given(st.floats(1e-11, 1e17), st.sampled_from(["B", "J"]))
def test_the_largest_has_one_to_three_digits_before_the_point(value: float, base: str):
    shown = value / best(base, [value / 7, value]).size
    assert 0.999 <= float(three(shown).replace(",", "")) < 1000


@given(st.floats(-1e12, 1e12).filter(lambda value: abs(value) > 1e-6))
def test_three_digits_are_right_and_need_no_exponent(value: float):
    text = three(value)
    assert "e" not in text
    assert float(text.replace(",", "").replace("−", "-")) == pytest.approx(value, rel=5.1e-3)


def test_single_figures_have_their_unit():
    assert units.one(717_600.0, "J") == "718 kJ"
    assert (three(0.0), three(None), three(math.inf), three(1234.4)) == ("0", "–", "∞", "1,234")
    assert (three(0.1725), three(11.41), three(9.996), three(-2.5)) == (
        "0.172",
        "11.4",
        "10.0",
        "−2.50",
    )
