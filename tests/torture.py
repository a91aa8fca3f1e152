"""A campaign against runs: noise on links, nodes and orchestrators that are killed or stopped, an
emulator that is missing, a disk that is full.

`python tests/torture.py --minutes 5` prints a table at the end, and what was not held. A try is
held if the run ends with the undisturbed run's weights, evaluations and whatever is kept between
rounds; where it ends with an error before, or is killed, if the run that goes on does. An error is
one line, and no process stays behind. What is done, and to which run, is a function of the seed;
where it finds the run is not, since processes do not wait.
"""

import argparse
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import fuzzing
import killing
from tinymetafed.nodes.qemu import QEMU
from trial import NotHeld, NotPossible, Trial

KINDS = ("flipped_bytes", "lost_bytes", "lost_frames", "doubled_frames", "reordered_frames")


# ---- what is done --------------------------------------------------------------------------------


def noise(kind: str) -> Callable[[Trial], None]:
    """Noise of one kind, in both directions or one."""

    def disturb(trial: Trial) -> None:
        trial.on_qemu()
        rate = 3e-4 if kind.endswith("bytes") else 0.1
        direction = trial.rng.choice(["both", "down", "up"])
        trial.change(f"faults.links=[{{{kind}={rate}, direction='{direction}'}}]")
        with trial.started() as process:
            trial.end(process, 0)

    return disturb


def node_killed(trial: Trial) -> None:
    _nodes_get(trial, signal.SIGKILL)


def node_stopped(trial: Trial) -> None:
    """For a while that is shorter than all attempts to reach it, or longer."""
    _nodes_get(trial, signal.SIGSTOP, goes_on=True)


def node_never_answers(trial: Trial) -> None:
    _nodes_get(trial, signal.SIGSTOP)


def _nodes_get(trial: Trial, number: signal.Signals, *, goes_on: bool = False) -> None:
    """Some of them, a signal. goes_on: after a while they go on."""
    trial.on_qemu()
    with trial.started() as process:
        trial.wait_for_a_moment(process)
        some = _some(trial, killing.emulators(process.pid))
        for pid in some:
            _signal(pid, number)
        if goes_on:
            time.sleep(float(trial.rng.uniform(0.05, 2.0)))
            for pid in some:
                _signal(pid, signal.SIGCONT)
        trial.end(process, 0, 3)


def orchestrator_ended(number: signal.Signals) -> Callable[[Trial], None]:
    """By a signal, up to three times; then it goes on to its end."""

    def disturb(trial: Trial) -> None:
        trial.on_qemu()
        for _ in range(int(trial.rng.integers(1, 4))):
            with trial.started() as process:
                trial.wait_for_a_moment(process)
                process.send_signal(number)
                if trial.end(process, -number, 130, 0) == 0:
                    return
        trial.go_on()

    return disturb


def orchestrator_killed_as_it_writes(trial: Trial) -> None:
    """At a random statement of SQLite, within a round's or between two."""
    for most in (40, 25):
        killing.until_killed(trial.experiment, trial.store, int(trial.rng.integers(5, most)))
    trial.go_on()


def emulator_missing_at_restart(trial: Trial) -> None:
    trial.on_qemu()
    link = trial.folder / "bin" / QEMU
    program = link.readlink()
    with trial.started() as process:
        trial.wait_for_a_moment(process)
        link.unlink()
        for pid in killing.emulators(process.pid):
            _signal(pid, signal.SIGKILL)
        status = trial.end(process, 0, 1)
    link.symlink_to(program)
    if status:
        trial.go_on()


def disk_full(trial: Trial) -> None:
    """Files cannot grow beyond a size that is less than the store's."""
    limit = int(trial.rng.integers(8, 80)) * 1024

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with trial.started(limited) as process:
        status = trial.end(process, 0, 1)
    if status:
        trial.go_on()


def file_system_full(trial: Trial) -> None:
    """The store is on a small one of its own, which is made larger then."""
    size = int(trial.rng.integers(24, 200))
    with trial.small_disk(size):
        with trial.started() as process:
            status = trial.end(process, 0, 1)
        if status:
            trial.make_room()
            trial.go_on()


