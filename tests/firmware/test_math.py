"""The core's exp, log, tanh and logistic function: accuracy over all floats, special values, and
the bits themselves.

The truth is numpy in float64, whose own error, some 1e-9 ulp of a float, does not matter here.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.polynomial import Chebyshev, Polynomial
from scipy.special import expit

SOURCE = Path(__file__).parents[2] / "firmware/core/tmf_math.c"

EXP, LOG, TANH, SIGMOID = range(4)
TRUTH = {EXP: np.exp, LOG: np.log, TANH: np.tanh, SIGMOID: expit}
# What tmf_math.h promises, in ulp.
BOUND = {EXP: 0.91, LOG: 0.92, TANH: 1.04, SIGMOID: 2.5}
EACH = pytest.mark.parametrize(
    "function", [EXP, LOG, TANH, SIGMOID], ids=["exp", "log", "tanh", "sigmoid"]
)

NAN = 0x7FC00000
INF = 0x7F800000
SIGN = 0x80000000
ALL = 2**32


def bits_of(x: float) -> int:
    return int(np.float32(x).view(np.uint32))


def arguments(start: int, stride: int, count: int) -> np.ndarray:
    """The floats whose bits are start + i·stride modulo 2³²."""
    bits = start + stride * np.arange(count, dtype=np.uint64)
    return bits.astype(np.uint32).view(np.float32)


def results(core, function: int, start: int, stride: int, count: int) -> np.ndarray:
    y = np.empty(count, np.float32)
    out = core.ffi.from_buffer("float[]", y, require_writable=True)
    core.lib.tmf_math_map(function, start % ALL, stride, count, out)
    return y


def result_bits(core, function: int, *bits: int) -> list[int]:
    return [int(results(core, function, b, 1, 1).view(np.uint32)[0]) for b in bits]


def ulp_errors(y: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """|y − truth| in ulp: the spacing of floats at the truth, 2⁻¹⁴⁹ where that is subnormal.

    inf counts as 2¹²⁸, the float that would come next, so that a result may overflow one float
    early or late but no more. A NaN on one side only, or the wrong sign, is infinitely wrong.
    """
    # +inf to 2¹²⁸; a truth beyond that is inf to a float as well.
    near_truth = np.clip(truth, -(2.0**128), 2.0**128)
    near_y = np.clip(y.astype(np.float64), -(2.0**128), 2.0**128)
    exponent = np.where(near_truth == 0, -125, np.frexp(near_truth)[1])
    errors = np.abs(near_y - near_truth) * np.exp2(24.0 - np.clip(exponent, -125, 128))
    wrong = (np.isnan(y) != np.isnan(truth)) | (np.signbit(y) != np.signbit(truth))
    both_nan = np.isnan(y) & np.isnan(truth)
    return np.where(both_nan, 0.0, np.where(wrong, np.inf, errors))


def check(core, function: int, start: int, stride: int, count: int) -> None:
    """Holds the results to the bound, and NaN to its one pattern, in pieces that fit a cache."""
    piece = 1 << 18
    for first in range(0, count, piece):
        n = min(piece, count - first)
        at = (start + first * stride) % ALL
        x = arguments(at, stride, n)
        y = results(core, function, at, stride, n)
        with np.errstate(all="ignore"):
            truth = TRUTH[function](x.astype(np.float64))
            errors = ulp_errors(y, truth)
        worst = int(np.argmax(errors))
        assert errors[worst] <= BOUND[function], (
            f"{errors[worst]:.3f} ulp at x = {x[worst]!r} ({bits_of(x[worst]):#010x}): "
            f"{y[worst]!r}, true {truth[worst]!r}"
        )
        assert (y.view(np.uint32)[np.isnan(y)] == NAN).all()


def window(core, function: int, centre: int, radius: int) -> None:
    check(core, function, (centre - radius) % ALL, 1, 2 * radius)


def test_ulp_errors_measures_what_it_says():
    with np.errstate(all="ignore"):
        y = np.array([1, 1, 0, 2**-149, np.inf, np.inf, 3.4028235e38, 0, np.nan, -0.0], np.float32)
    truth = np.array(
        [1 + 2**-23, 1 - 2**-25, 2**-150, 0, 2.0**128 - 2**103, 1e300, np.inf, 1, 1, 0.0]
    )
    expected = [1, 0.5, 0.5, 1, 0.5, 0, 1, 2**23, np.inf, np.inf]
    np.testing.assert_array_equal(ulp_errors(y, truth), expected)


@EACH
def test_whole_range(core, function):
    stride = 307  # a prime, so that the low bits of the mantissa take all values
    check(core, function, 0, stride, ALL // stride)


@EACH
def test_borders_of_exponents(core, function):
    for exponent in range(512):
        window(core, function, exponent << 23, 64)


@EACH
@pytest.mark.parametrize("centre", [0.0, -0.0, 1.0, -1.0])
def test_around_zero_and_one(core, function, centre):
    window(core, function, bits_of(centre), 1 << 16)


@pytest.mark.parametrize(
    ("function", "centre"),
    [
        (EXP, 88.72284),  # overflows
        (EXP, 89.0),
        (EXP, -87.33655),  # the result becomes subnormal
        (EXP, -103.97208),  # the result becomes 0
        (EXP, -104.0),
        (EXP, 32.0),
        (EXP, -32.0),
        (EXP, 2.0**-26),  # the conversion to fixed point gives 0 or 1
        (EXP, -(2.0**-26)),
        (LOG, 0.75),
        (LOG, 1.5),
        (LOG, 2.0**-126),  # the argument becomes subnormal
        (TANH, 2.0**-12),
        (TANH, 0.25),
        (TANH, 2.0625),  # the middle of the row with the largest error
        (TANH, 9.0),
        (SIGMOID, -87.33655),  # the result becomes subnormal
        (SIGMOID, 17.0),  # the result becomes 1
    ],
)
def test_around_borders_of_branches(core, function, centre):
    window(core, function, bits_of(centre), 1 << 14)


def test_borders_of_rows(core):
    for k in range(-512, 513):  # 2^(k/16) in exp
        window(core, EXP, bits_of(k * np.log(2) / 16), 16)
    for e in (-20, -1, 0, 1, 20):
        for k in range(12, 24):
            window(core, LOG, bits_of(k / 16 * 2.0**e), 256)
    for row in range(82 + 1):
        window(core, TANH, bits_of(0.25) + (row << 19), 256)
        window(core, TANH, SIGN | (bits_of(0.25) + (row << 19)), 256)


def test_special_values(core):
    minus = [SIGN | b for b in (INF, bits_of(1.0), bits_of(2.0**-149))]

    assert result_bits(core, EXP, 0, SIGN, INF, minus[0]) == [bits_of(1)] * 2 + [INF, 0]
    assert result_bits(core, LOG, 0, SIGN, INF, bits_of(1.0)) == [SIGN | INF] * 2 + [INF, 0]
    assert result_bits(core, LOG, *minus) == [NAN] * 3
    assert result_bits(core, TANH, 0, SIGN) == [0, SIGN]
    assert result_bits(core, TANH, INF, SIGN | INF) == [bits_of(1), bits_of(-1)]
    ends = [bits_of(0.5)] * 2 + [bits_of(1), 0]
    assert result_bits(core, SIGMOID, 0, SIGN, INF, minus[0]) == ends
    # The largest argument with a finite result, and the next.
    assert result_bits(core, EXP, 0x42B17217)[0] < INF
    assert result_bits(core, EXP, 0x42B17218) == [INF]


@EACH
@pytest.mark.parametrize("sign", [0, SIGN])
@pytest.mark.parametrize("payload", [1, 0x123456, 0x3FFFFF, 0x400000, 0x400001, 0x7FFFFF])
def test_nan_is_one_pattern(core, function, sign, payload):
    assert result_bits(core, function, sign | INF | payload) == [NAN]


def test_tanh_is_odd(core):
    stride = 4099
    count = (INF + 1) // stride
    positive = results(core, TANH, 0, stride, count).view(np.uint32)
    negative = results(core, TANH, SIGN, stride, count).view(np.uint32)
    np.testing.assert_array_equal(negative, positive | SIGN)


def test_tanh_stays_below_its_argument_and_one(core):
    stride = 4099
    count = (INF + 1) // stride
    y = results(core, TANH, 0, stride, count)
    assert (y <= np.minimum(arguments(0, stride, count), np.float32(1))).all()


@pytest.mark.parametrize("x", [2.0**-20, 0.04, 0.3, 0.75, 0.99, 1.0, 1.4, 6.0, 30.0, 88.0])
def test_exp_and_log_never_decrease(core, x):
    n = 1 << 15
    up = bits_of(x) - n // 2
    assert (np.diff(results(core, EXP, up, 1, n)) >= 0).all()
    assert (np.diff(results(core, EXP, SIGN | up, 1, n)) <= 0).all()  # to larger |x|
    assert (np.diff(results(core, LOG, up, 1, n)) >= 0).all()


@pytest.mark.parametrize("x", [2.0**-12, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 4.72, 6.0, 9.0])
def test_tanh_steps_back_by_one_float_at_most(core, x):
    n = 1 << 17
    y = results(core, TANH, bits_of(x) - n // 2, 1, n).view(np.int32)
    assert np.diff(y).min() >= -1


Function = Callable[[np.ndarray], np.ndarray]


def derive_rows(f: Function, edges: list[float], scale: float) -> Iterator[list[int]]:
    """Cubics that interpolate f at the Chebyshev nodes between successive edges.

    Their variable is the distance from the nearer end of the pair of rows, in widths of the pair.
    """
    for i in range(len(edges) - 1):
        low, high = edges[i], edges[i + 1]
        end, width = edges[i + i % 2], 2 * (high - low)

        def g(t, end=end, width=width):
            return f(end + width * t)

        domain = [(low - end) / width, (high - end) / width]
        cubic = Chebyshev.interpolate(g, 3, domain=domain)
        coefficients = cubic.convert(kind=Polynomial, domain=[-1, 1], window=[-1, 1]).coef
        yield [round(c * scale) for c in coefficients]


def log_curve(f: np.ndarray) -> np.ndarray:
    return (np.log1p(f) - f) / f**2


def derive_table(name: str) -> np.ndarray:
    if name == "exp":
        rows = derive_rows(np.exp2, [k / 16 for k in range(17)], 2.0**29)
        half_of_last_bit = 32
        return np.array(list(rows)) + np.array([half_of_last_bit, 0, 0, 0])
    if name == "log":
        return np.array(list(derive_rows(log_curve, [k / 16 for k in range(-4, 9)], 2.0**31)))
    edges = arguments(bits_of(0.25), 1 << 19, 83).astype(float).tolist()
    return np.array(list(derive_rows(np.tanh, edges, 2.0**31)))


def parse_table(name: str) -> np.ndarray:
    table = re.search(rf"\b{name}_rows\[\w+\]\[4\] = \{{(.*?)\n\}};", SOURCE.read_text(), re.DOTALL)
    assert table is not None
    rows = re.findall(r"\{([^{}]*)\}", table[1])
    return np.array([[int(c) for c in row.split(",")] for row in rows])


@pytest.mark.parametrize("name", ["exp", "log", "tanh"])
def test_tables_are_what_they_are_said_to_be(name):
    written, derived = parse_table(name), derive_table(name)
    assert written.shape == derived.shape
    # A coefficient next to a half may round the other way with another numpy.
    assert np.abs(written - derived).max() <= 1


@EACH
def test_checksum_is_that_of_the_results(core, function):
    walk = (0x3F000000, 65537, 5000)
    values = results(core, function, *walk).astype("<f4").tobytes()
    assert core.lib.tmf_math_crc(function, *walk) == zlib.crc32(values)


@EACH
def test_bits(core, function):
    """Results that change make past runs irreproducible, even where they are as accurate.

    A compiler that fuses multiply and add, or evaluates in double precision, shows here too.
    """
    stride = 4093
    checksums = {EXP: 0xB4486BAA, LOG: 0x9C0B9DEB, TANH: 0x1313121C, SIGMOID: 0xF2144BB2}
    assert core.lib.tmf_math_crc(function, 0, stride, ALL // stride) == checksums[function]
