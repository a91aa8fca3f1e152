"""One run that is disturbed, in a process of its own, and what it should come to."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import killing
from conftest import SMALL
from running import STRATEGIES, came_to, execute
from tinymetafed.experiments.experiment import Experiment, parse
from tinymetafed.nodes.qemu import QEMU
from tinymetafed.results.store import Store

ROUNDS = 8
LONGEST = 120  # seconds of one command


class NotHeld(Exception):
    """What a run did that it should not."""


class NotPossible(Exception):
    """Why this cannot be done to a run here."""


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

    @contextmanager
    def small_disk(self, size: int) -> Iterator[None]:
        """The store is on a file system of so many KiB; it is on a usual one afterwards. Raises
        NotPossible."""
        place = self.folder / "disk"
        place.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place))
        self.store.symlink_to(place)
        try:
            yield
            shutil.copytree(place, self.folder / "copy")
        finally:
            subprocess.run(["umount", str(place)], check=True)
            self.store.unlink()
        (self.folder / "copy").rename(self.store)

    def make_room(self) -> None:
        """On the small disk."""
        _mount("-o", "remount,size=64m", str(self.folder / "disk"))

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


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise NotPossible(f"mount: {error.strerror}") from None
    if done.returncode:
        raise NotPossible(done.stderr.strip())
