"""What is tuned of a comparison: the settings of each strategy on each task, on other seeds and by
devices for validation; and what the trials came to."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from ..errors import TinyMetaFedError, visible
from ..strategies import Strategy
from . import comparison, search_space
from .comparison import ComparisonSettings, StrategyEntry, TaskEntry
from .experiment import Experiment
from .search_space import Level, Parameter, Value

JUDGED = 5
"""Times that a trial is judged, evenly spread over its rounds, the last time after the last."""

Measure = Literal["accuracy", "loss"]
State = Literal["complete", "pruned", "diverged", "failed"]


@dataclass(frozen=True)
class Search:
    """What is tuned: a strategy on a task.

    task, strategy: their labels. experiments: by seed, with the file's own settings. parameters:
    the settings that are searched.
    """

    task: str
    strategy: str
    experiments: tuple[Experiment, ...]
    parameters: tuple[Parameter, ...]

    def __str__(self) -> str:
        return f"{self.task} × {self.strategy}"

    @property
    def measure(self) -> Measure:
        """Of devices for validation after adaptation, by which trials are compared."""
        return "accuracy" if self.experiments[0].task.target_is_class else "loss"

    @property
    def rounds(self) -> int:
        """Of each run of a trial."""
        return self.experiments[0].rounds

    @property
    def judged(self) -> list[int]:
        """The rounds after which a trial is judged."""
        every = self.experiments[0].evaluation.every
        return [*range(every, self.rounds, every), self.rounds]

    @property
    def worst(self) -> float:
        """The value of what diverged on every device."""
        return -math.inf if self.measure == "accuracy" else math.inf

    @property
    def own(self) -> dict[str, Value]:
        """The settings of the file, by path."""
        return {one.path: one.value for one in self.parameters}

    def with_values(self, values: Mapping[str, Value]) -> list[Experiment]:
        """The experiments of a trial. Raises pydantic's ValidationError."""
        return [
            one.model_copy(update={"strategy": search_space.with_values(one.strategy, values)})
            for one in self.experiments
        ]


@dataclass(frozen=True)
class Trial:
    """A trial that is over.

    values: of the settings, by path. value: the mean over the seeds after the last round; None for
    one that is not complete. curve: that mean by round, as far as it was judged and is finite. why:
    it failed.
    """

    number: int
    state: State
    values: dict[str, Value]
    value: float | None
    curve: dict[int, float]
    why: str


@dataclass(frozen=True)
class Tuned:
    """What a search came to. trials: by number; the first has the settings of the file."""

    search: Search
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial | None:
        """The complete trial with the best value, of several the first."""
        sign = -1 if self.search.measure == "accuracy" else 1
        complete = [(sign * one.value, one) for one in self.trials if one.value is not None]
        return min(complete, key=lambda pair: pair[0])[1] if complete else None

    def count(self, state: State) -> int:
        """How many trials ended so."""
        return sum(one.state == state for one in self.trials)


def read(path: Path) -> tuple[ComparisonSettings, Path, list[Search]]:
    """What is to be tuned of the comparison in a file, and where that file is.

    Raises TinyMetaFedError that names the file, the task, the strategy and the key.
    """
    settings, path = comparison.parse(path)
    try:
        comparison.check_seeds(settings)
    except ValueError as error:
        raise TinyMetaFedError(f"{path}: {error}") from None
    searches: list[Search] = []
    every: dict[str, Level] = {}
    concerned: dict[str, list[Strategy]] = defaultdict(list)
    for task in settings.tasks:
        for strategy in settings.strategies:
            levels = list(_levels(settings, task, strategy))
            search = _search(settings, path, task, strategy, levels)
            searches.append(search)
            for level in levels:
                every[level.key] = level
                concerned[level.key].append(search.experiments[0].strategy)
    for key, level in every.items():
        if wrong := search_space.unknown(concerned[key], level.space):
            raise TinyMetaFedError(f"{path}: {key}.{wrong}")
    return settings, path, searches


def _levels(
    settings: ComparisonSettings, task: TaskEntry, strategy: StrategyEntry
) -> Iterator[Level]:
    """What the file says of the space, what is nearer to the strategy behind the rest."""
    i, j = settings.tasks.index(task), settings.strategies.index(strategy)
    yield Level("tune.space", settings.tune.space)
    yield Level(f"tasks.{i}.space", task.space)
    if (here := task.strategies.get(strategy.name)) is not None:
        yield Level(f"tasks.{i}.strategies.{strategy.name}.space", here.space)
    yield Level(f"strategies.{j}.space", strategy.space)


def _search(
    settings: ComparisonSettings,
    path: Path,
    task: TaskEntry,
    strategy: StrategyEntry,
    levels: list[Level],
) -> Search:
    origin = f"{path}: {task.label} × {strategy.label}"
    changes = settings.tune.changes
    experiments = tuple(
        _shortened(
            comparison.make(settings, path, task, strategy, seed, changes=changes),
            settings.tune.share,
        )
        for seed in settings.tune.seeds
    )
    found = search_space.parameters(experiments[0].strategy, levels, origin)
    search = Search(task.label, strategy.label, experiments, tuple(found))
    for one in found:
        for end in one.ends:
            try:
                search.with_values({one.path: end})
            except ValidationError as error:
                what = error.errors()[0]["msg"]
                raise TinyMetaFedError(
                    f"{origin}: {one.key}: {one.path} cannot be {end!r}: {what}"
                ) from None
    return search


def _shortened(experiment: Experiment, share: float) -> Experiment:
    """The experiment of a trial: a share of the rounds, judged evenly, and by devices for
    validation alone; nothing is emulated besides."""
    rounds = max(1, round(share * experiment.rounds))
    judged = {"every": -(-rounds // JUDGED), "unseen": 0}
    return experiment.model_copy(
        update={
            "rounds": rounds,
            "evaluation": experiment.evaluation.model_copy(update=judged),
            "nodes": experiment.nodes.model_copy(update={"emulate": 0}),
        }
    )


def leaks(settings: ComparisonSettings, searches: Sequence[Search]) -> list[str]:
    """A line for each task of which some devices are unseen in a run of the comparison, and others
    in a trial: by these, settings would be chosen."""
    lines: list[str] = []
    for label, task in {one.task: one.experiments[0].task for one in searches}.items():
        seeds = *settings.seeds, *settings.tune.seeds
        if len({task.prepare(seed).get("task.unseen") for seed in seeds}) > 1:
            lines.append(
                f"{visible(label)}: what is unseen depends on the seed, so trials learn from, or "
                "are judged by, some of what is unseen in the comparison's runs; task.split makes "
                "it the same"
            )
    return lines
