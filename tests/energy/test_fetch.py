"""The fetch unit: cycles are counted from the first instruction's earliest."""

import hypothesis.strategies as st
from hypothesis import given

from tinymetafed.energy.fetch import FetchUnit

WORDS, RESTART = 3, 1


def _begin(
    sizes: list[int], cycles: list[int], first: int = 0, words: int = WORDS, restart: int = RESTART
) -> list[int]:
    """When each instruction begins, of these sizes and cycles, and when the last has ended."""
    unit = FetchUnit(first, words, restart)
    begun: list[int] = []
    address, ended = first, 0
    for size, taken in zip(sizes, cycles, strict=True):
        ended = max(ended, unit.ready(address, size))
        unit.executed(address, size, ended)
        begun.append(ended)
        address, ended = address + size, ended + taken
    return [*begun, ended]


def test_one_word_a_cycle_is_enough():
    assert _begin([4] * 6, [1] * 6) == [0, 1, 2, 3, 4, 5, 6]
    assert _begin([2] * 6, [1] * 6) == [0, 1, 2, 3, 4, 5, 6]


def test_a_branch_to_an_instruction_in_two_words_waits_for_the_second():
    assert _begin([4] * 6, [1] * 6, first=2) == [1, 2, 3, 4, 5, 6, 7]
    assert _begin([2, 4, 4], [1] * 3, first=2) == [0, 1, 2, 3]


def test_the_third_in_two_words_waits_after_a_full_queue():
    """However many follow, it is once."""
    for more in range(6):
        sizes = [4, 2, *[4] * more]
        assert _begin(sizes, [3, 1, *[1] * more])[-1] == 4 + more + (more >= 3)
    assert _begin([4, *[4] * 5], [3, *[1] * 5])[-1] == 8  # in one word each: none


def test_a_queue_that_16_bit_instructions_filled_goes_on_at_once():
    """However many are before those in two words."""
    for before in range(1, 12, 2):
        assert _begin([2] * before + [4] * 8, [1] * (before + 8))[-1] == before + 8
    # One of several cycles before them; those of 16 bits in between make up for it.
    assert _begin([4, 4, 2, 2, 2, *[4] * 8], [5, *[1] * 12])[-1] == 17


def test_a_conditional_branch_takes_a_slot():
    """The word that would have been asked for comes a cycle later. Only instructions of 32 bits
    need it at once."""
    for size, waits in ((4, 1), (2, 0)):
        unit = FetchUnit(0, WORDS, RESTART)
        ended = 0
        for i in range(6):
            begun = max(ended, unit.ready(size * i, size))
            unit.executed(size * i, size, begun)
            if i == 2:
                unit.speculated(begun)
            ended = begun + 1
        assert ended == 6 + waits


INSTRUCTIONS = st.lists(st.tuples(st.sampled_from([2, 4]), st.integers(1, 5)), min_size=1)


@given(INSTRUCTIONS, st.sampled_from([0, 2]))
def test_more_room_is_never_slower_and_none_is_lost(code: list[tuple[int, int]], first: int):
    sizes, cycles = [size for size, _ in code], [taken for _, taken in code]
    alone = sum(cycles)
    ended = [_begin(sizes, cycles, first, words)[-1] for words in (3, 4, 64)]
    assert ended == sorted(ended, reverse=True)
    # A full queue that never makes one wait leaves what the first instruction waits for.
    assert alone <= ended[-1] <= alone + 1
    assert ended[0] <= alone + 1 + len(code)
