"""Random numbers of many seeds at once are those of numpy's own generators."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from tinymetafed.tasks.seeding import uniforms

NUMBERS = st.integers(0, 2**80)
WORDS = st.integers(0, 2**32 - 1)


@given(
    st.lists(NUMBERS, min_size=1, max_size=3),
    st.lists(WORDS, min_size=1, max_size=5),
    st.integers(0, 40),
)
@example([0], [0], 1)
@example([2**64 - 1, 2**32], [2**32 - 1], 100)
def test_uniforms_are_numpy_s(seed: list[int], last: list[int], count: int):
    found = uniforms(seed, last, count)
    expected = [np.random.default_rng([*seed, one]).random(count) for one in last]
    assert np.array_equal(found, np.array(expected))
