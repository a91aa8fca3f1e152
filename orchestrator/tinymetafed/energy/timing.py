"""What instructions cost: a core's timing table, and the cycles of a sequence by it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from ..errors import TinyMetaFedError
from ..places import EMULATION
from ..settings import Settings, names, read
from .fetch import FetchUnit
from .instructions import (
    ARCHITECTURES,
    CLASSES,
    LOADS,
    NODES,
    NOT_IN_ARMV6M,
    SINGLE_LOADS,
    SINGLE_STORES,
    Branch,
    Instruction,
)

FOLDER = EMULATION / "timing"

SHORT = 2  # bytes of a 16-bit instruction

READINGS = ("shortest", "expected", "longest")
"""Of the manual; every cycle figure is given by each."""


def _three(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value] * len(READINGS)


def _ascending(value: tuple[int, int, int]) -> tuple[int, int, int]:
    if list(value) != sorted(value):
        raise PydanticCustomError(
            "tmf_order", "use figures that ascend: shortest, expected, longest"
        )
    return value


_Cycles = Annotated[int, Field(ge=0, le=1000)]
_Change = Annotated[int, Field(ge=-10, le=1000)]
Cycles = Annotated[
    tuple[_Cycles, _Cycles, _Cycles], BeforeValidator(_three), AfterValidator(_ascending)
]
Change = Annotated[
    tuple[_Change, _Change, _Change], BeforeValidator(_three), AfterValidator(_ascending)
]


_Encoding = Annotated[str, Field(pattern=r"^( *[01x]){16}(( *[01x]){16})?$")]


class Figures(Settings):
    """What an instruction costs by itself."""

    cycles: Cycles
    paired: Change = (0, 0, 0)  # more (below 0: fewer), of 16 bits right after such a one
    per_register: Annotated[int, Field(ge=0, le=1000)] = 0  # of what it moves
    least: Cycles = (0, 0, 0)  # however little it moves
    result_wait: Cycles = (0, 0, 0)  # from its end until its result can be used
    occupies: Annotated[int, Field(ge=0, le=1000)] = 0  # the FPU, from its own start on
    source: str


class InstructionClass(Figures):
    """[[classes]]: instructions that cost the same by themselves."""

    name: Literal[CLASSES]  # pyright: ignore[reportInvalidTypeForm]
    encodings: tuple[_Encoding, ...] = ()


class Variant(Figures):
    """[[variants]]: instructions of a class that cost otherwise on this core; the first one that
    matches counts."""

    of: Literal[CLASSES]  # pyright: ignore[reportInvalidTypeForm]
    encodings: Annotated[tuple[_Encoding, ...], Field(min_length=1)]


class Rule(Settings):
    """A key of [sequence]: cycles more."""

    cycles: Cycles
    source: str


class Saving(Settings):
    """A key of [sequence]: cycles more, or (below 0) fewer."""

    cycles: Change
    source: str


class Fetch(Settings):
    """[fetch]: the queue of words that were fetched and not yet decoded; see cortex-m4.toml."""

    words: Literal[0] | Annotated[int, Field(ge=2, le=64)]  # 0: nothing waits for its words
    restart: Cycles
    source: str


class SequenceRules(Settings):
    """[sequence]: what the neighbours of an instruction change; see cortex-m4.toml."""

    early_refill: Rule
    late_refill: Rule
    load_refill: Rule
    unfolded_it: Rule
    pipelined_load: Saving
    other_memory: Rule
    address_wait: Rule
    loaded_address_wait: Rule = Rule(cycles=(0, 0, 0), source="none")
    load_before_store: Saving
    load_after_store: Rule
    load_after_other_store: Rule
    register_offset_store: Rule
    writeback_store: Rule
    literal_load: Rule
    unaligned_load: Rule
    exception: Rule
    late_operands: tuple[Literal["addend", "store data"], ...] = ()


class TimingTable(Settings):
    """A file of emulation/timing.

    Attributes:
        core: its name.
        architecture: whose programs it executes, and those of the architectures before it.
        encodings_from: the file beside it that has the encodings of the classes.
    """

    core: str
    architecture: Literal[ARCHITECTURES] = NODES  # pyright: ignore[reportInvalidTypeForm]
    encodings_from: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None = None
    classes: tuple[InstructionClass, ...]
    variants: tuple[Variant, ...] = ()
    fetch: Fetch
    sequence: SequenceRules

    @model_validator(mode="after")
    def _complete(self) -> "TimingTable":
        names = [one.name for one in self.classes]
        for name in CLASSES:
            missing = name in NOT_IN_ARMV6M and self.architecture == ARCHITECTURES[0]
            if names.count(name) != (0 if missing else 1):
                times = "0 times" if missing else "once"
                raise ValueError(
                    f"classes: '{name}' is there {names.count(name)} times, not {times}"
                )
        for one in self.classes:
            if (not one.encodings) == (self.encodings_from is None):
                raise ValueError(
                    f"classes: '{one.name}' needs encodings of its own, or of the whole file by "
                    "encodings_from, not both"
                )
        return self


Classify = Callable[[int, int], str]
"""The class of an instruction by its first and second halfword."""


def classifier(table: TimingTable) -> Classify:
    """By the encodings of a table that has them."""
    patterns = _patterns(table.classes)

    @cache
    def classify(first: int, second: int) -> str:
        found = _first(patterns, first << 16 | second)
        return "other" if found is None else found.name

    return classify


_Encoded = TypeVar("_Encoded", InstructionClass, Variant)


def _patterns(those: Iterable[_Encoded]) -> list[tuple[int, int, _Encoded]]:
    return [(_mask(t, "01"), _mask(t, "1"), one) for one in those for t in one.encodings]


def _first(patterns: Iterable[tuple[int, int, _Encoded]], encoding: int) -> _Encoded | None:
    return next((one for mask, value, one in patterns if encoding & mask == value), None)


def _mask(text: str, bits: str) -> int:
    digits = "".join("1" if bit in bits else "0" for bit in text.replace(" ", ""))
    return int(digits.ljust(32, "0"), 2)


@dataclass(frozen=True)
class Timing:
    """A core's timing table.

    Attributes:
        encodings: the table that has the encodings of its classes: itself, or another core's.
    """

    name: str
    table: TimingTable
    encodings: TimingTable

    @classmethod
    def all(cls, folder: Path = FOLDER, executes: str = NODES) -> "tuple[Timing, ...]":
        """Every table in `folder` of a core that executes programs for this architecture, the
        nodes' firmware unless said otherwise. Raises TinyMetaFedError."""
        tables = (cls.load(name, folder) for name in names(folder))
        return tuple(one for one in tables if one.executes(executes))

    def executes(self, architecture: str) -> bool:
        """This core executes programs for that architecture."""
        order = ARCHITECTURES.index
        return order(architecture) <= order(self.table.architecture)

    @classmethod
    def of(cls, name: str, table: TimingTable) -> "Timing":
        """Of a table of a user's own; the encodings are its own, or those of one in FOLDER. Raises
        TinyMetaFedError."""
        encodings = table.encodings_from
        return cls(name, table, table if encodings is None else cls.load(encodings).table)

    @classmethod
    def load(cls, name: str, folder: Path = FOLDER) -> "Timing":
        """The table in `folder`/`name`.toml; a name with that ending is a path of a user's own.
        Raises TinyMetaFedError."""
        if name.endswith(".toml"):
            return cls.of(Path(name).stem, read(TimingTable, Path(name)))
        path = folder / f"{name}.toml"
        if not path.is_file():
            known = ", ".join(names(folder))
            raise TinyMetaFedError(f"{path}: no such timing table; there are: {known}")
        table = read(TimingTable, path)
        encodings = table
        if table.encodings_from is not None:
            encodings = read(TimingTable, folder / f"{table.encodings_from}.toml")
            if encodings.encodings_from is not None:
                raise TinyMetaFedError(
                    f"{path}: encodings_from: {table.encodings_from}.toml has none of its own"
                )
        return cls(name, table, encodings)

    @cached_property
    def classify(self) -> Classify:
        """The class of an instruction by its first and second halfword."""
        return classifier(self.encodings)

    @cached_property
    def _figures(self) -> Callable[[str, int], Figures]:
        """What an instruction costs by itself, by its class and encoding."""
        by_name = {one.name: one for one in self.table.classes}
        variants = {
            name: _patterns(one for one in self.table.variants if one.of == name)
            for name in by_name
        }

        @cache
        def figures(name: str, encoding: int) -> Figures:
            # What a core has not is met behind a branch that does not return, as other data is.
            name = name if name in by_name else "other"
            return _first(variants[name], encoding) or by_name[name]

        return figures

    def cycles(self, sequence: Sequence[Instruction]) -> NDArray[np.int64]:
        """int64 [readings]: of instructions executed one after the other, with no branch taken.

        The first is branched to.
        """
        return np.array([self._cycles(sequence, i) for i in range(len(READINGS))])

    def taken(self, block: Sequence[Instruction]) -> NDArray[np.int64]:
        """int64 [readings]: what the branch that ends the block costs more when it is taken."""
        rules = self.table.sequence
        last = block[-1]
        if last.early and not ("lr" in last.reads and len(block) > 1 and "lr" in block[-2].writes):
            rule = rules.early_refill
        elif last.name in ("branch", "data processing"):
            rule = rules.late_refill
        else:
            rule = rules.load_refill
        found = np.array(rule.cycles)
        if len(block) > 1 and block[-2].sets_flags and _pair(block[-2], last):
            # One that is taken waits for its flags, so that it cannot go with what sets them.
            found -= np.array(self._figures(last.name, last.encoding).paired)
        return found

    def _cycles(self, sequence: Sequence[Instruction], reading: int) -> int:
        if not sequence:
            return 0
        fetch = self._fetch_unit(sequence[0].address, reading)
        ended = 0
        fpu_free = 0  # when the FPU has ended what occupies it
        ready: dict[str, int] = {}  # when results can be used that come after their instruction
        previous: Instruction | None = None
        may_pair = False
        for one in sequence:
            figures = self._figures(one.name, one.encoding)
            start = ended + self._between(previous, one, reading)
            cycles = figures.cycles[reading] + figures.per_register * one.transfers
            cycles = max(cycles, figures.least[reading]) + self._more(previous, one, reading)
            pairs = may_pair and previous is not None and _pair(previous, one)
            if pairs:
                cycles += figures.paired[reading]
            may_pair = not (pairs and figures.paired[reading])
            if fetch is not None:
                # What takes no cycle is decoded together with the instruction before it.
                start = max(start, fetch.ready(one.address, one.size) - (cycles == 0))
            if one.floating_point:
                start = max(start, fpu_free)
            if ready:
                start = max(start, *(ready.get(name, 0) for name in self._needs(one)), 0)
            if figures.occupies:
                fpu_free = start + figures.occupies
            if fetch is not None:
                fetch.executed(one.address, one.size, start)
                if one.early and one.branch == Branch.MAYBE:
                    fetch.speculated(start)
            ended = start + cycles
            for name in one.writes & ready.keys():
                del ready[name]
            if figures.result_wait[reading]:
                ready |= dict.fromkeys(one.results, ended + figures.result_wait[reading])
            previous = one
        return ended if READINGS[reading] == "shortest" else max(ended, fpu_free)

    def _fetch_unit(self, first: int, reading: int) -> FetchUnit | None:
        rules = self.table.fetch
        return FetchUnit(first, rules.words, rules.restart[reading]) if rules.words else None

    def _needs(self, one: Instruction) -> frozenset[str]:
        """The registers that have to be there when it begins."""
        late = self.table.sequence.late_operands
        needed = one.reads
        if "addend" in late:
            needed -= one.addend
        if "store data" in late and "store" in one.name:
            needed &= one.addressing
        return needed

    def _more(self, previous: Instruction | None, one: Instruction, reading: int) -> int:
        """What `one` takes more than its class says; previous: None after a branch."""
        rules = self.table.sequence
        more = 0
        if one.name == "IT" and (previous is None or previous.size > SHORT):
            more += rules.unfolded_it.cycles[reading]
        if one.indexed and one.name in SINGLE_STORES:
            more += rules.register_offset_store.cycles[reading]
        if one.name in SINGLE_STORES and one.writes & one.addressing:
            more += rules.writeback_store.cycles[reading]
        if one.from_literal_pool:
            more += rules.literal_load.cycles[reading]
        return more

    def _between(self, previous: Instruction | None, one: Instruction, reading: int) -> int:
        """How much later than `previous` ends `one` begins; previous: None after a branch."""
        if previous is None:
            return 0
        rules = self.table.sequence
        more = 0
        same_memory = one.memories == previous.memories
        if previous.name in SINGLE_LOADS and not previous.results & one.addressing:
            if one.name in SINGLE_STORES and same_memory:
                more += rules.load_before_store.cycles[reading]
            elif one.name in SINGLE_LOADS:
                more += rules.pipelined_load.cycles[reading]
                if not same_memory:
                    more += rules.other_memory.cycles[reading]
        loaded = previous.name in LOADS
        if previous.results & one.addressing and loaded:
            more += rules.loaded_address_wait.cycles[reading]
        elif previous.writes & one.addressing:
            more += rules.address_wait.cycles[reading]
        if previous.name in SINGLE_STORES and one.name in LOADS:
            rule = rules.load_after_store if same_memory else rules.load_after_other_store
            more += rule.cycles[reading]
        return more


def _pair(first: Instruction, second: Instruction) -> bool:
    """They are of 16 bits, so that a core that pairs instructions might."""
    return first.size == second.size == SHORT
