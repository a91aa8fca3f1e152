"""What a processor executed: instructions by class, and their cycles, by phase."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from .decoding import decode
from .instructions import CLASSES, LONGEST, Branch, Instruction
from .program import Program
from .timing import READINGS, Timing

WAYS = 3
FALL_THROUGH, ELSEWHERE, TO_A_HANDLER = range(WAYS)
"""Ways in which a block is left: to the instruction after it; to another place; by an exception (or
a call) to the beginning of an exception's handler."""

COUNTED = (
    *(name for name in CLASSES if name != "branch"),
    "branch taken", "branch not taken", "conditional", "exception",
)  # fmt: skip
"""Columns of a profile: classes of instructions, branches by what became of them. "conditional" has
those of any class whose execution an IT block decided; "exception" counts entries to handlers,
which are no instructions."""

INSTRUCTIONS = tuple(name for name in COUNTED if name != "exception")
_ARE_INSTRUCTIONS = [COUNTED.index(name) for name in INSTRUCTIONS]

FOUND = 1000
"""Lists of blocks whose rows in the table of prices are kept, at most."""

AT_ONCE = 16
"""Counts that are priced together, at most: what they are of is as large as that."""

CONTEXT = 6
"""Instructions after a block that its price looks at, at most: up to one that may branch. The fetch
unit's queue of three words has no more."""

PHASE = 32
"""Bits of a place in BlockCounts below its phase."""

FIRST_PHASE = "start"
"""From reset until the program enters a phase."""


@dataclass(frozen=True)
class Profile:
    """
    Attributes:
        phases: names.
        counts: int64 [phases, COUNTED].
        cycles: by core, int64 [phases, READINGS].
    """

    phases: tuple[str, ...]
    counts: NDArray[np.int64]
    cycles: dict[str, NDArray[np.int64]]

    @property
    def instructions(self) -> NDArray[np.int64]:
        """int64 [phases]"""
        return self.counts[:, _ARE_INSTRUCTIONS].sum(axis=1)

    def __add__(self, other: "Profile") -> "Profile":
        if self.phases != other.phases:
            raise ValueError("profiles of programs with other phases")
        cycles = {core: self.cycles[core] + other.cycles[core] for core in self.cycles}
        return Profile(self.phases, self.counts + other.counts, cycles)


class Counts(Protocol):
    """What a backend has counted of a node since its program's start."""

    @property
    def lost(self) -> int:
        """What was executed and is not known; nothing can be said where that is not 0."""
        ...

    @property
    def moved(self) -> bool:
        """Anything was executed."""
        ...

    def since(self, before: Self) -> Self | None:
        """The difference; None where this is not the same program going on."""
        ...


