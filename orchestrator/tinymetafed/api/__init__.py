"""The public API; `tinymetafed` has all of it, with what users' classes need."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from .. import places
from ..experiments import experiment as files
from ..experiments.experiment import Experiment
from ..experiments.round_report import RoundReport
from ..results.store import Store
from .comparison import Comparison
from .result import Adapted, Result
from .rounds import Rounds

__all__ = [
    "Adapted", "Comparison", "Experiment", "Result", "RoundReport", "Rounds", "build_experiment",
    "comparison", "read_experiment", "result", "resume", "rounds", "run", "runs",
]  # fmt: skip

AnyPath = str | PathLike[str]


def read_experiment(path: AnyPath, changes: Mapping[str, Any] | Sequence[str] = ()) -> Experiment:
    """The experiment in a file, with changes: {"nodes.count": 8}, or ["nodes.count=8"] as on the
    command line. Raises TinyMetaFedError that names file and key."""
    return files.read(Path(path), changes if isinstance(changes, Mapping) else tuple(changes))


def build_experiment(settings: Mapping[str, Any], folder: AnyPath = ".") -> Experiment:
    """An experiment of the same tables and keys as a file's. folder: that paths in it are relative
    to. Raises TinyMetaFedError that names the key."""
    return files.build(dict(settings), "experiment", Path(folder))


def rounds(
    experiment: Experiment | AnyPath,
    *,
    store: AnyPath | None = None,
    threads: int | None = None,
    frames: AnyPath | None = None,
) -> Rounds:
    """The rounds of a new run, to iterate over as they are done:

        for report in tinymetafed.rounds("smoke.toml"):
            print(report.number, report.loss)

    Leaving the iteration stops the run, with all rounds so far in the store. Where it is iterated
    over once more, it goes on. It works in a notebook, too, and in threads. store: the folder of
    the runs; $TMF_RUNS or `runs` where not given. threads: for the work of host nodes. frames: a
    file for every frame. Raises TinyMetaFedError while iterated over.
    """
    found = experiment if isinstance(experiment, Experiment) else read_experiment(experiment)
    return Rounds(found, _folder(store), None, threads, _path(frames))


def run(
    experiment: Experiment | AnyPath,
    *,
    on_round: Callable[[RoundReport], None] | None = None,
    store: AnyPath | None = None,
    threads: int | None = None,
    frames: AnyPath | None = None,
) -> Result:
    """Runs an experiment, or the one in a file, and returns what it came to.

    on_round: called in this thread with each round when it is in the store; it may call stop() of
    the report, and what it raises ends the run too. The rest: see rounds. Raises TinyMetaFedError;
    its kind FirmwareFault where the firmware of a node is why. KeyboardInterrupt leaves the rounds
    so far in the store, and no process behind.
    """
    every = rounds(experiment, store=store, threads=threads, frames=frames)
    return _all(every, on_round)


def resume(
    run: int | str = "last",
    *,
    rounds: int | None = None,
    reschedule: bool = False,
    on_round: Callable[[RoundReport], None] | None = None,
    store: AnyPath | None = None,
    threads: int | None = None,
    frames: AnyPath | None = None,
) -> Result:
    """Goes on with a run that stopped, by its number or name; otherwise as `run`. It comes to what
    a run that never stopped comes to. rounds: as many in all, for a run that has all of its own;
    reschedule: also where its strategy's rounds depend on how many there are, so that it is not the
    run that had them from the start. Raises TinyMetaFedError also where the firmware or a user's
    class is another than at its beginning."""
    folder = _folder(store)
    number = Result(folder, run).id
    every = Rounds(None, folder, number, threads, _path(frames), rounds, reschedule=reschedule)
    return _all(every, on_round)


def result(run: int | str = "last", *, store: AnyPath | None = None) -> Result:
    """A run that is in the store, by its number or name. Raises TinyMetaFedError where there is
    none."""
    return Result(_folder(store), run)


def runs(*, store: AnyPath | None = None) -> list[Result]:
    """All runs in the store, the oldest first."""
    folder = _folder(store)
    found = Store(folder, read_only=True)
    try:
        return [Result(folder, one.id) for one in found.runs()]
    finally:
        found.close()


def comparison(
    file: AnyPath, *, baseline: str | None = None, store: AnyPath | None = None
) -> Comparison:
    """What the runs of a comparison file came to, as far as they are in the store; `tinymetafed
    compare` makes them. baseline: label of the strategy to compare the others with; the file's, or
    its first. Raises TinyMetaFedError."""
    return Comparison(Path(file), _folder(store), baseline)


def _all(every: Rounds, on_round: Callable[[RoundReport], None] | None) -> Result:
    for report in every:
        if on_round is not None:
            on_round(report)
    return every.result


def _path(path: AnyPath | None) -> Path | None:
    return None if path is None else Path(path)


def _folder(store: AnyPath | None) -> Path:
    return places.STORE if store is None else Path(store)
