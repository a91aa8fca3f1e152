"""Trials of settings, drawn and pruned by Optuna, each in runs of its own.

The runs of a trial, one for each seed, are played side by side from one judgement to the next,
where their mean decides whether the trial goes on. The trials of a task and strategy follow each
other, each drawn with a seed of its own, and several tasks and strategies have processes side by
side. So the trials are the same however many processes there are, and whether or not they were
stopped on the way. Optuna's studies are in a file in the store's folder, and beside it a store of
the runs of those trials that go on.
"""

import fcntl
import hashlib
import importlib.metadata
import json
import logging
import math
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from .. import federation
from ..errors import Diverged, TinyMetaFedError, without_extra
from ..nodes.answers import NodeRefused
from ..results import opening
from ..results.store import Judged, Run, Store
from . import runner
from .comparison import Cell
from .experiment import Experiment
from .round_report import RoundReport
from .scheduler import SideBySide, identities, in_a_process
from .search_space import Parameter, Value
from .tuning import Search, State, Trial, Tuned

if TYPE_CHECKING:
    import optuna

UNPRUNED = 5
"""Trials of a task and strategy that are not pruned; the first has the settings of the file."""
FIRST_PRUNED = 2
"""The judgement from which on others are: in the first, a trial may hardly have begun."""
WHY = "why"
"""The attribute of a trial that failed that says so."""

Say = Callable[[int, str], None]
Identity = dict[str, str]


class Tuning(SideBySide):
    """The trials of several searches.

    Raises TinyMetaFedError where the nodes cannot run, there are no data for them, or Optuna is not
    installed.

    Attributes:
        results: of the searches, in their order, as far as their trials are over.
        others: how many searches there were besides: of other comparisons, settings or versions.
    """

    def __init__(self, searches: Sequence[Search], trials: int | None, folder: Path) -> None:
        """trials: of each search, with those that are over; what others there are does not count,
        so that all have as many. Where not given, all that are over. folder: of the store; nothing
        is made in it before the first trial."""
        super().__init__()
        _optuna()
        self.searches = searches
        self.folder = folder / "tune"
        self._trials = trials
        every = identities([one for search in searches for one in search.experiments])
        self._identities: list[list[Identity]] = []
        for search in searches:
            self._identities.append([every.pop(0) for _ in search.experiments])
        self._look()

    def _look(self) -> None:
        self.results = [Tuned(one, ()) for one in self.searches]
        self.others = 0
        if not _path(self.folder).exists():
            return
        with _reporting(self.folder):
            storage = _storage(self.folder)
            known = set(_optuna().get_all_study_names(storage))
            names = map(study_name, self.searches, self._identities)
            for i, name in enumerate(names):
                if name in known:
                    study = _optuna().load_study(study_name=name, storage=storage)
                    over = [one for one in study.get_trials() if one.state.is_finished()]
                    search = self.searches[i]
                    found = tuple(_trial(search, one) for one in over[: self._trials])
                    self.results[i] = Tuned(search, found)
                    known.remove(name)
            self.others = len(known)

    @property
    def cells(self) -> list[Cell]:
        """A run of each search, as scheduler.default_jobs wants it."""
        return [Cell(one.task, one.strategy, one.experiments[0]) for one in self.searches]

    def wanted(self, i: int) -> int:
        """Trials of a search: one where nothing is searched."""
        return (self._trials or 0) if self.searches[i].parameters else 1

    @property
    def unfinished(self) -> list[int]:
        """Indices of the searches that lack trials."""
        pairs = enumerate(self.results)
        return [i for i, one in pairs if len(one.trials) < self.wanted(i)]

    def execute(self, jobs: int, progress: Callable[[int, int, str], None]) -> None:
        """See SideBySide. Raises TinyMetaFedError where another process tunes in this folder."""
        if not self.unfinished:
            return
        with opening.in_words(self.folder):
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        Store(self.folder).close()  # its tables, before there are several processes
        with _alone(self.folder):
            with _reporting(self.folder), opening.in_words(self.folder):
                _path(self.folder).touch(mode=0o600)
                _storage(self.folder)
            super().execute(jobs, progress)

    def _name(self, i: int) -> str:
        return str(self.searches[i])

    def _work(self, i: int, threads: int) -> tuple[Callable[..., None], tuple[Any, ...]]:
        arguments = self.searches[i], self._identities[i], self.wanted(i), self.folder.absolute()
        return _search, (*arguments, threads)

    def _done(self, i: int) -> int:
        self._look()
        return len(self.results[i].trials)


