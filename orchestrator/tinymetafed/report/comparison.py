"""What the runs of a comparison came to: quantities, their means over the seeds, what a strategy
comes to beside a baseline; files of it."""

import csv
import json
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path

from ..experiments.comparison import ComparisonSettings
from ..experiments.scheduler import Comparison
from ..files import escaped, reporting, writing
from ..results.store import Run, Store
from .measured import FIRST_WEIGHTS, Measured, against_no_federation, measure
from .over_seeds import Result, UntilTarget, results, until_target


@dataclass(frozen=True)
class RunState:
    """A cell of the comparison: its run's number in the store and rounds there; why it failed."""

    task: str
    strategy: str
    seed: int
    run: int | None
    rounds: int
    failed: str


@dataclass(frozen=True)
class Value:
    """A quantity of one run. device, radio: what it is priced for, where it is energy. censored:
    the run ended without reaching the target, so that it takes more than this."""

    task: str
    strategy: str
    seed: int
    device: str
    radio: str
    quantity: str
    value: float
    censored: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a comparison came to: a run for each cell; values and results of the finished ones.

    baseline: label of the strategy that the others are compared with. no_federation: what devices
    are served worse than: the label of `local`, or FIRST_WEIGHTS.
    """

    runs: list[RunState]
    values: list[Value]
    results: list[Result]
    until_target: list[UntilTarget] = field(default_factory=list)
    baseline: str = ""
    no_federation: str = FIRST_WEIGHTS


KINDS = {"runs": RunState, "values": Value, "results": Result, "until_target": UntilTarget}
"""The tables of an Outcome."""


def outcome(settings: ComparisonSettings, comparison: Comparison, store: Store) -> Outcome:
    """From the store.

    Bytes and joules are those of all nodes together. What a run does not have is left out: a loss
    where adaptation diverged on all devices, accuracy without classes, joules where nothing was
    counted. Raises TinyMetaFedError where a device's core was not priced when the run was made.
    """
    targets = {task.label: task.target for task in settings.tasks}
    unfinished = comparison.unfinished
    states: list[RunState] = []
    found: dict[tuple[str, str, int], Measured] = {}
    runs: dict[tuple[str, str, int], Run] = {}
    for i, (cell, run) in enumerate(zip(comparison.cells, comparison.runs, strict=True)):
        where = (cell.task, cell.strategy, cell.experiment.seed)
        number, done = (run.id, run.done) if run else (None, 0)
        states.append(RunState(*where, number, done, comparison.failed.get(i, "")))
        if run is not None and i not in unfinished:
            priced = settings.devices, settings.radios
            target = targets[cell.task]
            found[where] = measure(store, run, cell.experiment, target, *priced)
            runs[where] = run
    alone = next((one.label for one in settings.strategies if one.name == "local"), None)
    for (task, strategy, seed), run in runs.items():
        other = found.get((task, alone, seed)) if alone is not None else None
        if strategy != alone and (alone is None or other is not None):
            against_no_federation(store, run, found[task, strategy, seed], other)
    return Outcome(
        states,
        [
            Value(*where, *key, one.value, one.censored)
            for where, run in found.items()
            for key, one in run.figures.items()
        ],
        results(found, settings.compared_with),
        until_target(found, targets),
        settings.compared_with,
        alone or FIRST_WEIGHTS,
    )


def write_csv(found: Outcome, folder: Path) -> None:
    """The tables of KINDS in the folder, each as NAME.csv. Raises TinyMetaFedError."""
    with reporting(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, kind in KINDS.items():
        with writing(folder / f"{name}.csv") as file:
            writer = csv.writer(file)
            writer.writerow([field.name for field in fields(kind)])
            writer.writerows(escaped(astuple(row)) for row in getattr(found, name))


def write_json(found: Outcome, path: Path) -> None:
    """All of it in one object. Raises TinyMetaFedError."""
    with writing(path) as file:
        file.write(json.dumps(asdict(found), indent=1) + "\n")
