"""The file in which QEMU's counting plugin keeps its counts (emulation/qemu/count.c)."""

import mmap
from pathlib import Path

import numpy as np

from ..energy.profile import WAYS, BlockCounts
from ..errors import TinyMetaFedError

BLOCKS, PHASES, ACCESSES = 16384, 64, 16384

_LAYOUT = np.dtype(
    [
        ("blocks", "u8"),
        ("lost", "u8"),
        ("accesses", "u8"),
        ("unaligned", "u8", PHASES),
        ("block", [("start", "u4"), ("end", "u4")], BLOCKS),
        ("access", [("instruction", "u4"), ("memories", "u4")], ACCESSES),
        ("left", "u8", (PHASES, BLOCKS, WAYS)),
    ]
)


class CountersFile:
    """A file for one emulator, all zero until it starts; what is not used takes no space.

    phases: of the program, and one before the first. Raises TinyMetaFedError where they are too
    many.
    """

    def __init__(self, path: Path, phases: int) -> None:
        if phases > PHASES:
            raise TinyMetaFedError(f"{phases} phases are too many to count; {PHASES} can be")
        self.path = path
        self._phases = phases
        with path.open("wb") as file:
            file.truncate(_LAYOUT.itemsize)
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self._counters = np.frombuffer(self._map, _LAYOUT)[0]

    def read(self) -> BlockCounts:
        """The counts as they are now; the emulator is not stopped."""
        known = int(self._counters["blocks"])
        blocks = self._counters["block"][1:known].copy()  # the first stands for none
        return BlockCounts(
            blocks["start"],
            blocks["end"],
            self._counters["left"][: self._phases, 1:known].astype(np.int64),
            self._counters["unaligned"][: self._phases].astype(np.int64),
            int(self._counters["lost"]),
        )

    def memories(self) -> dict[int, int]:
        """By the address of a load or store: which memories it went to, bit i for the i-th 512 MiB.
        Empty unless the plugin was asked for it."""
        found = self._counters["access"][: int(self._counters["accesses"])]
        return {int(one["instruction"]): int(one["memories"]) for one in found if one["memories"]}
