"""Random numbers of many seeds at once: what numpy.random.default_rng draws of each of them.

The words of numpy's SeedSequence and the states of PCG64 are computed for all seeds together; both
are fixed by numpy's policy on streams (NEP 19).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Constants of numpy/random/bit_generator.pyx (Melissa O'Neill's seed_seq_fe).
_INIT_A, _MULT_A = 0x43B0D7E5, 0x931E8875
_INIT_B, _MULT_B = 0x8B51F9DD, 0x58F38DED
_MIX_L, _MIX_R = 0xCA01F9DD, 0x4973F715
_SHIFT, _POOL, _MASK32 = 16, 4, 0xFFFFFFFF
# Of PCG64's linear congruential generator.
_MULTIPLIER, _MASK64, _MASK128 = 0x2360ED051FC65DA44385DF649FCCF645, (1 << 64) - 1, (1 << 128) - 1

Words = NDArray[np.uint32]
Wide = tuple[NDArray[Any], NDArray[Any]]
"""Numbers of 128 bits: the upper halves and the lower ones, uint64."""


class _Hash:
    """A hash whose constant changes with every word."""

    def __init__(self) -> None:
        self._constant = _INIT_A

    def __call__(self, value: Words) -> Words:
        value = value ^ np.uint32(self._constant)
        self._constant = self._constant * _MULT_A & _MASK32
        value = value * np.uint32(self._constant)
        return value ^ (value >> np.uint32(_SHIFT))


def _mix(x: Words, y: Words) -> Words:
    result = x * np.uint32(_MIX_L) - y * np.uint32(_MIX_R)
    return result ^ (result >> np.uint32(_SHIFT))


def _pool(entropy: Sequence[Words]) -> list[Words]:
    """SeedSequence.mix_entropy of each column of the words."""
    hashed, zero = _Hash(), np.zeros_like(entropy[0])
    pool = [hashed(entropy[i] if i < len(entropy) else zero) for i in range(_POOL)]
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                pool[target] = _mix(pool[target], hashed(pool[source]))
    for word in entropy[_POOL:]:
        for target in range(_POOL):
            pool[target] = _mix(pool[target], hashed(word))
    return pool


def _words(number: int) -> list[int]:
    """A number in words of 32 bits, the lowest first."""
    words = [number & _MASK32]
    while number := number >> 32:
        words.append(number & _MASK32)
    return words


def _add(x: Wide, y: Wide) -> Wide:
    """Modulo 2^128."""
    low = x[1] + y[1]
    return x[0] + y[0] + (low < x[1]), low


def _multiply(x: Wide, y: Wide) -> Wide:
    """Modulo 2^128."""
    (high_x, low_x), (high_y, low_y) = x, y
    a, b, c, d = low_x >> 32, low_x & _MASK32, low_y >> 32, low_y & _MASK32
    ad, bc = a * d, b * c
    carry = (b * d >> 32) + (ad & _MASK32) + (bc & _MASK32)
    high = a * c + (ad >> 32) + (bc >> 32) + (carry >> 32)
    return high + high_x * low_y + low_x * high_y, low_x * low_y


@lru_cache(maxsize=64)
def _jumps(count: int) -> tuple[Wide, Wide]:
    """How PCG64's state after its start and 1 … `count` steps is made of what it starts from: by
    its factor and the increment's, [count] each."""
    factor, increment = _MULTIPLIER, 1
    factors, increments = [], []
    for _ in range(count):
        increment = (increment * _MULTIPLIER + 1) & _MASK128
        factor = factor * _MULTIPLIER & _MASK128
        factors.append(factor)
        increments.append(increment)
    return _halves(factors), _halves(increments)


def _halves(numbers: Sequence[int]) -> Wide:
    high, low = [one >> 64 for one in numbers], [one & _MASK64 for one in numbers]
    return np.array(high, np.uint64), np.array(low, np.uint64)


def uniforms(seed: Sequence[int], last: Sequence[int], count: int) -> NDArray[np.float64]:
    """default_rng([*seed, one]).random(count) for each of `last`, below 2³²: float64 [last,
    count]."""
    common = [word for number in seed for word in _words(number)]
    ends = np.asarray(last, np.uint32)
    columns = [*(np.full(len(ends), word, np.uint32) for word in common), ends]
    pool = _pool(columns)
    constant, words = _INIT_B, []
    for i in range(2 * _POOL):
        value = pool[i % _POOL] ^ np.uint32(constant)
        constant = constant * _MULT_B & _MASK32
        value = value * np.uint32(constant)
        words.append((value ^ (value >> np.uint32(_SHIFT))).astype(np.uint64)[:, np.newaxis])
    a, b, c, d, e, f, g, h = words
    start, (high, low) = (b << 32 | a, d << 32 | c), (f << 32 | e, h << 32 | g)
    increment = high << 1 | low >> 63, low << 1 | 1
    factors, increments = _jumps(count)
    high, low = _add(_multiply(_add(start, increment), factors), _multiply(increment, increments))
    value, turn = high ^ low, high >> 58
    value = value >> turn | value << (64 - turn & 63)
    return (value >> 11).astype(np.float64) * 2.0**-53
