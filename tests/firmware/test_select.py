"""The selection of the largest entries, bit by bit."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings
from numpy.typing import NDArray

from reference import select_top

FLOAT32, FLOAT16, INT8 = range(3)
EXAMPLES = settings(deadline=None, derandomize=True, max_examples=200)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
SUBNORMAL = 2.0**-149
# Few values, so that there are ties; neighbours that differ in one byte of their bits only.
TIES = st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 1 + 2.0**-23, 1 + 2.0**-15, 1 + 2.0**-7, SUBNORMAL, -SUBNORMAL, 3e38]
)
VALUES = st.lists(FINITE, max_size=50) | st.lists(TIES, max_size=50)


def marked(core, values: NDArray[np.float32], keep: int) -> list[int]:
    """The indices of the entries that tmf_select marks, by the rule in tmf_select.h: the host's and
    the nodes'."""
    found: list[list[int]] = []
    for select in (core.lib.tmf_select, core.lib.tmf_probe_select):
        selection = core.ffi.new("struct tmf_selection *")
        assert select(pointer(core, values), len(values), keep, selection)
        assert selection.format.values == FLOAT32
        found.append(marks_of(selection, values).tolist())
    assert found[0] == found[1]
    return found[0]


def marks_of(selection, values: NDArray[np.float32]) -> NDArray[np.intp]:
    magnitudes = values.view(np.uint32) & 0x7FFF_FFFF
    ties = (magnitudes == selection.threshold) & (np.arange(len(values)) < selection.ties_end)
    indices = np.flatnonzero((magnitudes > selection.threshold) | ties)
    assert selection.marked == len(indices)
    return indices


def pointer(core, values: NDArray[np.float32]):
    return (
        core.ffi.new("float[]", 1) if not len(values) else core.ffi.from_buffer("float[]", values)
    )


def check(core, values: NDArray[np.float32], keep: int) -> None:
    before = values.tobytes()
    assert marked(core, values, keep) == select_top(values.astype(np.float64), keep).tolist()
    assert values.tobytes() == before


@EXAMPLES
@given(VALUES, st.integers(0, 60))
@example([], 0)
@example([], 3)
@example([0.0, -0.0], 2)
@example([SUBNORMAL, -SUBNORMAL], 1)
def test_the_marked_entries_are_those_of_the_reference(core, values, keep):
    check(core, np.array(values, np.float32), keep)


@EXAMPLES
@given(VALUES)
def test_any_number_of_entries_may_be_kept(core, values):
    array = np.array(values, np.float32)
    for keep in [*range(len(values) + 2), 2**32 - 1]:
        check(core, array, keep)


@EXAMPLES
@given(FINITE, st.integers(1, 300), st.integers(0, 310))
def test_of_equal_magnitudes_the_lower_indices_are_marked(core, value, n, keep):
    signs = np.where(np.arange(n) % 3 == 0, -1, 1)
    array = (np.float32(value) * signs).astype(np.float32)
    assert marked(core, array, keep) == (list(range(min(keep, n))) if value else [])


@EXAMPLES
@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.floats(0, 1))
def test_long_vectors_with_ties_in_any_byte(core, seed, n, share):
    rng = np.random.default_rng(seed)
    mask = rng.choice(np.array([0xFFFF_FFFF, 0xFF80_0000, 0xBF80_FF00, 0x8000_0007], np.uint32))
    bits = rng.integers(0, 2**32, n, dtype=np.uint32) & mask
    finite = np.where(bits & 0x7F80_0000 == 0x7F80_0000, bits & 0x807F_FFFF, bits)
    check(core, finite.view(np.float32), round(share * n))


@EXAMPLES
@given(
    st.lists(FINITE, max_size=20),
    st.integers(0, 20),
    st.integers(0x7F80_0000, 0x7FFF_FFFF),  # infinity and every NaN
    st.booleans(),
    st.integers(0, 25),
)
def test_a_value_that_is_not_finite_is_refused_wherever_it_is(
    core, values, place, bits, negative, keep
):
    bad = np.array([bits | negative << 31], np.uint32).view(np.float32)
    array = np.insert(np.array(values, np.float32), min(place, len(values)), bad)
    selection = core.ffi.new("struct tmf_selection *")
    for select in (core.lib.tmf_select, core.lib.tmf_probe_select):
        assert not select(pointer(core, array), len(array), keep, selection)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_largest_float_is_larger_than_the_next(core, keep):
    largest = np.finfo(np.float32).max
    array = np.array([np.nextafter(largest, np.float32(0)), -largest, largest], np.float32)
    assert marked(core, array, keep) == sorted([1, 2, 0][:keep])


@EXAMPLES
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(0, 310),
    st.sampled_from([FLOAT16, INT8]), st.floats(0, 3),
)  # fmt: skip
def test_what_would_become_zero_is_not_marked(core, seed, n, keep, values, spread):
    """Of the `keep` largest, those are marked whose code stands for something."""
    rng = np.random.default_rng(seed)
    exponents = rng.normal(-24 if values == FLOAT16 else 0, 1 + 4 * spread, n)
    array = (rng.choice([-1, 1, 0], n) * 2 ** np.round(exponents, 1)).astype(np.float32)
    selection = core.ffi.new("struct tmf_selection *")
    floats = pointer(core, array)
    assert core.lib.tmf_select(floats, n, keep, selection)
    core.lib.tmf_select_format(floats, n, values, selection)
    nodes = core.ffi.new("struct tmf_selection *")
    assert core.lib.tmf_probe_select(floats, n, keep, nodes)
    core.lib.tmf_select_format(floats, n, values, nodes)
    assert marks_of(nodes, array).tolist() == marks_of(selection, array).tolist()
    form = core.ffi.new("struct tmf_format *", selection.format)
    assert form.values == values
    codes = [core.lib.tmf_format_code(form, value) & 0x7FFF for value in array.tolist()]
    chosen = select_top(array.astype(np.float64), keep)
    assert marks_of(selection, array).tolist() == [i for i in chosen if codes[i]]
