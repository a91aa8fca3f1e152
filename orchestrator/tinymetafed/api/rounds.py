"""Rounds of a run, one after the other, for a caller that has a loop of its own or none."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from ..errors import TinyMetaFedError
from ..experiments import runner
from ..experiments.experiment import Experiment
from ..experiments.extension import extended
from ..experiments.round_report import RoundReport
from ..plugins import blaming, check_unchanged
from ..report import described
from ..results.store import Store
from .result import Result


class Rounds:
    """Iterates over the rounds of a run as they are done. They are played in a thread with a loop
    of its own, so that the caller may be in a loop itself, as a notebook's is; the thread waits
    while the caller looks at a round. Who leaves the iteration stops the run, with the rounds so
    far in the store; who iterates once more goes on with it.

    Attributes:
        folder: of the store. run: its number in there; None before its first round.
    """

    def __init__(
        self,
        experiment: Experiment | None,
        folder: Path,
        run: int | None = None,
        threads: int | None = None,
        frames: Path | None = None,
        total: int | None = None,
        *,
        reschedule: bool = False,
    ) -> None:
        """experiment: of a new run; None for that of `run`. threads, frames: see runner.execute.
        total, reschedule: more rounds for `run`, see experiments/extension.py."""
        self.folder = folder
        self.run = run
        self.experiment = experiment
        self.threads, self.frames = threads, frames
        self.total, self.reschedule = total, reschedule

    @property
    def result(self) -> Result:
        """The run, as far as it is done. Raises TinyMetaFedError where nothing of it is stored."""
        if self.run is None:
            raise TinyMetaFedError("the run has not begun: nothing of it is in the store")
        return Result(self.folder, self.run)

    def __iter__(self) -> Iterator[RoundReport]:
        worker = _Worker(self)
        try:
            yield from worker.reports()
        finally:
            worker.close()


class _Worker:
    """The thread in which rounds are played."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._given: SimpleQueue[RoundReport | BaseException | None] = SimpleQueue()
        self._taken = threading.Semaphore(0)
        self._last: RoundReport | None = None
        self._cancel: Callable[[], object] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="tinymetafed", daemon=True)

    def reports(self) -> Iterator[RoundReport]:
        """Until the run ends. Raises what ended it."""
        self._thread.start()
        while (found := self._given.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            self._last = found
            yield found
            self._last = None
            self._taken.release()

    def close(self) -> None:
        """Ends the thread, between two rounds where it is there, else amid one."""
        self._closed = True
        if self._last is not None:
            self._last.stop()
        elif self._cancel is not None:
            with suppress(RuntimeError):  # its loop has ended
                self._cancel()
        self._taken.release()
        self._thread.join()

    def _work(self) -> None:
        try:
            self._play(self._rounds)
        except BaseException as error:  # also KeyboardInterrupt, which is the caller's
            self._given.put(error)
        else:
            self._given.put(None)

    def _play(self, rounds: Rounds) -> None:
        store = Store(rounds.folder)
        try:
            run = None if rounds.run is None else store.run(str(rounds.run))
            experiment = rounds.experiment
            if run is not None:
                check_unchanged(run.id, run.versions)
                experiment = described.settings(run)
                if (total := rounds.total) is not None:
                    experiment = extended(experiment, run, total, reschedule=rounds.reschedule)
            assert experiment is not None
            with blaming():
                experiment.task.prepare(experiment.seed)
            ended, _ = runner.execute(
                experiment, store, run, lambda done, doing: None, rounds.threads, rounds.frames,
                self._give, self._started,
            )  # fmt: skip
            rounds.run = ended.id
        finally:
            store.close()

    def _started(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        if self._closed:
            cancel()

    def _give(self, report: RoundReport) -> None:
        """Has the caller look at it, and waits until it has."""
        self._rounds.run = report.run
        if not self._closed:
            self._given.put(report)
            self._taken.acquire()
        if self._closed:
            report.stop()
