"""What the runs of a comparison came to: quantities, their means over the seeds, tables, files."""

import csv
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..experiments.comparison import ComparisonSettings, TaskEntry
from ..experiments.experiment import Experiment
from ..experiments.scheduler import Comparison
from ..files import escaped, reporting, writing
from ..results.statistics import mean_and_interval
from ..results.store import Run, Store
from . import described, summary
from .energy import ORDER, uncounted_rounds

PLAIN = ("", "")
"""Device and radio of a quantity that is not energy."""
UNCOUNTED = "rounds of a node not counted"
SHARES = {
    "away": "share of node rounds away",
    "late": "share of updates late",
    "diverged": "share of node rounds diverged",
    "left out": "share of node rounds left out",
    "adaptation diverged": "share of devices whose adaptation diverged",
}
"""Quantities where nodes may be so."""


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
    """A quantity of one run. device, radio: what it is priced for, where it is energy."""

    task: str
    strategy: str
    seed: int
    device: str
    radio: str
    quantity: str
    value: float


@dataclass(frozen=True)
class Result:
    """A quantity over the seeds that have it: the mean and the bounds of its 95% confidence
    interval, None where there is one seed."""

    task: str
    strategy: str
    device: str
    radio: str
    quantity: str
    seeds: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Outcome:
    """What a comparison came to: a run for each cell; values and results of the finished ones."""

    runs: list[RunState]
    values: list[Value]
    results: list[Result]


def outcome(settings: ComparisonSettings, comparison: Comparison, store: Store) -> Outcome:
    """From the store.

    Bytes and joules are those of all nodes together. What a run does not have is left out: a loss
    where adaptation diverged on all devices, accuracy without classes, joules where nothing was
    counted, what is until the target where it was not reached. Raises TinyMetaFedError where a
    device's core was not priced when the run was made.
    """
    targets = {task.label: task.target for task in settings.tasks}
    unfinished = comparison.unfinished
    runs: list[RunState] = []
    values: list[Value] = []
    for i, (cell, run) in enumerate(zip(comparison.cells, comparison.runs, strict=True)):
        where = (cell.task, cell.strategy, cell.experiment.seed)
        number, done = (run.id, run.done) if run else (None, 0)
        runs.append(RunState(*where, number, done, comparison.failed.get(i, "")))
        if run is not None and i not in unfinished:
            measured = _measure(settings, cell.experiment, run, store, targets[cell.task])
            values += [
                Value(*where, *key, value) for key, value in measured if not math.isnan(value)
            ]
    return Outcome(runs, values, _results(values))


def _results(values: list[Value]) -> list[Result]:
    over_seeds: dict[tuple[str, str, str, str, str], list[float]] = defaultdict(list)
    for one in values:
        key = (one.task, one.strategy, one.device, one.radio, one.quantity)
        over_seeds[key].append(one.value)
    found: list[Result] = []
    for key, numbers in over_seeds.items():
        mean, low, high = mean_and_interval(numbers)
        bounds = (low, high) if len(numbers) > 1 else (None, None)
        found.append(Result(*key, len(numbers), mean, *bounds))
    return found


def _measure(
    settings: ComparisonSettings,
    experiment: Experiment,
    run: Run,
    store: Store,
    target: float | None,
) -> Iterator[tuple[tuple[str, str, str], float]]:
    """(device, radio, quantity) and value."""
    classes = experiment.task.target_is_class
    judged = summary.losses(store, run)
    last = judged[-1]
    yield (*PLAIN, "loss before adaptation"), last.before
    yield (*PLAIN, "loss after adaptation"), last.after
    if classes:
        yield (*PLAIN, "accuracy before adaptation"), last.accuracy_before
        yield (*PLAIN, "accuracy after adaptation"), last.accuracy_after
    if last.diverged:
        yield (*PLAIN, SHARES["adaptation diverged"]), last.diverged / last.devices
    totals = store.node_totals(run.id)
    yield (*PLAIN, "rounds"), run.done
    yield (*PLAIN, "bytes down"), sum(one.bytes_down for one in totals)
    yield (*PLAIN, "bytes up"), sum(one.bytes_up for one in totals)
    yield (*PLAIN, "memory"), run.memory
    for what, (number, of) in summary.shares(
        experiment, run.done, totals, store.event_counts(run.id)
    ).items():
        yield (*PLAIN, SHARES[what]), number / max(1, of)
    reached = None
    if target is not None:
        there = (one.accuracy_after >= target if classes else one.after <= target for one in judged)
        reached = next((one.round for one, good in zip(judged, there, strict=True) if good), None)
    if reached is not None:
        moved = store.bytes_by_round(run.id)
        yield (*PLAIN, "rounds until target"), reached
        yield (*PLAIN, "bytes until target"), sum(n for number, n in moved if number <= reached)
    known = described.of(experiment)
    uncounted = uncounted_rounds(totals, known.counts, sampled=known.sampled)
    for one, other in itertools.product(settings.devices, settings.radios):
        device, radio = str(one), str(other)
        changes = {"device": one, "radio": other}
        priced = [(nodes, was.model_copy(update=changes)) for nodes, was in experiment.priced]
        spent = known.account(store, run, priced).spent()
        if spent is None:
            continue
        yield (device, radio, UNCOUNTED), uncounted
        yield (device, radio, "joules"), spent.balance().joules
        for account in spent.accounts:
            yield (device, radio, f"joules {account}"), spent.balance(account).joules
        if reached is not None:
            yield (device, radio, "joules until target"), float(spent.by_round[reached])


