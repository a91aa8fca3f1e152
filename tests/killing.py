"""A run in a process that is killed."""

import os
import signal
import tempfile
from pathlib import Path

from tinymetafed.experiments import runner
from tinymetafed.experiments.experiment import Experiment
from tinymetafed.results.store import Store


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
    newest = next(reversed(store.runs()), None)
    runner.execute(experiment, store, newest, lambda done, doing: None)