def _optuna() -> Any:
    """The module. Raises TinyMetaFedError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise without_extra("tuning", "tune", error) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def made_by() -> str:
    """The versions that trials depend on."""
    packages = ("tinymetafed", "optuna")
    return ", ".join(f"{one} {importlib.metadata.version(one)}" for one in packages)


def study_name(search: Search, identity: Sequence[Identity]) -> str:
    """Another one where trials would not be the same: of other settings, ranges, data or
    versions."""
    ranges = [(one.path, one.range.model_dump(mode="json")) for one in search.parameters]
    text = json.dumps([ranges, *identity], sort_keys=True)
    return f"{search} ({hashlib.sha256(text.encode()).hexdigest()[:12]})"


# ---- the file of the studies --------------------------------------------------------------------


def _path(folder: Path) -> Path:
    return folder / "optuna.sqlite"


def _storage(folder: Path) -> "optuna.storages.RDBStorage":
    """Raises TinyMetaFedError where a version of Optuna has made it that this one does not know."""
    path = _path(folder).absolute()
    optuna = _optuna()
    try:
        return optuna.storages.RDBStorage(
            f"sqlite:///{path}",
            {"connect_args": {"timeout": 60}},  # seconds that another process may write
        )
    except RuntimeError as error:
        raise TinyMetaFedError(f"{path}: {str(error).splitlines()[0]}") from None


@contextmanager
def _reporting(folder: Path) -> Iterator[None]:
    """What goes wrong with the file in a user's words: TinyMetaFedError."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, sqlite3.Error):
            cause = getattr(cause, "orig", None) or cause.__cause__
        if cause is None:
            raise
        with opening.in_words(_path(folder)):
            raise cause from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else tunes in the folder meanwhile. What ends the process ends this too."""
    with opening.in_words(folder):
        file = (folder / "tune.lock").open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TinyMetaFedError(
                f"{folder}: another 'tinymetafed tune' goes on; stop that first"
            ) from None
        yield


def _trial(search: Search, trial: "optuna.trial.FrozenTrial") -> Trial:
    value = trial.value if trial.value is not None and math.isfinite(trial.value) else None
    state: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    found = state[trial.state.name]
    curve = {
        search.judged[step - 1]: one
        for step, one in trial.intermediate_values.items() if math.isfinite(one)
    }  # fmt: skip
    return Trial(
        trial.number,
        "diverged" if found == "complete" and value is None else found,
        {one.path: trial.params[one.path] for one in search.parameters if one.path in trial.params},
        value if found == "complete" else None,
        curve,
        trial.user_attrs.get(WHY, ""),
    )


# ---- in a process: the trials of a search -------------------------------------------------------


def _search(
    search: Search,
    identity: Sequence[Identity],
    wanted: int,
    folder: Path,
    threads: int,
    pipe: Connection,
) -> None:
    with in_a_process(pipe), _reporting(folder), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "invalid value", RuntimeWarning)  # medians of infinities
        # That training diverges is what a trial may come to.
        logging.getLogger(federation.__name__).setLevel(logging.ERROR)

        def say(over: int, doing: str) -> None:
            pipe.send(("progress", over, doing))

        _Trials(search, identity, folder, threads, say).until(wanted)


def _value(search: Search, first: Judged, judged: Judged) -> float:
    """Of the devices that were judged. One that diverged has gained nothing: it has no accuracy, or
    the loss of a device before training. first: the judgement before training."""
    if search.measure == "accuracy":
        mean, otherwise = judged.accuracy_after, 0.0
    else:
        mean, otherwise = judged.loss_after, first.loss_before
    if mean is None or otherwise is None:
        return search.worst
    if not judged.diverged:
        return mean
    share = judged.diverged / judged.devices
    return (1 - share) * mean + share * otherwise


class _Trials:
    """The trials of a search, one after the other."""

    def __init__(
        self, search: Search, identity: Sequence[Identity], folder: Path, threads: int, say: Say
    ) -> None:
        self._search, self._identity, self._threads, self._say = search, identity, threads, say
        self._store = Store(folder)
        optuna = self._optuna = _optuna()
        self._study: Any = optuna.create_study(
            storage=_storage(folder), study_name=study_name(search, identity), load_if_exists=True,
            direction="maximize" if search.measure == "accuracy" else "minimize",
            pruner=optuna.pruners.MedianPruner(UNPRUNED, FIRST_PRUNED),
        )  # fmt: skip

    def until(self, wanted: int) -> None:
        """Until so many are over. Raises TinyMetaFedError where the bench is why one cannot go on:
        it goes on the next time."""
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(self._search.own)
        while True:
            trials = self._study.get_trials(deepcopy=False)
            over = sum(one.state.is_finished() for one in trials)
            if over >= wanted:
                return
            self._over, self._doing = over, f"trial {over + 1} of {wanted}"
            self._say(over, self._doing)
            trial = self._next(trials)
            state, value = self._play(trial)
            self._study.tell(trial, value, getattr(self._optuna.trial.TrialState, state))

    def _next(self, trials: "Sequence[optuna.trial.FrozenTrial]") -> "optuna.Trial":
        """The trial that was stopped on the way, or a new one."""
        stopped = [one for one in trials if one.state.name == "RUNNING"]
        number = stopped[0].number if stopped else len(trials)
        text = f"{self._search.task}\0{self._search.strategy}\0{number}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed)
        if stopped:
            return self._optuna.trial.Trial(self._study, stopped[0]._trial_id)
        return self._study.ask()

    def _play(self, trial: "optuna.Trial") -> tuple[str, float | None]:
        """What becomes of it: its state in Optuna, and its value. Raises TinyMetaFedError."""
        values = {one.path: self._suggest(trial, one) for one in self._search.parameters}
        experiments: list[Experiment] = []
        try:
            experiments = self._search.with_values(values)
            found = self._judge(trial, experiments)
        except Diverged:
            found = "COMPLETE", self._search.worst
        except (ValidationError, NodeRefused) as error:
            trial.set_user_attr(WHY, str(error).splitlines()[0])
            found = "FAIL", None
        # Before the trial is told to be over, so that none is left over.
        for i, one in enumerate(experiments):
            if (run := self._find(i, one)) is not None:
                self._store.delete([run.id])
        return found

    def _suggest(self, trial: "optuna.Trial", of: Parameter) -> Value:
        span = of.range
        if span.low is None or span.high is None:
            found: Any = trial.suggest_categorical(of.path, span.choices)
            return found
        if isinstance(of.value, int):
            return trial.suggest_int(of.path, int(span.low), int(span.high), log=span.log)
        return trial.suggest_float(of.path, span.low, span.high, log=span.log)

    def _judge(
        self, trial: "optuna.Trial", experiments: Sequence[Experiment]
    ) -> tuple[str, float | None]:
        reported = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        value = self._search.worst
        for step, rounds in enumerate(self._search.judged, start=1):
            value = fmean(self._until_round(i, one, rounds) for i, one in enumerate(experiments))
            if step not in reported:
                trial.report(value, step)
            if rounds < self._search.rounds and trial.should_prune():
                return "PRUNED", None
        return "COMPLETE", value

    def _until_round(self, i: int, experiment: Experiment, rounds: int) -> float:
        """The value of a run after so many rounds, as far as they are not in the store."""
        run = self._find(i, experiment)
        if run is None or run.done < rounds:
            run = self._execute(experiment, run, rounds)
        by_round = {one.round: one for one in self._store.judged(run.id, "validation")}
        return _value(self._search, by_round[0], by_round[rounds])

    def _find(self, i: int, experiment: Experiment) -> Run | None:
        settings = experiment.model_dump_json()
        return self._store.find(**{**self._identity[i], "settings": settings})

    def _execute(self, experiment: Experiment, run: Run | None, rounds: int) -> Run:
        def progress(done: int, doing: str) -> None:
            where = f"seed {experiment.seed}, round {done} of {experiment.rounds}"
            self._say(self._over, f"{self._doing}, {where}")

        def stop(report: RoundReport) -> None:
            if report.number == rounds:
                report.stop()

        run, _ = runner.execute(
            experiment, self._store, run, progress, self._threads, on_round=stop
        )
        return run
