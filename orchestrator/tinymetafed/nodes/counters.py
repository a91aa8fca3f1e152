"""The file in which QEMU's counting plugin keeps its counts (emulation/qemu/count.c)."""

import mmap
import os
from pathlib import Path

import numpy as np

from ..energy.profile import PHASE, WAYS, BlockCounts
from ..errors import TinyMetaFedError

BLOCKS, PHASES, ACCESSES = 16384, 64, 16384

_LAYOUT = np.dtype(
    [
        ("blocks", "u8"),
        ("lost", "u8"),
        ("accesses", "u8"),
        ("asleep", "u8"),
        ("begun", "u8"),
        ("unaligned", "u8", PHASES),
        ("block", [("start", "u4"), ("end", "u4")], BLOCKS),
        ("access", [("instruction", "u4"), ("memories", "u4")], ACCESSES),
        ("left", "u8", (PHASES, BLOCKS, WAYS)),
    ]
)
_HEAD = (_LAYOUT.fields or {})["block"][1]  # bytes before the blocks


class CountersFile:
    """A file for one emulator, all zero until it starts; what is not used takes no space.

    phases: of the program, and one before the first. Raises TinyMetaFedError where they are too
    many, or where it cannot be made.
    """

    def __init__(self, path: Path, phases: int) -> None:
        if phases > PHASES:
            raise TinyMetaFedError(f"{phases} phases are too many to count; {PHASES} can be")
        self.path = path
        self._phases = phases
        try:
            with path.open("w+b") as file:
                file.truncate(_LAYOUT.itemsize)
                # A page that finds no room when it is first read ends who reads it. The plugin
                # takes room for blocks before it counts them.
                os.posix_fallocate(file.fileno(), 0, _HEAD)
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except OSError as error:
            raise TinyMetaFedError(
                f"{path}: the counters of a node cannot be made: {error.strerror}; name another "
                "folder in TMPDIR"
            ) from None
        self._counters = np.frombuffer(self._map, _LAYOUT)[0]
        self._left = self._counters["left"].reshape(-1)
        self._starts, self._ends = np.empty((2, 0), np.uint32)
        self._places = np.empty(0, np.int64)  # as in BlockCounts
        self._indices = self._places  # the same in _left

    def read(self) -> BlockCounts:
        """The counts as they are now; the emulator is not stopped."""
        known = int(self._counters["blocks"])
        if len(self._starts) != known - 1:  # the first stands for none
            blocks = self._counters["block"][1:known]
            self._starts, self._ends = blocks["start"].copy(), blocks["end"].copy()
        left = self._left.reshape(PHASES, -1)[: self._phases, WAYS : known * WAYS]
        # A count does not become zero again, so that as many of them are the same ones.
        if np.count_nonzero(left) != len(self._places):
            phases, places = np.nonzero(left != 0)  # a copy: the emulator may go on meanwhile
            self._places = (phases << PHASE) + places
            self._indices = phases * (BLOCKS * WAYS) + WAYS + places
        return BlockCounts(
            self._starts,
            self._ends,
            self._places,
            self._left[self._indices].astype(np.int64),
            self._counters["unaligned"][: self._phases].astype(np.int64),
            int(self._counters["lost"]),
        )

    def asleep(self) -> int | None:
        """The phase in which the processor sleeps, 0 for the one before the first; None while it
        does not."""
        return int(self._counters["asleep"]) - 1 if self._counters["asleep"] else None

    def begun(self) -> int:
        """The address of the block that was entered last; 0 unless the plugin was asked for
        accesses."""
        return int(self._counters["begun"])

    def memories(self) -> dict[int, int]:
        """By the address of a load or store: which memories it went to, bit i for the i-th 512 MiB.
        Empty unless the plugin was asked for it."""
        found = self._counters["access"][: int(self._counters["accesses"])]
        return {int(one["instruction"]): int(one["memories"]) for one in found if one["memories"]}
