"""What a processor executed where only the first halfwords of instructions are counted, as Renode
does, and what it comes to by a part of it that was traced."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .instructions import Branch, Instruction
from .profile import (
    COUNTED,
    ELSEWHERE,
    FALL_THROUGH,
    TO_A_HANDLER,
    WAYS,
    BlockCounts,
    Pricing,
    Profile,
)
from .timing import TimingTable

HALFWORDS = 1 << 16


@dataclass(frozen=True)
class Opcodes:
    """What first halfwords tell of an instruction's class.

    Attributes:
        patterns: bits of a first halfword ("0", "1", "x" for either); the first match counts.
        group: of each pattern, its place in `groups`.
        groups: classes that a first halfword leaves open; mostly a single one.
    """

    patterns: tuple[str, ...]
    group: tuple[int, ...]
    groups: tuple[frozenset[str], ...]

    @classmethod
    def of(cls, table: TimingTable) -> "Opcodes":
        """Of a table that has encodings."""
        encodings = [
            (text.replace(" ", ""), one.name) for one in table.classes for text in one.encodings
        ]
        encodings.append(("x" * 16, "other"))
        matches = np.array([_matches(text[:16]) for text, _ in encodings])
        # Halfwords that the same encodings match share a pattern: the bits that these ask for.
        kinds = {column.tobytes(): column for column in np.packbits(matches, axis=0).T}
        found: list[tuple[int, str, frozenset[str]]] = []
        for kind in kinds.values():
            mine = [encodings[i] for i in np.flatnonzero(np.unpackbits(kind))]
            found.append((len(mine), _meet([text[:16] for text, _ in mine]), _left_open(mine)))
        # What more encodings match lies within what fewer do, so it comes first.
        found.sort(key=lambda one: (-one[0], one[1]))
        groups = tuple(dict.fromkeys(classes for *_, classes in found))
        return cls(
            tuple(pattern for _, pattern, _ in found),
            tuple(groups.index(classes) for *_, classes in found),
            groups,
        )

    def find(self, halfword: int) -> int:
        """The group that an instruction is counted in, by its first halfword."""
        return next(
            group
            for (mask, value), group in zip(self._masks, self.group, strict=True)
            if halfword & mask == value
        )

    @cached_property
    def _masks(self) -> list[tuple[int, int]]:
        return [_mask(pattern) for pattern in self.patterns]

    def grouped(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """[..., patterns] to [..., groups]"""
        found = np.zeros((*counts.shape[:-1], len(self.groups)), np.int64)
        for i, group in enumerate(self.group):
            found[..., group] += counts[..., i]
        return found


def _mask(pattern: str) -> tuple[int, int]:
    """The bits that it asks for, and what for."""
    asked = "".join("0" if bit == "x" else "1" for bit in pattern)
    return int(asked, 2), int(pattern.replace("x", "0"), 2)


def _matches(pattern: str) -> NDArray[np.bool_]:
    """bool [HALFWORDS]"""
    mask, value = _mask(pattern)
    return np.arange(HALFWORDS) & mask == value


def _meet(patterns: list[str]) -> str:
    places = zip(*patterns, strict=True)
    return "".join(next((bit for bit in place if bit != "x"), "x") for place in places)


def _left_open(encodings: list[tuple[str, str]]) -> frozenset[str]:
    """Classes up to the first that no second halfword rules out."""
    found: set[str] = set()
    for text, name in encodings:
        found.add(name)
        if not text[16:].strip("x"):
            break
    return frozenset(found)


@dataclass(frozen=True)
class OpcodeCounts:
    """How often instructions were executed, since the program's start.

    One that an IT block decides is counted where it was executed, in its own class.

    Attributes:
        counts: int64 [phases, groups], see Opcodes.
        lost: what is not counted; nothing.
    """

    counts: NDArray[np.int64]
    lost: int = 0

    def since(self, before: "OpcodeCounts") -> "OpcodeCounts | None":
        """The difference; None where a count has gone back, so that this is not the same program
        going on."""
        difference = self.counts - before.counts
        return None if difference.min(initial=0) < 0 else OpcodeCounts(difference)

    @property
    def moved(self) -> bool:
        """Anything was executed."""
        return bool(self.counts.any())


class TracedPricing:
    """Counts of opcodes to profiles, by what was traced of the same program.

    In each phase, the classes that a first halfword leaves open are shared out as in the trace, and
    cycles are those of the trace, as many times as instructions are. All nodes with the same
    program should share one.
    """

    def __init__(self, pricing: Pricing) -> None:
        self.pricing = pricing
        self.opcodes = Opcodes.of(pricing.timings[0].encodings)
        self._traced: Profile | None = None
        phases, groups = len(pricing.phases), len(self.opcodes.groups)
        self._counted = np.zeros((phases, groups), np.int64)
        self._shares = np.zeros((phases, groups, len(COUNTED)), np.int64)
        self._possible = np.array(
            [
                [int(name.removesuffix(" taken").removesuffix(" not") in group) for name in COUNTED]
                for group in self.opcodes.groups
            ]
        )

    def add(self, blocks: BlockCounts, counted: OpcodeCounts) -> None:
        """A piece of a node's work, traced and counted."""
        profile = self.pricing.profile(blocks)
        self._traced = profile if self._traced is None else self._traced + profile
        self._counted += counted.counts
        shares, left = np.zeros_like(self._shares), blocks.left
        for i, (start, end) in enumerate(zip(blocks.starts, blocks.ends, strict=True)):
            for way in np.flatnonzero(left[:, i].any(axis=0)):
                for one, column in self.pricing.executed(int(start), int(end), int(way)):
                    shares[:, self._group(one), column] += left[:, i, way]
        # Of those that an IT block decides a trace has all, the counters what was executed.
        decided = COUNTED.index("conditional")
        shares[:, :, decided] = 0
        shares[:, :, decided] = np.maximum(counted.counts - shares.sum(axis=2), 0)
        self._shares += shares

    def _group(self, one: Instruction) -> int:
        first = self.pricing.program.code(one.address, one.address + 2)
        return self.opcodes.find(int.from_bytes(first, "little"))

    def profiles(self, counts: Sequence[OpcodeCounts]) -> list[Profile | None]:
        """See Pricer."""
        return [self.profile(one) for one in counts]

    def profile(self, counts: OpcodeCounts) -> Profile | None:
        """What they come to; None before anything was traced."""
        traced = self._traced
        if traced is None:
            return None
        shares = _or(_or(self._shares, self._shares.sum(axis=0)), self._possible)
        # Whole numbers that add up to what was counted.
        edges = np.cumsum(shares, axis=2) / shares.sum(axis=2, keepdims=True)
        ends = np.rint(edges * counts.counts[:, :, None]).astype(np.int64)
        classes = np.diff(ends, axis=2, prepend=0).sum(axis=1)
        counted = self._counted.sum(axis=1, keepdims=True)
        times = counts.counts.sum(axis=1, keepdims=True) / _or(counted, counted.sum(axis=0))
        cycles = {
            core: np.rint(_or(figures, figures.sum(axis=0)) * times).astype(np.int64)
            for core, figures in traced.cycles.items()
        }
        return Profile(traced.phases, classes, cycles)