def _priced(settings: ComparisonSettings) -> list[tuple[str, str]]:
    return [(str(device), str(radio)) for device in settings.devices for radio in settings.radios]


def tables(
    settings: ComparisonSettings, comparison: Comparison, found: Outcome
) -> Iterator[Table | Text]:
    """In the order in which they are printed: some for each task, then what failed."""
    seeds = f"{len(settings.seeds)} seed{'s' if len(settings.seeds) > 1 else ''}"
    yield Text(
        f"Mean ± half of the 95% confidence interval (Student's t) over {seeds}.\n"
        "Bytes and joules are those of all nodes together; RAM is what the model and its training "
        "take on one."
    )
    for task in settings.tasks:
        experiments = {
            cell.strategy: cell.experiment for cell in comparison.cells if cell.task == task.label
        }
        results = {
            (one.strategy, one.device, one.radio, one.quantity): one
            for one in found.results
            if one.task == task.label
        }
        shown = _Task(settings, task, experiments, results)
        yield shown.learnt()
        if task.target is not None:
            yield shown.until_target(task.target)
        for device, radio in shown.priced:
            yield shown.energy(device, radio)
    failed = [one for one in found.runs if one.failed]
    if failed:
        yield _failed(failed)


@dataclass(frozen=True)
class _Task:
    """The tables of one task.

    experiments: by strategy, the same for all seeds. results: by strategy, device, radio and
    quantity.
    """

    settings: ComparisonSettings
    task: TaskEntry
    experiments: Mapping[str, Experiment]
    results: Mapping[tuple[str, str, str, str], Result]

    @property
    def priced(self) -> list[tuple[str, str]]:
        """Devices and radios; none where nothing was counted."""
        there = any(quantity == "joules" for *_, quantity in self.results)
        return _priced(self.settings) if there else []

    @property
    def _classes(self) -> bool:
        return next(iter(self.experiments.values())).task.target_is_class

    def _each(self, count: Callable[[Experiment], int]) -> str:
        """What all runs have, or, where it is not the same, each strategy's; nothing where it is
        zero."""
        labels: dict[int, list[str]] = defaultdict(list)
        for label, experiment in self.experiments.items():
            if number := count(experiment):
                labels[number].append(escape(label))
        if len(labels) == 1 and sum(map(len, labels.values())) == len(self.experiments):
            return f"{next(iter(labels)):,}"
        return ", ".join(f"{number:,} ({', '.join(mine)})" for number, mine in labels.items())

    def learnt(self) -> Table:
        devices = self._each(lambda experiment: experiment.evaluation.devices)
        title = f"at the end of training, on {devices} unseen devices"
        table = self._table(title, "strategy")
        measures = [("loss", "", ".3f", 1.0)]
        if self._classes:
            measures.append(("accuracy", " %", ".1f", 100.0))
        columns = [
            (f"{name}{unit} {when}", f"{name} {when} adaptation", form, scale)
            for name, unit, form, scale in measures
            for when in ("before", "after")
        ]
        columns += [
            ("rounds", "rounds", ",.0f", 1.0),
            ("kB down", "bytes down", ",.0f", 1e-3),
            ("kB up", "bytes up", ",.0f", 1e-3),
            ("kB of RAM", "memory", ".1f", 1e-3),
        ]
        there = {quantity for *_, quantity in self.results}
        columns += [
            (f"% {what}", quantity, ".1f", 100.0)
            for what, quantity in SHARES.items()
            if quantity in there
        ]
        table.add_column("seeds", justify="right")
        for name, *_ in columns:
            table.add_column(name, justify="right")
        for one in self.settings.strategies:
            cells = [
                self._cell(one.label, *PLAIN, quantity, form, scale)
                for _, quantity, form, scale in columns
            ]
            table.add_row(escape(one.label), str(self._seeds(one.label, "rounds")), *cells)
        return table

    def until_target(self, target: float) -> Table:
        classes = self._classes
        what = f"accuracy ≥ {target:.1%}" if classes else f"loss ≤ {target:g}"
        every = self._each(lambda experiment: min(experiment.evaluation.every, experiment.rounds))
        caption = f"Judged every {every} rounds, so it may have been reached up to as many before."
        if not self.priced:
            caption += (
                "\nNothing is counted on host nodes; 'emulate = 2' emulates two rounds of each."
            )
        table = self._table(f"until {what} after adaptation", "strategy", caption)
        for name in ("reached by", "rounds", "kB", *(f"J, {d}, {r}" for d, r in self.priced)):
            table.add_column(name, justify="right")
        for one in self.settings.strategies:
            there, finished = (
                self._seeds(one.label, name) for name in ("rounds until target", "rounds")
            )
            cells: list[str] = []
            # The mean of some would be that of the fast ones.
            if there < finished:
                cells.append("not reached")
            else:
                cells.append(self._cell(one.label, *PLAIN, "rounds until target", ",.0f"))
                cells.append(self._cell(one.label, *PLAIN, "bytes until target", ",.0f", 1e-3))
                cells += [
                    self._cell(one.label, *priced, "joules until target", ",.3f")
                    for priced in self.priced
                ]
            table.add_row(escape(one.label), f"{there} of {finished}", *cells)
        return table

    def energy(self, device: str, radio: str) -> Table:
        caption = "Cycles are estimates; 'tinymetafed energy' has their bounds."
        if emulated := self._each(lambda experiment: experiment.nodes.emulate):
            caption += (
                f"\nEmulated: {emulated} of each run's rounds, to the host's weights, bit for bit."
                "\nWhat nodes execute in the others is the mean."
            )
        elif counted := self._each(lambda experiment: experiment.nodes.counted or 0):
            caption += (
                f"\nCounted: {counted} of each run's rounds."
                "\nWhat nodes execute in the others is the mean."
            )
        for one in self.settings.strategies:
            lost = self.results.get((one.label, device, radio, UNCOUNTED))
            if lost is not None and lost.mean:
                number = round(lost.mean * lost.seeds)
                caption += (
                    f"\n{escape(one.label)}: of a node's rounds {number} were not counted, so not "
                    "summed."
                )
        table = self._table(f"J of the whole training, {device}, {radio}", "account", caption)
        for one in self.settings.strategies:
            table.add_column(escape(one.label), justify="right")
        names = {quantity for *_, quantity in self.results}
        for account in (name for name in ORDER if f"joules {name}" in names):
            table.add_row(account, *self._joules(device, radio, f"joules {account}"))
        table.add_section()
        table.add_row("all", *self._joules(device, radio, "joules"))
        return table

    def _joules(self, device: str, radio: str, quantity: str) -> list[str]:
        """A cell for each strategy."""
        return [
            self._cell(one.label, device, radio, quantity, ",.3f")
            for one in self.settings.strategies
        ]

    def _table(self, what: str, first: str, caption: str | None = None) -> Table:
        title = f"{escape(self.task.label)}: {what}"
        table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
        table.add_column(first)
        return table

    def _seeds(self, strategy: str, quantity: str) -> int:
        """How many have the quantity."""
        found = self.results.get((strategy, *PLAIN, quantity))
        return found.seeds if found else 0

    def _cell(
        self, strategy: str, device: str, radio: str, quantity: str, form: str, scale: float = 1.0
    ) -> str:
        found = self.results.get((strategy, device, radio, quantity))
        if found is None:
            return "–"
        mean = f"{found.mean * scale:{form}}"
        if found.high is None:
            return f"{mean} ± –"
        half = found.high - found.mean
        return f"{mean} ± {half * scale:{form}}" if half else mean


def _failed(runs: list[RunState]) -> Table:
    table = Table(title="Failed; the same command tries again", title_justify="left")
    for name in ("task", "strategy", "seed", "rounds done", "why"):
        table.add_column(name)
    for one in runs:
        cells = (one.task, one.strategy, str(one.seed), str(one.rounds), one.failed)
        table.add_row(*map(escape, cells))
    return table


def write_csv(found: Outcome, folder: Path) -> None:
    """runs.csv, values.csv and results.csv in the folder. Raises TinyMetaFedError."""
    kinds = {"runs": RunState, "values": Value, "results": Result}
    with reporting(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, kind in kinds.items():
        with writing(folder / f"{name}.csv") as file:
            writer = csv.writer(file)
            writer.writerow([field.name for field in fields(kind)])
            writer.writerows(escaped(astuple(row)) for row in getattr(found, name))


def write_json(found: Outcome, path: Path) -> None:
    """The same in one object. Raises TinyMetaFedError."""
    with writing(path) as file:
        file.write(json.dumps(asdict(found), indent=1) + "\n")
