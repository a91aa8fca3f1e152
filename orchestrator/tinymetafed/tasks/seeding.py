"""Many random generators at once: what numpy.random.default_rng makes of each of several seeds.

The words of numpy's SeedSequence and PCG64's start are computed for all seeds together; both are
fixed by numpy's policy on streams (NEP 19). One generator is then set to each start in turn, which
takes a tenth of the time that making one takes.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# Constants of numpy/random/bit_generator.pyx (Melissa O'Neill's seed_seq_fe).
_INIT_A, _MULT_A = 0x43B0D7E5, 0x931E8875
_INIT_B, _MULT_B = 0x8B51F9DD, 0x58F38DED
_MIX_L, _MIX_R = 0xCA01F9DD, 0x4973F715
_SHIFT, _POOL, _MASK32 = 16, 4, 0xFFFFFFFF
# Of PCG64's linear congruential generator.
_MULTIPLIER, _MASK128 = 0x2360ED051FC65DA44385DF649FCCF645, (1 << 128) - 1

Words = NDArray[np.uint32]


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


def generators(seed: Sequence[int], last: Sequence[int]) -> Iterator[np.random.Generator]:
    """default_rng([*seed, one]) for each of `last`, below 2³². It is the same object each time, to
    be used before the next."""
    common = [word for number in seed for word in _words(number)]
    ends = np.asarray(last, np.uint32)
    columns = [*(np.full(len(ends), word, np.uint32) for word in common), ends]
    pool = _pool(columns)
    constant, words = _INIT_B, []
    for i in range(2 * _POOL):
        value = pool[i % _POOL] ^ np.uint32(constant)
        constant = constant * _MULT_B & _MASK32
        value = value * np.uint32(constant)
        words.append((value ^ (value >> np.uint32(_SHIFT))).tolist())
    bits = np.random.PCG64(0)
    generator = np.random.Generator(bits)
    for a, b, c, d, e, f, g, h in zip(*words, strict=True):
        start = b << 96 | a << 64 | d << 32 | c
        increment = ((f << 96 | e << 64 | h << 32 | g) << 1 | 1) & _MASK128
        state = ((increment + start) * _MULTIPLIER + increment) & _MASK128
        bits.state = {
            "bit_generator": "PCG64", "state": {"state": state, "inc": increment},
            "has_uint32": 0, "uinteger": 0,
        }  # fmt: skip
        yield generator
