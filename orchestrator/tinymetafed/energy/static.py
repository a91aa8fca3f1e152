"""A program's functions without running it: the cycles of each, and its loops.

Calls are not followed. How often a loop turns is known where a register counts by a constant, from
a constant to a constant.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .decoding import decode
from .instructions import Branch, Instruction
from .program import Program
from .timing import READINGS, Timing

EXPECTED = READINGS.index("expected")

_STEP = re.compile(r"(add|sub)s?(?:\.w)? (\w+), (?:(\w+), )?#(\w+)$")
_COMPARED = re.compile(r"cmp(?:\.w)? (\w+), #(\w+)$")
_CONSTANT = re.compile(r"mov(?:s|w|\.w|s\.w)? (\w+), #(\w+)$")


@dataclass(frozen=True)
class Loop:
    """cycles: of a turn, by the longest way. turns: at most; None where that is not known."""

    address: int
    cycles: int
    turns: int | None


@dataclass(frozen=True)
class Function:
    """cycles: of the longest way through it; a loop whose turns are not known turns once."""

    name: str
    instructions: int
    cycles: int
    loops: tuple[Loop, ...]


def functions(program: Program, timing: Timing) -> Iterator[Function]:
    """Each function of the program, by their addresses."""
    starts = sorted(set(program.functions.values()))
    for start, end in zip(starts, [*starts[1:], 1 << 32], strict=True):
        if program.code(start, start + 2):
            yield _Graph(program, timing, start, end).function()


class _Graph:
    """A function's blocks, by the address that they begin at, and what each leads to."""

    def __init__(self, program: Program, timing: Timing, start: int, end: int) -> None:
        self.name = program.function_at(start) or f"{start:#x}"
        self.start, self.end = start, end
        self.code: dict[int, Instruction] = {}
        known: dict[int, Instruction] = {}
        begins, todo = {start}, [start]
        while todo:
            address = todo.pop()
            while address not in self.code and (at := program.code(address, end)):
                if address not in known:
                    known |= {one.address: one for one in decode(at, address, timing.classify)}
                one = self.code[address] = known[address]
                address += one.size
                if one.branch != Branch.NEVER:
                    todo += [to for to, _ in self._leads_to(one)]
                    begins.update(todo)
                    break
        self.blocks: dict[int, list[Instruction]] = {}
        block: list[Instruction] = []
        behind = None
        for address, one in sorted(self.code.items()):
            if address in begins or address != behind:
                block = self.blocks[address] = []
            block.append(one)
            behind = address + one.size if one.branch == Branch.NEVER else None
        self.cost: dict[int, int] = {}
        self.after: dict[int, list[tuple[int, int]]] = {}  # (block, cycles of the way to it)
        self.before: dict[int, list[int]] = {address: [] for address in self.blocks}
        for address, block in self.blocks.items():
            taken = int(timing.taken(block)[EXPECTED])
            to = [(one, taken if jumps else 0) for one, jumps in self._leads_to(block[-1])]
            self.after[address] = [way for way in to if way[0] in self.blocks]
            for one, _ in self.after[address]:
                self.before[one].append(address)
            returns = 0 if self.after[address] else taken
            self.cost[address] = int(timing.cycles(block)[EXPECTED]) + returns

    def _leads_to(self, one: Instruction) -> list[tuple[int, bool]]:
        """Addresses in the function, and whether a branch is taken before."""
        calls = one.branch == Branch.ALWAYS and one.text.startswith(("bl ", "blx "))
        found = [(one.address + one.size, calls)] if calls or one.branch != Branch.ALWAYS else []
        if one.target is not None and self.start <= one.target < self.end and not calls:
            found.append((one.target, True))
        return found

    def function(self) -> Function:
        order, back = self._order()
        loops: list[Loop] = []
        for header in (a for a in reversed(order) if any(to == a for _, to in back)):  # inner first
            latches = [a for a, to in back if to == header]
            ways = self._longest(header, order, back)
            turn = max(ways[a] + dict(self.after[a])[header] for a in latches)
            turns = self._turns(header, latches)
            loops.append(Loop(header, turn, turns))
            self.cost[header] += turn * ((turns or 1) - 1)
        longest = max(self._longest(self.start, order, back).values())
        return Function(self.name, len(self.code), longest, tuple(reversed(loops)))

    def _order(self) -> tuple[list[int], set[tuple[int, int]]]:
        """The blocks, each before those that it leads to, but for edges that lead back."""
        order: list[int] = []
        back: set[tuple[int, int]] = set()
        seen, path = {self.start}, {self.start: iter(self.after[self.start])}
        while path:
            address, rest = next(reversed(path.items()))
            to, _ = next(rest, (None, 0))
            if to is None:
                order.append(path.popitem()[0])
            elif to in path:
                back.add((address, to))
            elif to not in seen:
                seen.add(to)
                path[to] = iter(self.after[to])
        return order[::-1], back

    def _longest(self, start: int, order: list[int], back: set[tuple[int, int]]) -> dict[int, int]:
        """Cycles from there to the end of each block, by the longest way."""
        ways = {start: self.cost[start]}
        for address in order:
            for to, more in self.after[address] if address in ways else ():
                if (address, to) not in back:
                    ways[to] = max(ways.get(to, 0), ways[address] + more + self.cost[to])
        return ways

    def _turns(self, header: int, latches: list[int]) -> int | None:
        """Of a loop that at its end counts a register, and goes on while it is not a constant."""
        body, todo = {header}, list(latches)
        while todo:
            if (address := todo.pop()) not in body:
                body.add(address)
                todo += self.before[address]
        entries = [a for a in self.before[header] if a not in body]
        end = [one for one in self.blocks[latches[0]] if one.sets_flags or one.target]
        if len(latches) * len(entries) != 1 or len(end) < 2 or not end[-1].text.startswith("bne"):
            return None
        compared, counted = (pattern.match(end[-2].text) for pattern in (_COMPARED, _STEP))
        register = compared[1] if compared else counted[2] if counted else None
        steps = [one for a in body for one in self.blocks[a] if register in one.writes]
        first = [one for one in self.blocks[entries[0]] if register in one.writes]
        step = _STEP.match(steps[0].text) if len(steps) == 1 else None
        start = _CONSTANT.match(first[-1].text) if first else None
        if step is None or start is None or steps[0].conditional or first[-1].conditional:
            return None
        if steps[0].address > end[-2].address:
            return None  # the one before is compared
        way = (int(compared[2], 0) if compared else 0) - int(start[2], 0)
        turns, rest = divmod(way, int(step[4], 0) * (1 if step[1] == "add" else -1))
        return turns if turns > 0 and rest == 0 and step[3] in (None, register) else None
