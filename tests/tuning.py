"""A small comparison that is tuned, in a folder; and a process of its trials that is killed."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from comparing import write
from tinymetafed.experiments import trials, tuning
from tinymetafed.experiments.trials import Tuning
from tinymetafed.experiments.tuning import Search, Trial
from tinymetafed.results.store import Store

TUNE = ("seeds = [1, 2]", "seeds = [1, 2]\n[tune]\nseeds = [11, 12]\n")
"""A change by which the comparison of comparing.py says how it is tuned."""


def more(text: str) -> tuple[str, str]:
    """A change, after that, by which [tune] has more lines."""
    return TUNE[1], f"{TUNE[1]}{text}\n"


def searches(folder: Path, *changes: tuple[str, str]) -> list[Search]:
    """What is tuned of that comparison, with more changes to it."""
    _, _, found = tuning.read(write(folder, TUNE, *changes))
    return found


def execute(found: Sequence[Search], folder: Path, count: int, jobs: int = 2) -> Tuning:
    """So many trials of each search, in the store of a folder."""
    work = Tuning(found, count, folder)
    work.execute(jobs, lambda i, done, doing: None)
    return work


def alone(search: Search, folder: Path, count: int, kill_at: int = 0) -> tuple[Trial, ...]:
    """The trials of one search in this process, which is killed when they say something for the
    time `kill_at`."""
    work = Tuning([search], count, folder)
    Store(work.folder).close()
    said = 0

    def say(over: int, doing: str) -> None:
        nonlocal said
        said += 1
        if said == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    trials._Trials(search, work._identities[0], work.folder, 1, say).until(count)
    work._look()
    return work.results[0].trials


def until_killed(search: Search, folder: Path, count: int, kill_at: int) -> None:
    """As alone, in another process."""
    # Not a copy of this process, which may have threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tuning"])
    process = context.Process(target=alone, args=(search, folder, count, kill_at))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
