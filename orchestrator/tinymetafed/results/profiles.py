"""What nodes executed, as the store has it: for each round a table of whole numbers.

A row for each node and phase: the node, the phase's index, instructions, and of each core the
shortest, expected and longest cycles. Instructions by class are apart and compressed, since nothing
but a table of them reads them.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

READINGS = 3
"""Shortest, expected, longest."""


@dataclass(frozen=True)
class PhaseCount:
    """What a node executed in one phase of a round.

    classes: instructions by class, and entries of exceptions. cycles: by core, [shortest, expected,
    longest].
    """

    round: int
    node: int
    phase: str
    instructions: int
    classes: Mapping[str, int]
    cycles: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Layout:
    """What the numbers of a table are. type: numpy's name of theirs."""

    type: str
    phases: tuple[str, ...]
    cores: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def columns(self) -> int:
        """Of the table."""
        return 3 + READINGS * len(self.cores)

    @property
    def names(self) -> str:
        """As the store has it."""
        return json.dumps(vars(self))

    def table(self, blobs: Iterable[bytes]) -> NDArray[np.unsignedinteger]:
        """The tables of some rounds, one below the other: of its type, [rows, columns]."""
        return np.frombuffer(b"".join(blobs), self.type).reshape(-1, self.columns)

    def by_class(self, blob: bytes, rows: int) -> NDArray[np.int64]:
        """Of one round: int64 [rows, classes]. Raises ValueError where it is damaged."""
        try:
            data = zlib.decompress(blob)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        found = np.frombuffer(data, self.type).astype(np.int64)
        return found.reshape(rows, len(self.classes))


@cache
def layout(names: str) -> Layout:
    """From its `names`. Raises ValueError."""
    tree = json.loads(names)
    return Layout(tree["type"], *(tuple(tree[key]) for key in ("phases", "cores", "classes")))


def pack(counts: Sequence[PhaseCount]) -> tuple[Layout, bytes, bytes]:
    """The counts of one round as layout, cycles, classes."""
    phases = {name: i for i, name in enumerate(sorted({one.phase for one in counts}))}
    cores = sorted({core for one in counts for core in one.cycles})
    classes = sorted({name for one in counts for name in one.classes})
    table = np.array(
        [
            (
                one.node,
                phases[one.phase],
                one.instructions,
                *(n for c in cores for n in one.cycles[c]),
            )
            for one in counts
        ],
        np.int64,
    )
    by_class = np.array(
        [[one.classes.get(name, 0) for name in classes] for one in counts], np.int64
    )
    wide = max(table.max(), by_class.max(initial=0)) >= 2**32
    found = Layout("<u8" if wide else "<u4", tuple(phases), tuple(cores), tuple(classes))
    return (
        found,
        table.astype(found.type).tobytes(),
        zlib.compress(by_class.astype(found.type).tobytes()),
    )


def unpack(number: int, names: str, cycles: bytes, classes: bytes) -> Iterator[PhaseCount]:
    """The counts of round `number`. Raises ValueError."""
    found = layout(names)
    table = found.table([cycles])
    by_class = found.by_class(classes, len(table))
    for row, kinds in zip(table.tolist(), by_class.tolist(), strict=True):
        node, phase, instructions, *figures = row
        starts = range(0, len(figures), READINGS)
        yield PhaseCount(
            number, node, found.phases[phase], instructions,
            {name: n for name, n in zip(found.classes, kinds, strict=True) if n},
            {c: figures[i : i + READINGS] for c, i in zip(found.cores, starts, strict=True)},
        )  # fmt: skip
