"""Counting in a machine of Renode: opcodes by phase, and traces of execution."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..energy.opcodes import OpcodeCounts, Opcodes
from ..energy.program import Program
from ..errors import TinyMetaFedError
from .process import is_full

# A trace begins with this, its version, the bytes of an address, and whether opcodes follow.
SIGNATURE = b"ReTrace"
_RECORD = np.dtype([("address", "<u4"), ("more", "u1")])

_FULL = "name another folder in TMPDIR, or make room"
_TRANSLATE = "sysbus.cpu ClearTranslationCache"  # code counts as it was translated to
COUNTER = 1 << 32  # it starts anew there


class PhaseMarks:
    """A file in which a machine notes its counters whenever its program enters a phase."""

    def __init__(self, path: Path, program: Program, opcodes: Opcodes) -> None:
        self.path = path
        self._program = program
        self._opcodes = opcodes
        self._sums = np.zeros((1 + len(program.phases), len(opcodes.patterns)), np.int64)
        self._latest = np.zeros(len(opcodes.patterns), np.int64)
        self._phase = 0
        self._read = 0
        path.touch()

    @property
    def phase(self) -> int:
        """The one that the program is in, an index; 0 before its first."""
        return self._phase

    def install(self) -> list[str]:
        """The monitor's commands for the counters, at a new machine, which are named by their
        places. They do not count yet."""
        # One command: the monitor takes 10 ms for each.
        patterns = " ".join(self._opcodes.patterns)
        install = (
            "python \"install = self.Machine['sysbus.cpu'].InstallOpcodeCounterPattern; "
            f"[install(str(i), one) for i, one in enumerate('{patterns}'.split())]\""
        )
        return [install]

    def start(self) -> list[str]:
        """The commands that have the counters count, and note them."""
        hooks = [
            f'sysbus.cpu AddHook {address:#x} "{self._note(phase)}"'
            for phase, address in enumerate(self._program.phases.values(), 1)
        ]
        return ["sysbus.cpu EnableOpcodesCounting true", _TRANSLATE, *hooks]

    def stop(self) -> list[str]:
        """The commands that leave the machine to itself."""
        return ["sysbus.cpu RemoveAllHooks", "sysbus.cpu EnableOpcodesCounting false", _TRANSLATE]

    def _note(self, phase: int) -> str:
        """Python, run before the instruction there."""
        counters = "[t[i, 1] for i in range(1, t.GetLength(0))]"  # the first is the table's head
        return (
            f"t = self.GetAllOpcodesCounters(); f = open('{self.path}', 'a'); "
            f"f.write(' '.join(['{phase}'] + {counters}) + chr(10)); f.close()"
        )

    def restart(self) -> None:
        """The program starts again; the counters go on."""
        self._read_on()
        self._sums[:] = 0
        self._phase = 0

    def counts(self) -> OpcodeCounts:
        """Until the program's latest change of phase."""
        self._read_on()
        return OpcodeCounts(self._opcodes.grouped(self._sums))

    def _read_on(self) -> None:
        if is_full(self.path.parent):  # Renode's Python keeps to itself that it could not write
            raise TinyMetaFedError(f"{self.path}: no space is left; {_FULL}")
        with self.path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        lines = text[: text.rfind(b"\n") + 1]
        self._read += len(lines)
        for line in lines.splitlines():
            phase, *counters = map(int, line.split())
            now = np.array(counters, np.int64)
            if now.shape != self._latest.shape:
                raise TinyMetaFedError(f"{self.path}: it has a line that is not whole; {_FULL}")
            self._sums[self._phase] += (now - self._latest) % COUNTER
            self._latest, self._phase = now, phase


def read_trace(path: Path) -> NDArray[np.uint32]:
    """Addresses of instructions in the order of execution. Raises TinyMetaFedError."""
    data = path.read_bytes()
    head, body = data[: len(SIGNATURE) + 3], data[len(SIGNATURE) + 3 :]
    known = head.startswith(SIGNATURE) and head[-2:] == bytes([4, 0])
    if not known or len(body) % _RECORD.itemsize:
        raise TinyMetaFedError(f"{path}: not a trace of addresses as Renode 1.16 writes it")
    return np.frombuffer(body, _RECORD)["address"]
