"""Codes of float16 and int8: to the nearest, of two as near to the even one."""

from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
from hypothesis import example, given, settings
from numpy.typing import NDArray

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=300)
FLOAT32, FLOAT16, INT8 = range(3)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
LARGEST16 = 65504.0


def code(core, values: int, value: float, exponent: int = 0) -> int:
    return core.lib.tmf_format_code(made(core, values, exponent), value)


def stands_for(core, values: int, code: int, exponent: int = 0) -> float:
    return core.lib.tmf_format_value(made(core, values, exponent), code)


def made(core, values: int, exponent: int):
    return core.ffi.new("struct tmf_format *", [values, exponent])


def magnitude(value: float) -> int:
    return int(np.float32(value).view(np.uint32)) & 0x7FFF_FFFF


HALVES: NDArray[np.uint16] = np.arange(0x7C00, dtype=np.uint16)  # all that are finite, from zero up


def test_a_float16_is_what_ieee_754_says(core):
    for half in HALVES:
        for sign in (0, 0x8000):
            bits = int(half) | sign
            value = np.uint16(bits).view(np.float16).astype(np.float32)
            found = np.float32(stands_for(core, FLOAT16, bits))
            assert found.view(np.uint32) == value.view(np.uint32)
            assert code(core, FLOAT16, float(value)) == bits


def test_what_lies_between_two_float16_goes_to_the_nearest(core):
    """In the middle, to the even one; and next to it on either side."""
    values = HALVES.view(np.float16).astype(np.float64)
    middles = ((values[1:] + values[:-1]) / 2).astype(np.float32)  # exact
    for low, middle in enumerate(middles.tolist()):
        below, above = np.nextafter(np.float32(middle), np.array([0, 9e9], np.float32)).tolist()
        assert code(core, FLOAT16, middle) == low + low % 2
        assert code(core, FLOAT16, below) == low
        assert code(core, FLOAT16, -above) == low + 1 | 0x8000


@EXAMPLES
@given(FINITE)
@example(65519.99)
@example(65520.0)
@example(-3.4e38)
def test_a_float16_is_numpy_s_but_that_there_is_none_past_the_last(core, value):
    nearest = np.float32(np.clip(value, -LARGEST16, LARGEST16)).astype(np.float16)
    assert code(core, FLOAT16, value) == int(nearest.view(np.uint16))


@EXAMPLES
@given(FINITE)
@example(0.0)
@example(64.0)
@example(np.nextafter(np.float32(128), np.float32(0)).item())
@example(3.4028234663852886e38)
@example(2.0**-149)
def test_int8_counts_a_power_of_two_of_which_the_largest_is_64_to_128(core, largest):
    exponent = core.lib.tmf_format_for(INT8, magnitude(largest)).exponent
    assert -125 <= exponent <= 121
    if exponent > -125:
        assert 64 <= abs(Fraction(largest)) / Fraction(2) ** exponent < 128
    else:
        assert abs(Fraction(largest)) < Fraction(128, 2**125)


@EXAMPLES
@given(st.integers(-125, 121), st.floats(-140, 140, width=32) | st.integers(-260, 260))
@example(0, 253)
@example(0, 255)
def test_int8_is_to_the_nearest_whole_number_of_them(core, exponent, number):
    scaled = number / 2 if isinstance(number, int) else number  # halves are in the middle
    with np.errstate(over="ignore"):
        value = np.ldexp(np.float32(scaled), exponent).item()
    if not np.isfinite(value):
        return
    nearest = min(127, max(-127, round(Fraction(value) / Fraction(2) ** exponent)))
    found = code(core, INT8, value, exponent)
    assert found == nearest & 0xFF
    assert stands_for(core, INT8, found, exponent) == np.ldexp(np.float32(nearest), exponent)


@EXAMPLES
@given(st.sampled_from([FLOAT16, INT8]), st.integers(-125, 121))
def test_the_largest_that_becomes_zero(core, values, exponent):
    bits = core.lib.tmf_format_zero(made(core, values, exponent))
    zero, least = np.array([bits, bits + 1], np.uint32).view(np.float32).tolist()
    for sign in (1, -1):
        assert code(core, values, sign * zero, exponent) & 0x7FFF == 0
        assert stands_for(core, values, code(core, values, sign * least, exponent), exponent) != 0


def test_nothing_but_zero_becomes_zero_in_float32(core):
    assert core.lib.tmf_format_zero(made(core, FLOAT32, 0)) == 0


@EXAMPLES
@given(FINITE)
def test_a_float32_is_itself(core, value):
    bits = code(core, FLOAT32, value)
    assert bits == np.float32(value).view(np.uint32)
    assert np.float32(stands_for(core, FLOAT32, bits)).view(np.uint32) == bits


@EXAMPLES
@given(st.sampled_from([FLOAT16, INT8]), FINITE, FINITE)
@example(FLOAT16, 2.0**-25 + 2.0**-48, 1.0)
@example(INT8, 0.5 + 2.0**-24, 100.0)
def test_what_rounding_takes_off_is_a_float32(core, values, value, largest):
    """So that what is sent and what is kept are together what there was, exactly."""
    value, largest = sorted((value, largest), key=abs)
    form = core.lib.tmf_format_for(values, magnitude(largest))
    sent = stands_for(core, values, code(core, values, value, form.exponent), form.exponent)
    rest = Fraction(value) - Fraction(sent)
    if values == FLOAT16 and abs(value) > 2 * LARGEST16:
        return  # past the last
    assert Fraction(float(np.float32(float(rest)))) == rest
    if sent:
        unit = Fraction(2) ** form.exponent if values == INT8 else abs(Fraction(value)) / 2**10
        assert abs(rest) <= (unit if values == INT8 else max(unit, Fraction(1, 2**24)))
