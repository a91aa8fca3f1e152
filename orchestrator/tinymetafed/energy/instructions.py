"""Thumb instructions: what the pricing of a sequence needs to know of each."""

from dataclasses import dataclass
from enum import Enum

CLASSES = (
    "data processing", "multiply", "long multiply", "divide",
    "load", "store", "load double", "store double", "load multiple", "store multiple",
    "branch", "table branch", "IT",
    "FP add", "FP multiply", "FP multiply-accumulate", "FP divide or square root", "FP compare",
    "FP convert", "FP move", "FP load", "FP store", "FP load multiple", "FP store multiple",
    "other",
)  # fmt: skip
"""Of instructions; emulation/timing/cortex-m4.toml has their encodings."""

ARCHITECTURES = ("Armv6-M", "Armv7E-M", "Armv8-M")
"""Each executes programs for those before it."""

NODES = "Armv7E-M"
"""What the nodes' firmware is for."""

NOT_IN_ARMV6M = frozenset(
    {"IT", "table branch", "load double", "store double", "long multiply", "divide"}
    | {name for name in CLASSES if name.startswith("FP")}
)
"""Classes without an instruction in Armv6-M (its Architecture Reference Manual, A5)."""

SINGLE_LOADS = frozenset({"load", "FP load"})
SINGLE_STORES = frozenset({"store", "FP store"})
LOADS = SINGLE_LOADS | {"load double", "load multiple", "FP load multiple"}

CODE, DATA = 1, 2
"""Memories: the first 512 MiB, where programs and their constants are, and the second, the RAM
(Armv7-M Architecture Reference Manual, B3.1)."""

LONGEST = 4  # bytes of an instruction


class Branch(Enum):
    """How an instruction can leave the sequence."""

    NEVER = 0
    MAYBE = 1  # conditional, CBZ and CBNZ too
    ALWAYS = 2


@dataclass(frozen=True)
class Instruction:
    """Registers are named as capstone does; double words of the FPU are its two words."""

    address: int
    size: int  # bytes
    encoding: int  # 32 bits: its halfwords, the first above the second; 0 where there is none
    text: str
    name: str  # of its class
    conditional: bool  # whether it is executed, an IT block decides
    branch: Branch
    target: int | None  # of a branch that has it in its encoding
    early: bool  # a branch that is fetched for when it is decoded: to an address, or to LR
    reads: frozenset[str]
    writes: frozenset[str]
    results: frozenset[str]  # its results: what it writes but for an address's write-back
    addressing: frozenset[str]  # registers that a load's or store's address is made of
    indexed: bool  # two of them
    from_literal_pool: bool
    transfers: int  # words that a load or store multiple, or one of the FPU, or a VMOV moves
    addend: frozenset[str]  # of a multiply-accumulate
    sets_flags: bool
    memories: int = 0  # that it goes to; bit i for the i-th 512 MiB

    @property
    def misaligned(self) -> bool:
        """A 32-bit instruction that lies in two words."""
        return self.size == 4 and self.address % 4 != 0

    @property
    def floating_point(self) -> bool:
        """It needs the FPU."""
        return self.name.startswith("FP")