EVENTS: dict[str, Callable[[Trial], None]] = {
    **{f"link: {kind.replace('_', ' ')}": noise(kind) for kind in KINDS},
    "node killed": node_killed,
    "node stopped for a while": node_stopped,
    "node never answers": node_never_answers,
    "orchestrator killed": orchestrator_ended(signal.SIGKILL),
    "orchestrator killed as it writes": orchestrator_killed_as_it_writes,
    "orchestrator: SIGTERM": orchestrator_ended(signal.SIGTERM),
    "orchestrator: SIGINT": orchestrator_ended(signal.SIGINT),
    "emulator missing at restart": emulator_missing_at_restart,
    "disk full": disk_full,
    "file system full": file_system_full,
}


def _some(trial: Trial, pids: list[int]) -> list[int]:
    """One of them, or all."""
    return (
        pids
        if trial.rng.random() < 0.3
        else pids[: 1 + int(trial.rng.integers(len(pids) or 1))][-1:]
    )


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


# ---- the campaign --------------------------------------------------------------------------------


def attempt(event: str, seed: int, number: int, folder: Path) -> Trial:
    """The try with that number of an event. Raises NotHeld."""
    rng = np.random.default_rng([seed, [*EVENTS].index(event), number])
    trial = Trial(folder, rng)
    EVENTS[event](trial)
    trial.check()
    return trial


@dataclass
class Line:
    """Of the table."""

    tries: int = 0
    held: int = 0
    resumed: int = 0
    impossible: str = ""


def campaign(
    events: Iterable[str],
    seed: int,
    goes_on: Callable[[int], bool],
    problem: Callable[[str], None],
) -> dict[str, Line]:
    """The events one after the other and round again, as long as it goes on after so many rounds of
    them. problem: is told what was not held."""
    lines = {event: Line() for event in events}
    number = 0
    while goes_on(number):
        for event, line in lines.items():
            if not goes_on(number):
                break
            with tempfile.TemporaryDirectory(prefix="torture-") as folder:
                line.tries += 1
                try:
                    line.resumed += attempt(event, seed, number, Path(folder) / "try").resumed
                    line.held += 1
                except NotPossible as reason:
                    line.tries -= 1
                    line.impossible = str(reason)
                except NotHeld as reason:
                    problem(f"{event}, seed {seed}, try {number}: {reason}")
                except Exception as error:  # the campaign goes on
                    problem(f"{event}, seed {seed}, try {number}: {error!r}")
        number += 1
    return lines


def fuzzed(seed: int, seconds: int, problem: Callable[[str], None]) -> dict[str, Line]:
    """The core under libFuzzer: an input is a try. Nothing where there is no clang."""
    lines: dict[str, Line] = {}
    fuzzing.build()
    fuzzing.FOUND.mkdir(exist_ok=True)
    for harness in fuzzing.HARNESSES:
        try:
            found = fuzzing.fuzz(
                harness, f"-max_total_time={seconds}", seed=seed, folder=fuzzing.FOUND
            )
            lines[f"core: {harness} fuzzed"] = Line(found.runs, found.runs)
        except fuzzing.Finding as finding:
            lines[f"core: {harness} fuzzed"] = Line(1, 0)
            problem(str(finding))
    return lines


def table(lines: dict[str, Line]) -> Table:
    """For people."""
    found = Table("event", title="Torture")
    for head in ("tries", "held", "resumed"):
        found.add_column(head, justify="right")
    for event, line in lines.items():
        resumed = str(line.resumed) if line.resumed else ""
        name = f"{event}: not possible here: {line.impossible}" if line.impossible else event
        found.add_row(name, f"{line.tries:,}", f"{line.held:,}", resumed)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--event", choices=EVENTS, action="append", help="these alone")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=5.0)
    length.add_argument("--tries", type=int, help="of each event, and no fuzzing")
    arguments = parser.parse_args()
    console, problems = Console(), list[str]()
    begun, seconds = time.monotonic(), 60 * arguments.minutes

    def problem(text: str) -> None:
        problems.append(text)
        console.print("not held:", text, markup=False, highlight=False, soft_wrap=True)

    lines: dict[str, Line] = {}
    if arguments.tries is None and arguments.event is None:
        if (reason := fuzzing.missing()) is not None:
            console.print(f"The core is not fuzzed: {reason}")
        else:
            lines = fuzzed(arguments.seed, max(1, round(seconds / 10)), problem)

    def goes_on(number: int) -> bool:
        if arguments.tries is not None:
            return number < arguments.tries
        return time.monotonic() - begun < seconds

    lines = campaign(arguments.event or EVENTS, arguments.seed, goes_on, problem) | lines
    console.print(table(lines))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
