"""Runs of the store as a comparison file has them: under its labels, with its targets."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import TinyMetaFedError
from ..experiments import shipped
from ..experiments.comparison import Cell, ComparisonSettings
from ..experiments.moved import placeless
from ..results.store import Run, Store
from . import described, measured
from .groups import Group, TaskRuns
from .results import Result

Read = Callable[[Run], Result | None]
"""None where it cannot be shown."""


def file(which: Sequence[str]) -> Path | None:
    """The comparison file that is meant in the place of runs; None where it is none."""
    if not any(one.endswith(".toml") for one in which):
        known = len(which) == 1 and which[0] in shipped.names("comparison")
        return shipped.find(Path(which[0]), "comparison") if known else None
    if len(which) > 1:
        raise TinyMetaFedError("give one comparison file, or numbers and names of runs")
    return Path(which[0])


def find(cells: Sequence[Cell], store: Store) -> list[Run | None]:
    """The run of each cell, of those with the same settings that which is the farthest, then the
    newest, whatever version has made it and wherever files of the user's own lay then."""
    wanted = {cell.experiment.model_dump_json(): i for i, cell in enumerate(cells)}
    for cell, i in zip(cells, range(len(cells)), strict=True):
        # What was begun before there were devices for validation has none.
        none = cell.experiment.evaluation.model_copy(update={"devices": 0})
        old = cell.experiment.model_copy(update={"evaluation": none})
        wanted.setdefault(old.model_dump_json(), i)
    moved = {placeless(text): i for text, i in wanted.items()}
    names = {cell.experiment.name for cell in cells}
    found: list[Run | None] = [None] * len(cells)
    for run in store.runs():
        i = wanted.get(run.settings)
        if i is None and run.name in names:
            i = moved.get(placeless(run.settings))
        if i is None and run.name in names:
            try:
                i = wanted.get(described.settings(run).model_dump_json())
            except TinyMetaFedError:
                continue
        if i is not None:
            known = found[i]
            if known is None or run.done >= known.done:
                found[i] = run
    return found


def tasks(
    settings: ComparisonSettings, cells: Sequence[Cell], runs: Sequence[Run | None], read: Read
) -> list[TaskRuns]:
    """In the order of the file; those without any run are left out."""
    pairs = list(zip(cells, runs, strict=True))
    found: list[TaskRuns] = []
    for task in settings.tasks:
        groups: list[Group] = []
        missing: dict[str, int] = {}
        absent: list[str] = []
        for strategy in settings.strategies:
            where = (task.label, strategy.label)
            mine = [run for cell, run in pairs if (cell.task, cell.strategy) == where]
            there = [run for run in mine if run is not None]
            lacking = len(mine) - sum(run.done >= run.rounds for run in there)
            if not there:
                absent.append(strategy.label)
            elif lacking:
                missing[strategy.label] = lacking
            if results := [one for run in there if (one := read(run)) is not None]:
                groups.append(Group(strategy.label, results))
        if groups:
            found.append(TaskRuns(task.label, groups, [], task.target, missing, absent))
    return found


def not_run(
    settings: ComparisonSettings, cells: Sequence[Cell], runs: Sequence[Run | None]
) -> Iterator[str]:
    """What has no run: a task, or strategies on it."""
    there = {
        (cell.task, cell.strategy) for cell, run in zip(cells, runs, strict=True) if run is not None
    }
    for task in settings.tasks:
        labels = [one.label for one in settings.strategies]
        lacking = [label for label in labels if (task.label, label) not in there]
        if lacking == labels:
            yield f"{task.label}: all strategies"
        elif lacking:
            yield f"{task.label}: {', '.join(lacking)}"


def against_no_federation(store: Store, task: TaskRuns) -> None:
    """Adds to each run the share of devices that it serves worse than no federation does."""
    alone = task.alone
    others = {one.run.seed: one.plain for one in alone.settled} if alone else {}
    for group in task.groups:
        for one in group.settled if group is not alone else ():
            other = others.get(one.run.seed)
            if alone is None or other is not None:
                measured.against_no_federation(store, one.run, one.plain, other)
