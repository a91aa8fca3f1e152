"""Any program for the node's processor, run to its end and counted."""

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..energy.profile import BlockCounts, Pricing, Profile
from ..energy.program import Program
from ..energy.timing import Timing
from ..errors import TinyMetaFedError
from .counters import CountersFile
from .qemu import MACHINE, QEMU, plugin_arguments

TIMEOUT = 600.0  # seconds


@dataclass(frozen=True)
class Ended:
    """A program that has ended: its counts, and what it wrote by semihosting."""

    program: Program
    counts: BlockCounts
    memories: dict[int, int]  # see CountersFile.memories
    output: str

    def profile(self, timings: Sequence[Timing]) -> Profile:
        """Priced for these cores. Raises TinyMetaFedError."""
        return self._pricing(timings).profile(self.counts)

    def functions(self, timings: Sequence[Timing]) -> dict[str, Profile]:
        """The same for each function by itself. Raises TinyMetaFedError."""
        return self._pricing(timings).functions(self.counts)

    def _pricing(self, timings: Sequence[Timing]) -> Pricing:
        if self.counts.lost:
            raise TinyMetaFedError("the program has more blocks of code than can be counted")
        return Pricing(self.program, timings, self.memories)


def run(image: Path, timeout: float = TIMEOUT) -> Ended:
    """Runs the image on QEMU until it exits by semihosting (SYS_EXIT).

    Where its loads and stores go is noted, which takes more time than a node is given.
    Raises TinyMetaFedError where it does not exit with 0 in `timeout` seconds.
    """
    program = Program.read(image)
    with tempfile.TemporaryDirectory(prefix="tinymetafed-") as directory:
        counters = CountersFile(Path(directory) / "counts", 1 + len(program.phases))
        command = [
            QEMU, *MACHINE, "-serial", "null",
            "-semihosting-config", "enable=on,target=native", "-kernel", str(image.absolute()),
            *plugin_arguments(counters.path, program, accesses=True),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout, check=False, cwd=directory
            )
        except FileNotFoundError:
            raise TinyMetaFedError(f"{QEMU} is not installed; 'make setup' installs it") from None
        except subprocess.TimeoutExpired:
            raise TinyMetaFedError(
                f"{image}: did not end within {timeout:g} s; it has to end by semihosting SYS_EXIT"
            ) from None
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
            raise TinyMetaFedError(f"{image}: ended with {done.returncode}; it said: {said[-1]}")
        return Ended(program, counters.read(), counters.memories(), done.stdout)
