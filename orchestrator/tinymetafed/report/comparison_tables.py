"""What the runs of a comparison came to, as tables for the terminal."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..experiments.comparison import ComparisonSettings, TaskEntry
from ..experiments.experiment import Experiment
from ..experiments.scheduler import Comparison
from .comparison import Outcome, RunState
from .energy import ORDER
from .measured import (
    BYTES_UNTIL,
    JOULES_UNTIL,
    PLAIN,
    ROUNDS_UNTIL,
    SHARES,
    SPREAD,
    UNCOUNTED,
    WORSE,
    Key,
    ends,
)  # fmt: skip
from .over_seeds import Result, UntilTarget, told_at_start
from .units import Unit, best


def _priced(settings: ComparisonSettings) -> list[tuple[str, str]]:
    return [(str(device), str(radio)) for device in settings.devices for radio in settings.radios]


def tables(
    settings: ComparisonSettings, comparison: Comparison, found: Outcome
) -> Iterator[Table | Text]:
    """In the order in which they are printed: some for each task, then what failed."""
    seeds = f"{len(settings.seeds)} seed{'s' if len(settings.seeds) > 1 else ''}"
    yield Text(
        f"Mean ± half of the 95% confidence interval (Student's t) over {seeds}.\n"
        "[low, high]: the interval is cut at the least or the most that the quantity can be.\n"
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
        until = {
            (one.strategy, one.device, one.radio, one.quantity): one
            for one in found.until_target
            if one.task == task.label
        }
        shown = _Task(settings, task, experiments, results, until, found)
        yield shown.beside_baseline()
        yield shown.devices()
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

    experiments: by strategy, the same for all seeds. results, until: by strategy, device, radio
    and quantity. found: all tasks'.
    """

    settings: ComparisonSettings
    task: TaskEntry
    experiments: Mapping[str, Experiment]
    results: Mapping[tuple[str, str, str, str], Result]
    until: Mapping[tuple[str, str, str, str], UntilTarget]
    found: Outcome

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

    @property
    def _censored(self) -> bool:
        """Whether some runs have not reached the target."""
        return any(one.reached < one.runs for one in self.until.values())

    @property
    def _at_start(self) -> str:
        """A line for the caption, where runs were at the target before training."""
        told = told_at_start(self.results.values())
        return f"\n{escape(told)}" if told else ""

    @property
    def _measure(self) -> tuple[str, str, float]:
        """What it is judged by: its name, how its numbers are written, and their unit."""
        return ("accuracy", ".1f", 100.0) if self._classes else ("loss", ".3f", 1.0)

    def beside_baseline(self) -> Table:
        """What a reader asks first; under each mean its ratio to the baseline."""
        name, form, scale = self._measure
        percent = " %" if self._classes else ""
        columns: list[tuple[str, Key, str, float]] = [
            (f"{name}{percent}", (*PLAIN, f"{name} after adaptation"), form, scale),
            ("kB", (*PLAIN, "bytes"), ",.0f", 1e-3),
        ]
        unit = Unit("J")
        if self.priced:
            unit = self._unit("joules", self.priced[0])
            columns.append((unit.name, (*self.priced[0], "joules"), ",.3f", 1 / unit.size))
        if self.task.target is not None:
            columns.append(("rounds to\ntarget", (*PLAIN, ROUNDS_UNTIL), ",.0f", 1.0))
        caption = (
            f"Below: in percent of {escape(self.found.baseline)}'s, the baseline, with the 95% "
            "confidence interval."
        )
        if self._censored:
            caption += "\n≥, >, <: some runs, or all, did not reach the target: a bound."
        caption += self._at_start
        if len(self.priced) > 1:
            caption += f"\n{unit.name}: of {', '.join(self.priced[0])}."
        table = self._table("each strategy beside the baseline", "strategy", caption)
        for column, *_ in columns:
            table.add_column(column, justify="right")
        for one in self.settings.strategies:
            cells: list[str] = []
            for _, key, form, scale in columns:
                cell = self._until if key[-1] == ROUNDS_UNTIL else self._cell
                result = self.results.get((one.label, *key))
                below = _ratio(result)
                if result is not None and result.at_start:
                    below = f"{result.at_start} of {result.seeds} before training"
                cells.append(f"{cell(one.label, *key, form, scale)}\n{below}".rstrip())
            table.add_row(escape(one.label), *cells)
        return table

    def devices(self) -> Table:
        """How it is for single devices, and how steadily it was learnt."""
        name, form, scale = self._measure
        percent = " %" if self._classes else ""
        caption = (
            f"Difference: to {escape(self.found.baseline)} on the same devices, with its 95% "
            "confidence interval.\nWorse off: share of devices served worse than by "
            f"{escape(self.found.no_federation)}.\nUnsteady: standard deviation of the mean in the "
            "last fifth of training."
        )
        table = self._table(f"{name}{percent} of devices after adaptation", "strategy", caption)
        for column in ("difference", "worst tenth", "% worse off", "unsteady"):
            table.add_column(column, justify="right")
        for one in self.settings.strategies:
            mean = self.results.get((one.label, *PLAIN, f"{name} after adaptation"))
            table.add_row(
                escape(one.label),
                _difference(mean, form, scale),
                self._cell(one.label, *PLAIN, f"{name} of the worst tenth", form, scale),
                self._cell(one.label, *PLAIN, WORSE, ".0f", 100.0),
                self._cell(one.label, *PLAIN, SPREAD, form, scale),
            )
        return table

    def learnt(self) -> Table:
        devices = self._each(lambda experiment: experiment.evaluation.unseen)
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
        caption = (
            f"Judged on devices for validation every {every} rounds, so it may have been reached "
            "up to as many before."
        )
        if not self.priced:
            caption += (
                "\nNothing is counted on host nodes; 'emulate = 2' emulates two rounds of each."
            )
        if self._censored:
            caption += (
                "\n≥, >: some runs, or all, ended without it; the mean up to there, and the median "
                "(Kaplan–Meier)."
            )
        caption += self._at_start
        table = self._table(f"until {what} after adaptation", "strategy", caption)
        units = {at: self._unit(JOULES_UNTIL, at) for at in self.priced}
        energies = (f"{unit.name}, {device}, {radio}" for (device, radio), unit in units.items())
        for name in ("reached by", "rounds", "kB", *energies):
            table.add_column(name, justify="right")
        for one in self.settings.strategies:
            there = self.until.get((one.label, *PLAIN, ROUNDS_UNTIL))
            cells = [
                self._until(one.label, *PLAIN, ROUNDS_UNTIL, ",.0f"),
                self._until(one.label, *PLAIN, BYTES_UNTIL, ",.0f", 1e-3),
                *(
                    self._until(one.label, *at, JOULES_UNTIL, ",.3f", 1 / unit.size)
                    for at, unit in units.items()
                ),
            ]
            reached = f"{there.reached} of {there.runs}" if there else "0 of 0"
            if there and there.at_start:
                reached += f", {there.at_start} before training"
            table.add_row(escape(one.label), reached, *cells)
        return table

    def energy(self, device: str, radio: str) -> Table:
        caption = "Cycles are estimates; 'tinymetafed energy' has their bounds."
        if emulated := self._each(lambda experiment: experiment.nodes.emulate):
            caption += (
                f"\nEmulated: {emulated} of each run's rounds, to the host's weights, bit for bit."
                f"\n{_standing_for_others(emulated)}"
            )
        elif counted := self._each(lambda experiment: experiment.nodes.counted or 0):
            caption += (
                f"\nCounted: {counted} of each run's rounds.\n{_standing_for_others(counted)}"
            )
        for one in self.settings.strategies:
            lost = self.results.get((one.label, device, radio, UNCOUNTED))
            if lost is not None and lost.mean:
                number = round(lost.mean * lost.seeds)
                caption += (
                    f"\n{escape(one.label)}: of a node's rounds {number} were not counted, so not "
                    "summed."
                )
        unit = self._unit("joules", (device, radio))
        what = f"{unit.name} of the whole training, {device}, {radio}"
        table = self._table(what, "account", caption)
        for one in self.settings.strategies:
            table.add_column(escape(one.label), justify="right")
        names = {quantity for *_, quantity in self.results}
        for account in (name for name in ORDER if f"joules {name}" in names):
            table.add_row(account, *self._joules(device, radio, f"joules {account}", unit))
        table.add_section()
        table.add_row("all", *self._joules(device, radio, "joules", unit))
        return table

    def _joules(self, device: str, radio: str, quantity: str, unit: Unit) -> list[str]:
        """A cell for each strategy."""
        return [
            self._cell(one.label, device, radio, quantity, ",.3f", 1 / unit.size)
            for one in self.settings.strategies
        ]

    def _unit(self, quantity: str, price: tuple[str, str]) -> Unit:
        """That fits the largest of all strategies' joules, for this device and radio."""
        labels = (one.label for one in self.settings.strategies)
        found = (self.results.get((label, *price, quantity)) for label in labels)
        return best("J", [one.mean for one in found if one is not None])

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
        return _with_interval(found.mean, found.low, found.high, ends(quantity), form, scale)

    def _until(
        self, strategy: str, device: str, radio: str, quantity: str, form: str, scale: float = 1.0
    ) -> str:
        """The mean where all runs have reached the target; else its lower bound, and the median
        where the runs tell."""
        there = self.until.get((strategy, device, radio, quantity))
        if there is None or there.reached == there.runs:
            return self._cell(strategy, device, radio, quantity, form, scale)
        bound = self.results[strategy, device, radio, quantity].mean * scale
        if there.reached == 0:
            return f"> {bound:{form}}"
        median = "–" if there.median is None else f"{there.median * scale:{form}}"
        return f"≥ {bound:{form}}, median {median}"


