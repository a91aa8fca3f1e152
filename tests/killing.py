"""Runs in processes that are killed, and the emulators of a run."""

import multiprocessing
import os
import signal
import tempfile
from pathlib import Path

from tinymetafed.experiments import runner
from tinymetafed.experiments.experiment import Experiment
from tinymetafed.results.store import Run, Store


def run(experiment: Experiment, folder: Path, statement: int) -> None:
    """Starts the run in the folder's store, or goes on with it; ends its process with SIGKILL when
    SQLite begins the statement with that number."""
    tempfile.tempdir = str(folder.parent)  # what is left there goes with the test's own files
    store, left = Store(folder), statement

    def trace(sql: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    store._db.set_trace_callback(trace)
    runner.execute(experiment, store, newest(store), lambda done, doing: None)


def until_killed(experiment: Experiment, folder: Path, statement: int) -> Run | None:
    """As run, in another process. Returns what is in the folder's store then."""
    # Not a copy of this process, which may have threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killing"])
    process = context.Process(target=run, args=(experiment, folder, statement))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return newest(Store(folder))


def newest(store: Store) -> Run | None:
    """The run that was begun last."""
    return next(reversed(store.runs()), None)


def emulators(parent: int) -> list[int]:
    """Processes of QEMU that a process has started and that live."""
    found: list[int] = []
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        try:
            found += map(int, children.read_text().split())
        except OSError:  # it has ended meanwhile
            continue
    return sorted(pid for pid in found if _command(pid) == "qemu-system-arm")


def _command(pid: int) -> str:
    try:
        name, _, state = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(") ")
    except OSError:
        return ""
    return "" if state.startswith("Z") else name
