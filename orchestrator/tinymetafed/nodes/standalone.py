"""Any program for the node's processor, run to its end and counted."""

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..energy.profile import BlockCounts, Pricing, Profile
from ..energy.program import Program
from ..energy.timing import Timing
from ..errors import TinyMetaFedError
from . import sandbox
from .counters import CountersFile
from .folder import private_directory
from .process import dies_with_this_process, telling
from .qemu import MACHINE, MISSING, QEMU, plugin_arguments

TIMEOUT = 600.0  # seconds

MEMORIES = (0, 0x00800000), (0x20000000, 0x20400000), (0x21000000, 0x22000000)
"""Of MACHINE: the first two 4 MiB RAMs, the second shown twice, and the PSRAM (Arm DAI 0386)."""

LOCKUP = "Lockup"
"""In what QEMU says of a processor that a fault stopped."""


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


def run(image: Path, timeout: float = TIMEOUT, *, trusted: bool = False) -> Ended:
    """Runs the image on QEMU until it exits by semihosting (SYS_EXIT).

    Where its loads and stores go is noted, which takes more time than a node is given. By
    semihosting it can read files, and write to its output. trusted: it can change files and run
    commands of this machine too. Raises TinyMetaFedError where it does not exit with 0 in `timeout`
    seconds.
    """
    program = Program.read(image)
    for address, data in program.segments:
        if data and not any(a <= address and address + len(data) <= b for a, b in MEMORIES):
            raise TinyMetaFedError(
                f"{image}: has {len(data)} bytes at {address:#010x}, where mps2-an386 has no "
                "memory; link its code at 0 and its data at 0x20000000"
            )
    qemu = shutil.which(QEMU)
    if qemu is None:
        raise TinyMetaFedError(f"{QEMU} is not installed; {MISSING}")
    if not trusted and not sandbox.is_there():
        raise TinyMetaFedError(
            f"{image}: by semihosting a program can change files and run commands of this machine, "
            "and this kernel has no Landlock to prevent it; use --trust for a program that you know"
        )
    with ExitStack() as resources:
        directory = resources.enter_context(private_directory())
        counters = CountersFile(directory / "counts", 1 + len(program.phases))
        command = [
            qemu, *MACHINE, "-serial", "null",
            "-semihosting-config", "enable=on,target=native", "-kernel", str(image.absolute()),
            "-d", "guest_errors",  # what of it led to a fault
            *plugin_arguments(counters.path, program, accesses=True),
        ]  # fmt: skip
        before = [dies_with_this_process()]
        if not trusted:
            restriction = sandbox.restriction(Path(qemu), [counters.path])
            before.append(resources.enter_context(restriction))

        def prepare() -> None:
            for call in before:
                call()

        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout, check=False,
                cwd=directory, preexec_fn=prepare, stdin=subprocess.DEVNULL, errors="replace",
            )  # fmt: skip
        except OSError as error:
            hint = "" if trusted else "; where it is a script that starts QEMU, use --trust"
            raise TinyMetaFedError(f"{qemu}: cannot be started: {error.strerror}{hint}") from None
        except subprocess.TimeoutExpired:
            raise TinyMetaFedError(
                f"{image}: did not end within {timeout:g} s; it has to end by semihosting SYS_EXIT"
            ) from None
        if LOCKUP in done.stderr:
            where = program.function_at(counters.begun())
            raise TinyMetaFedError(f"{image}: {_fault(done.stderr, where)}")
        if done.returncode != 0:
            said = telling(done.stderr) or telling(done.stdout) or ["nothing"]
            raise TinyMetaFedError(f"{image}: ended with {done.returncode}; it said: {said[-1]}")
        return Ended(program, counters.read(), counters.memories(), done.stdout)


def _fault(said: str, where: str | None) -> str:
    """In one line, what QEMU said of a fault, and the function that it was in."""
    lines = said.splitlines()
    what = [line.partition(", region")[0] for line in lines if line.startswith("Invalid ")]
    return f"faulted in {where or 'no function'}: {what[-1] if what else lines[0]}"