def _standing_for_others(rounds: str) -> str:
    """Which of the rounds of a run say what nodes execute in all of them."""
    if rounds == "1":
        return "What nodes execute in it stands for the others."
    return "The mean of what nodes execute in these stands for the others."


def _difference(found: Result | None, form: str, scale: float) -> str:
    if found is None or found.difference is None:
        return "–"
    least, most = ends(found.quantity)
    known = found.difference, found.difference_low, found.difference_high
    return _with_interval(*known, (least - most, most - least), form, scale, "+")


def _with_interval(
    mean: float, low: float | None, high: float | None, ends: tuple[float, float], form: str,
    scale: float, sign: str = "",
) -> str:  # fmt: skip
    """The mean ± half of the interval; both bounds where it is cut at an end, so that it is no
    longer even; the mean alone where it has no width."""
    text = f"{mean * scale:{sign}{form}}"
    if low is None or high is None:
        return f"{text} ± –"
    if low == high:
        return text
    if low <= ends[0] or high >= ends[1]:
        return f"{text} [{low * scale:{sign}{form}}, {high * scale:{sign}{form}}]"
    return f"{text} ± {(high - mean) * scale:{form}}"


def _ratio(found: Result | None) -> str:
    """In percent, with its interval where that is wide enough to be seen; empty where there is no
    ratio."""
    if found is None or found.ratio is None:
        return ""
    text, low, high = (
        "" if one is None else _percent(one)
        for one in (found.ratio, found.ratio_low, found.ratio_high)
    )
    if found.bound:
        sign, end = (">", low) if found.bound == "lower" else ("<", high)
        return f"{sign} {text}%" + (f" ({sign} {end})" if end not in ("", text) else "")
    return f"{text}%" if low == high else f"{text}% ({low}–{high})"


def _percent(ratio: float) -> str:
    """Whole, or with two digits that say something."""
    return f"{ratio * 100:,.0f}" if ratio >= 0.095 else f"{ratio * 100:.2g}"


def _failed(runs: list[RunState]) -> Table:
    table = Table(title="Failed; the same command tries again", title_justify="left")
    for name in ("task", "strategy", "seed", "rounds done", "why"):
        table.add_column(name)
    for one in runs:
        cells = (one.task, one.strategy, str(one.seed), str(one.rounds), one.failed)
        table.add_row(*map(escape, cells))
    return table