def _or(figures: NDArray[np.int64], instead: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the last axis; another where one has nothing."""
    return np.where(figures.any(axis=-1, keepdims=True), figures, instead)


def traced_blocks(pricing: Pricing, addresses: NDArray[np.uint32], phase: int) -> BlockCounts:
    """The blocks of a trace, and how often each was left.

    addresses: uint32 [n], of instructions one after the other; those that an IT block decides are
    there whether they were executed or not. A conditional branch right behind an IT block may be
    left out: Renode 1.16 writes what LLVM decodes, which it asks once for each halfword pair, so
    that LLVM may take such a branch for one in the IT block, where none may be. phase: the one that
    it begins in, an index.
    """
    program = pricing.program
    behind, branches = _decoded(pricing, addresses)
    jumps = ~branches[:-1] & (addresses[1:] != behind[:-1])
    left_out = np.flatnonzero(jumps & ~np.isin(addresses[1:], program.handlers))
    if len(left_out):
        addresses = np.insert(addresses, left_out + 1, behind[left_out])
        behind, branches = _decoded(pricing, addresses)
    to = np.append(addresses[1:], np.uint32(0))
    ends = np.flatnonzero(branches | (to != behind))
    begins = np.append(0, ends[:-1] + 1)

    ways = np.full(len(ends), ELSEWHERE)
    ways[to[ends] == behind[ends]] = FALL_THROUGH
    ways[np.isin(to[ends], program.handlers)] = TO_A_HANDLER

    numbers = np.zeros(len(addresses), np.int64)  # of the phase that an instruction begins
    for number, address in enumerate(program.phases.values(), 1):
        numbers[addresses == address] = number
    numbers[0] = numbers[0] or phase
    latest = np.maximum.accumulate(np.where(numbers > 0, np.arange(len(numbers)), 0))

    spans = addresses[begins].astype(np.uint64) << 32 | behind[ends]
    blocks, block = np.unique(spans, return_inverse=True)
    left = np.zeros((len(pricing.phases), len(blocks), WAYS), np.int64)
    np.add.at(left, (numbers[latest[begins]], block, ways), 1)
    none = np.zeros(len(pricing.phases), np.int64)
    return BlockCounts.of(
        (blocks >> 32).astype(np.uint32), blocks.astype(np.uint32), left, none, lost=0
    )


def _decoded(
    pricing: Pricing, addresses: NDArray[np.uint32]
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Of the instruction at each: the address behind it, and whether it may branch."""
    known, which = np.unique(addresses, return_inverse=True)
    instructions = [pricing.instruction(address) for address in known.tolist()]
    sizes = np.array([one.size for one in instructions], np.uint32)
    branches = np.array([one.branch != Branch.NEVER for one in instructions])
    return addresses + sizes[which], branches[which]