@dataclass(frozen=True)
class BlockCounts:
    """How often a program's blocks were executed, since its start.

    A block is instructions that follow each other, of which only the last can branch. In a phase
    most blocks are not executed: only what is not zero is there.

    Attributes:
        starts, ends: uint32 [blocks], addresses; no block is there twice.
        places: int64 [n], ascending: phase · 2³² + block · WAYS + way in which it was left.
        times: int64 [n], how often each was left so.
        unaligned: int64 [phases], cycles that unaligned loads took more, where they were counted.
        lost: blocks executed of which nothing else is known.
    """

    starts: NDArray[np.uint32]
    ends: NDArray[np.uint32]
    places: NDArray[np.int64]
    times: NDArray[np.int64]
    unaligned: NDArray[np.int64]
    lost: int

    @classmethod
    def of(
        cls,
        starts: NDArray[np.uint32],
        ends: NDArray[np.uint32],
        left: NDArray[np.integer[Any]],
        unaligned: NDArray[np.int64],
        lost: int,
    ) -> "BlockCounts":
        """left: [phases, blocks, WAYS], how often each was left, by the way it was."""
        rows = [row.reshape(-1) for row in left]
        where = [np.flatnonzero(row != 0) for row in rows]
        places = np.concatenate([(phase << PHASE) + one for phase, one in enumerate(where)])
        times = np.concatenate([row[one] for row, one in zip(rows, where, strict=True)])
        return cls(starts, ends, places, times.astype(np.int64), unaligned, lost)

    @property
    def left(self) -> NDArray[np.int64]:
        """int64 [phases, blocks, WAYS], with its zeros."""
        left = np.zeros((len(self.unaligned), len(self.starts), WAYS), np.int64)
        left.reshape(len(left), -1)[self.split] = self.times
        return left

    @property
    def split(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The places as phases, and as block · WAYS + way, int64 [n] each."""
        return self.places >> PHASE, self.places & (1 << PHASE) - 1

    def since(self, before: "BlockCounts") -> "BlockCounts | None":
        """The difference; None where a count has gone back or a block is gone, so that this is not
        the same program going on."""
        if not np.array_equal(self.starts[: len(before.starts)], before.starts):
            return None
        times = self.times.copy()
        if np.array_equal(self.places, before.places):  # as most often
            times -= before.times
        else:
            at = np.searchsorted(self.places, before.places)
            if not np.array_equal(self.places.take(at, mode="clip"), before.places):
                return None
            times[at] -= before.times
        unaligned = self.unaligned - before.unaligned
        lost = self.lost - before.lost
        if times.min(initial=0) < 0 or unaligned.min(initial=0) < 0 or lost < 0:
            return None
        some = times != 0
        return BlockCounts(self.starts, self.ends, self.places[some], times[some], unaligned, lost)

    @property
    def moved(self) -> bool:
        """Anything was executed."""
        return len(self.places) > 0


class Pricer(Protocol):
    """Makes profiles of a backend's counts."""

    def profiles(self, counts: Sequence[Any]) -> Sequence[Profile | None]:
        """What each of the counts comes to; None where that is not known yet."""
        ...


class Pricing:
    """A program and the cores that it is priced for: counts of blocks to profiles.

    It remembers what it has priced, so all nodes with the same program should share one.
    """

    def __init__(
        self,
        program: Program,
        timings: Sequence[Timing],
        memories: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        """memories: see decode."""
        self.program = program
        self._memories = memories
        self.timings = tuple(timings)
        self.phases = (FIRST_PHASE, *program.phases)
        self._handlers = set(program.handlers)
        self._instructions: dict[int, Instruction] = {}  # by address
        self._first: dict[tuple[int, int], int] = {}  # rows of blocks, by their starts and ends
        # float64 [blocks · ways, COUNTED and cycles], what each block comes to by each way that it
        # is left. In float64 a product of matrices is fast; it is exact below 2^53.
        columns = len(COUNTED) + len(self.timings) * len(READINGS)
        self._table = np.empty((0, columns))
        self._found: dict[bytes, NDArray[np.intp]] = {}  # by _rows_of

    def profile(self, counts: BlockCounts) -> Profile:
        """What the blocks come to."""
        return self.profiles([counts])[0]

    def profiles(self, counts: Sequence[BlockCounts]) -> list[Profile]:
        """What the blocks come to, of each; together, so that the prices are read once for all."""
        found: list[Profile] = []
        for first in range(0, len(counts), AT_ONCE):
            found += self._profiles(counts[first : first + AT_ONCE])
        return found

    def _profiles(self, counts: Sequence[BlockCounts]) -> list[Profile]:
        split = [one.split for one in counts]
        rows = [self._rows_of(one)[place] for one, (_, place) in zip(counts, split, strict=True)]
        # Of the table only what was executed.
        some = np.zeros(len(self._table), np.bool_)
        for mine in rows:
            some[mine] = True
        column = np.cumsum(some) - 1
        left = np.zeros((len(counts), len(self.phases), np.count_nonzero(some)))
        for i, (one, (phase, _), mine) in enumerate(zip(counts, split, rows, strict=True)):
            left[i, phase, column[mine]] = one.times
        # Each by itself: one large product is shared out among threads that wait for each other,
        # which takes a hundred times as long on a busy machine.
        totals = np.rint(left @ self._table[some]).astype(np.int64)
        return [self._made(*one) for one in zip(totals, counts, strict=True)]

    def _made(self, totals: NDArray[np.int64], counts: BlockCounts) -> Profile:
        """totals: int64 [phases, COUNTED and cycles]"""
        shape = len(self.phases), len(self.timings), len(READINGS)
        cycles = totals[:, len(COUNTED) :].reshape(shape)
        if counts.unaligned.any():
            more = [timing.table.sequence.unaligned_load.cycles for timing in self.timings]
            cycles = cycles + counts.unaligned[:, None, None] * np.array(more)
        names = [timing.name for timing in self.timings]
        by_core = dict(zip(names, cycles.swapaxes(0, 1), strict=True))
        return Profile(self.phases, totals[:, : len(COUNTED)], by_core)

    def functions(self, counts: BlockCounts) -> dict[str, Profile]:
        """The profile of each function by itself, without those that it calls."""
        starts = counts.starts.tolist()
        names = [self.program.function_at(start) or f"{start:#x}" for start in starts]
        of_place = np.array(names, np.object_)[counts.split[1] // WAYS]
        found: dict[str, Profile] = {}
        for name in dict.fromkeys(names):
            mine = of_place == name
            places, times = counts.places[mine], counts.times[mine]
            none = np.zeros_like(counts.unaligned)
            found[name] = self.profile(
                BlockCounts(counts.starts, counts.ends, places, times, none, lost=0)
            )
        return found

    def instruction(self, address: int) -> Instruction:
        """The one there, seen by itself: not as what an IT block makes of it."""
        code = self.program.code(address, address + LONGEST)
        return decode(code, address, self.timings[0].classify)[0]

    def _rows_of(self, counts: BlockCounts) -> NDArray[np.intp]:
        """Of the table, [blocks · WAYS]. A program soon executes no new blocks, so that what was
        found once is found again."""
        key = counts.starts.tobytes() + counts.ends.tobytes()
        if key not in self._found:
            blocks = list(zip(counts.starts.tolist(), counts.ends.tolist(), strict=True))
            new = [block for block in blocks if block not in self._first]
            self._first |= {block: len(self._table) + WAYS * i for i, block in enumerate(new)}
            self._table = np.concatenate([self._table, *(self._price(*one) for one in new)])
            if len(self._found) == FOUND:
                self._found.clear()
            first = np.array([self._first[block] for block in blocks], np.intp)
            self._found[key] = (first[:, np.newaxis] + np.arange(WAYS)).reshape(-1)
        return self._found[key]

    def executed(self, start: int, end: int, way: int) -> list[tuple[Instruction, int]]:
        """The instructions of a block that is left in this way, and their places in COUNTED."""
        block, _ = self._around(start, end)
        return [(one, self._column(one, way)) for one in block]

    def _price(self, start: int, end: int) -> NDArray[np.int64]:
        """int64 [ways, COUNTED and cycles]: what a block comes to, by the way it is left."""
        block, after = self._around(start, end)
        counts = np.stack([self._counts(block, way) for way in range(WAYS)])
        cycles = [self._cycles(timing, block, after) for timing in self.timings]
        return np.concatenate([counts, *cycles], axis=1)

    def _around(self, start: int, end: int) -> tuple[list[Instruction], list[Instruction]]:
        """The instructions of a block, and those behind it that its price looks at."""
        if (seen := self._seen(start, end)) is not None:
            return seen
        code = self.program.code(start, end + CONTEXT * LONGEST)
        everything = [
            # As it was first seen: what lies behind a block was decoded with its IT instruction.
            self._instructions.setdefault(one.address, one)
            for one in decode(code, start, self.timings[0].classify, self._memories)
        ]
        block = [one for one in everything if one.address < end]
        return block, _to_a_branch(everything[len(block) :][:CONTEXT])

    def _seen(self, start: int, end: int) -> tuple[list[Instruction], list[Instruction]] | None:
        """What _around returns, where all of it was decoded before: blocks overlap."""
        block: list[Instruction] = []
        after: list[Instruction] = []
        address = start
        while len(after) < CONTEXT:
            one = self._instructions.get(address)
            if one is None:
                return None
            (block if address < end else after).append(one)
            address += one.size
        return block, _to_a_branch(after)

    def _called(self, last: Instruction) -> bool:
        """It is a handler that the block calls, so no exception comes in between."""
        return last.target in self._handlers

    def _counts(self, block: list[Instruction], way: int) -> NDArray[np.int64]:
        found = np.zeros(len(COUNTED), np.int64)
        for one in block:
            found[self._column(one, way)] += 1
        if way == TO_A_HANDLER and not (block and self._called(block[-1])):
            found[COUNTED.index("exception")] += 1
        return found

    def _column(self, one: Instruction, way: int) -> int:
        name = one.name
        if one.conditional:
            name = "conditional"
        elif name == "branch":
            name = "branch taken" if self._taken(one, way) else "branch not taken"
        return COUNTED.index(name)

    def _taken(self, last: Instruction, way: int) -> bool:
        if way == TO_A_HANDLER:  # before it came to an exception, what had it decided? Not seen
            return self._called(last) or last.branch == Branch.ALWAYS
        return way == ELSEWHERE or last.branch == Branch.ALWAYS

    def _cycles(
        self, timing: Timing, block: list[Instruction], after: list[Instruction]
    ) -> NDArray[np.int64]:
        """int64 [ways, READINGS]"""
        rules = timing.table.sequence
        alone = timing.cycles(block)
        # What begins the next block and lies right behind this one was priced there as if a branch
        # had led to it; here it is put right.
        behind = alone
        if after and (not block or block[-1].branch != Branch.ALWAYS):
            behind = timing.cycles([*block, *after]) - timing.cycles(after)
        found = np.stack([behind, alone, alone])
        if block and block[-1].branch != Branch.NEVER:
            for way in range(WAYS):
                if self._taken(block[-1], way):
                    found[way] += timing.taken(block)
        if not (block and self._called(block[-1])):
            found[TO_A_HANDLER] += np.array(rules.exception.cycles)
        return found


def _to_a_branch(instructions: list[Instruction]) -> list[Instruction]:
    """The first ones, up to one that may branch."""
    branches = (i for i, one in enumerate(instructions, 1) if one.branch != Branch.NEVER)
    return instructions[: next(branches, len(instructions))]


def total(profiles: Iterable[Profile]) -> Profile | None:
    """Their sum; None of none."""
    found: Profile | None = None
    for one in profiles:
        found = one if found is None else found + one
    return found
