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
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import fuzzing
import killing
from conftest import SMALL
from running import STRATEGIES, came_to, execute
from tinymetafed.experiments.experiment import Experiment, parse
from tinymetafed.nodes.qemu import QEMU
from tinymetafed.results.store import Store

ROUNDS = 8
LONGEST = 120  # seconds of one command
KINDS = ("flipped_bytes", "lost_bytes", "lost_frames", "doubled_frames", "reordered_frames")


class NotHeld(Exception):
    """What a run did that it should not."""


@dataclass
class Trial:
    """One experiment and what is done to it."""

    folder: Path
    rng: np.random.Generator
    changes: list[str] = field(default_factory=list)
    resumed: int = 0

    def __post_init__(self) -> None:
        """Draws the experiment. It has short timeouts, so that a node that is stopped is given up
        within seconds."""
        strategy = [*STRATEGIES][self.rng.integers(len(STRATEGIES))]
        self.folder.mkdir()
        (self.folder / "small.toml").write_text(SMALL)
        (self.folder / "tmp").mkdir()
        (self.folder / "bin").mkdir()
        found = shutil.which(QEMU)
        if found is not None:
            (self.folder / "bin" / QEMU).symlink_to(found)
        self.changes = [
            *STRATEGIES[strategy], f"rounds={ROUNDS}", f"seed={self.rng.integers(1000)}",
            "nodes.count=3", "nodes.timeout=0.4",
        ]  # fmt: skip
        if self.rng.random() < 0.5:
            self.changes.append("participation={leave=0.2, join=0.6}")

    def change(self, *changes: str) -> None:
        """Of the experiment."""
        self.changes += changes

    def on_qemu(self) -> None:
        """With either link."""
        self.change("nodes.backend=qemu", f"nodes.link={self.rng.choice(['dma', 'uart'])}")

    @property
    def experiment(self) -> Experiment:
        """The experiment as it is now."""
        return parse(SMALL, "SMALL", tuple(self.changes))

    @property
    def store(self) -> Path:
        """The folder of the run's store."""
        return self.folder / "runs"

    @property
    def environment(self) -> dict[str, str]:
        """Of the orchestrator; QEMU is found through a link that may be taken away."""
        rest = [one for one in os.environ["PATH"].split(":") if not (Path(one) / QEMU).exists()]
        return os.environ | {
            "PATH": ":".join([str(self.folder / "bin"), *rest]),
            "TMPDIR": str(self.folder / "tmp"),
            "TMF_RUNS": str(self.store),
        }

    @property
    def done(self) -> int:
        """Rounds that are in the store; -1 where the run is not there yet."""
        with suppress(sqlite3.Error), closing(sqlite3.connect(self._file, uri=True)) as database:
            (done,) = database.execute("SELECT max(done) FROM run").fetchone()
            return -1 if done is None else done
        return -1

    @property
    def _file(self) -> str:
        """For a look at the store that changes nothing in it."""
        return f"file:{self.store}/runs.sqlite?mode=ro"

    def command(self) -> list[str]:
        """Begins the run, or goes on with it."""
        command = [sys.executable, "-m", "tinymetafed", "run"]
        if self.done >= 0:
            return [*command, "--resume", "last"]
        return [*command, "small.toml", *(part for one in self.changes for part in ("--set", one))]

    @contextmanager
    def started(self, before: Callable[[], None] | None = None) -> Iterator[subprocess.Popen[str]]:
        """The orchestrator, which is ended. before: in its process."""
        process = subprocess.Popen(
            self.command(), cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=before,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def wait_for_a_moment(self, process: subprocess.Popen[str]) -> None:
        """Until its nodes are there, the run is in the store or some round is done, and a few
        milliseconds longer; or the process has ended."""
        rounds, more = int(self.rng.integers(-1, ROUNDS - 1)), float(self.rng.uniform(0, 0.08))
        while process.poll() is None and (
            self.done < rounds or (not killing.emulators(process.pid) and self._emulated)
        ):
            time.sleep(0.02)
        time.sleep(more)

    @property
    def _emulated(self) -> bool:
        return "nodes.backend=qemu" in self.changes

    def end(self, process: subprocess.Popen[str], *statuses: int) -> int:
        """Waits for the orchestrator's end: with one of these statuses, or, of an error, with one
        line. No emulator may outlive it."""
        emulators = killing.emulators(process.pid)
        try:
            _, errors = process.communicate(timeout=LONGEST)
        except subprocess.TimeoutExpired:
            raise NotHeld(f"it did not end within {LONGEST} s") from None
        status = process.returncode
        if status not in statuses:
            raise NotHeld(f"exit status {status}: {errors[-2000:]}")
        if "Traceback" in errors:
            raise NotHeld(f"a traceback: {errors[-2000:]}")
        if status == 1 and not errors.strip().splitlines()[-1].startswith("error: "):
            raise NotHeld(f"no error in one line: {errors[-2000:]}")
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in emulators):
            if time.monotonic() > deadline:
                raise NotHeld(f"emulators stay behind: {emulators}")
            time.sleep(0.02)
        return status

    def go_on(self) -> None:
        """Until the run has ended well."""
        self.resumed += 1
        with self.started() as process:
            self.end(process, 0)

    def check(self) -> None:
        """Raises NotHeld where the run came to anything else than one that was not disturbed."""
        disturbing = ("nodes.backend", "nodes.link", "faults")
        quiet = [one for one in self.changes if not one.startswith(disturbing)]
        whole = came_to(*execute(parse(SMALL, "SMALL", tuple(quiet)), self.folder / "whole"))
        store = Store(self.store)
        run = store.run("last")
        found = came_to(store, run)
        differ = [key for key in whole if key != "rows" and whole[key] != found[key]]
        if len(store.runs()) != 1:
            differ.append("number of runs")
        if differ:
            raise NotHeld(f"other {', '.join(differ)} than the undisturbed run's")


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
    trial.on_qemu()
    with trial.started() as process:
        trial.wait_for_a_moment(process)
        for pid in _some(trial, killing.emulators(process.pid)):
            _signal(pid, signal.SIGKILL)
        trial.end(process, 0, 3)


def node_stopped(trial: Trial) -> None:
    """For a while that is shorter than all attempts to reach it, or longer."""
    trial.on_qemu()
    with trial.started() as process:
        trial.wait_for_a_moment(process)
        stopped = _some(trial, killing.emulators(process.pid))
        for pid in stopped:
            _signal(pid, signal.SIGSTOP)
        time.sleep(float(trial.rng.uniform(0.05, 2.0)))
        for pid in stopped:
            _signal(pid, signal.SIGCONT)
        trial.end(process, 0, 3)


def node_never_answers(trial: Trial) -> None:
    trial.on_qemu()
    with trial.started() as process:
        trial.wait_for_a_moment(process)
        for pid in _some(trial, killing.emulators(process.pid)):
            _signal(pid, signal.SIGSTOP)
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
                except NotHeld as reason:
                    problem(f"{event}, seed {seed}, try {number}: {reason}")
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
        found.add_row(event, f"{line.tries:,}", f"{line.held:,}", resumed)
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
