"""The tables of a page: what each strategy came to, means over the seeds, runs and settings."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from ..errors import printable
from ..plugins import short
from .classes import ClassFigures, by_class
from .curves import Curves
from .groups import TaskRuns, differing
from .results import Result
from .table import Cell, Table
from .verdict import Column, Verdict

FIRST = ("score", "bytes", "joules", "rounds until")
"""Columns of a task's first table, as far as there are such; the others are in its second."""

MOST_CLASSES = 500
"""Of a task: the worst."""


def runs(results: Sequence[Result], labels: Mapping[int, str]) -> list[Table]:
    """Of all runs, and the settings in which they differ. labels: of the strategies, by the run's
    number."""
    head = [
        "run", "name", "label", "strategy", "task", "seed", "backend", "firmware", "nodes",
        "rounds done", "rounds", "unseen loss after", "unseen accuracy after", "MB down", "MB up",
        "J",
        "J shortest", "J longest", "device", "radio", "counting", "created",
    ]  # fmt: skip
    rows = [_run(one, labels.get(one.run.id, "")) for one in results]
    tables = [Table("runs", "Runs", head, rows)]
    flats = [one.settings for one in results]
    keys = differing(flats)
    if keys:
        cells = [
            [one.run.id, *(flat.get(key) for key in keys)]
            for one, flat in zip(results, flats, strict=True)
        ]
        tables.append(Table("settings", "Settings that differ", ["run", *keys], cells))
    return tables


def _run(one: Result, label: str) -> list[Cell]:
    run, settings, last = one.run, one.experiment, one.final
    down, up = (
        1e-6 * sum(getattr(total, f"bytes_{way}") for total in one.totals) for way in ("down", "up")
    )
    spent = one.spent.balance() if one.spent else None
    return [
        run.id, run.name, label, short(settings.strategy.name), short(settings.task.name), run.seed,
        run.backend, settings.nodes.firmware, settings.nodes.count, run.done, run.rounds,
        last and last.after, last.accuracy_after if last and one.has_classes else None, down, up,
        *((spent.joules, spent.low, spent.high) if spent else (None,) * 3),
        str(settings.energy.device), str(settings.energy.radio), one.counting, run.created,
    ]  # fmt: skip


def means(stem: str, curves: Curves) -> Iterator[Table]:
    """The numbers of the learning chart and of the Pareto chart, in bytes, joules, seconds."""
    name = curves.task.task
    for kind, title, rows in (
        ("ends", "at the end", curves.ends), ("rounds", "by rounds", curves.points),
    ):  # fmt: skip
        priced = [f"{what}{i}" for i in range(1, len(curves.prices)) for what in ("joules", "time")]
        left = {f"{one}{end}" for one in priced for end in ("", "_low", "_high")} | {"marked"}
        places = [
            i for i, column in enumerate(rows.columns)
            if column not in left and any(row[i] is not None for row in rows.rows)
        ]  # fmt: skip
        head = [_titled(rows.columns[i]) for i in places]
        cells: list[list[Cell]] = [
            [curves.labels[row[i]] if i == 0 else row[i] for i in places] for row in rows.rows
        ]
        yield Table(f"{stem}-{kind}", f"{name}: means over the seeds, {title}", head, cells)


def _titled(column: str) -> str:
    names = {
        "label": "strategy",
        "bytes": "B",
        "joules0": "J",
        "time0": "device s",
        "wall": "wall s",
    }
    base, _, end = column.rpartition("_")
    if end in ("low", "high"):
        return f"{_titled(base)} 95% {end}"
    return names.get(column, column.replace("_", " "))


def classes(stem: str, task: TaskRuns) -> Table | None:
    """The accuracy on each class in percent, by strategy, over the samples of all unseen devices of
    all seeds; the class with the lowest over all strategies first. A strategy that was judged on
    less samples of a class than another says on how many. None where it is not known."""
    counts = [
        [count for one in group.results for point in one.unseen for count in point.classes]
        for group in task.groups
    ]
    every = by_class(chain.from_iterable(counts))
    if not every:
        return None
    mine = {
        group.label: {one.name: one for one in by_class(some)}
        for group, some in zip(task.groups, counts, strict=True)
        if some
    }
    cells: list[list[Cell]] = []
    for one in every[:MOST_CLASSES]:
        figures = [known.get(one.name) for known in mine.values()]
        most = max(known.samples for known in figures if known)
        accuracies = [_accuracy(known, most) for known in figures]
        cells.append([printable(one.name), most, *accuracies, one.mistake])
    mistaken = "most mistaken for" + ", all strategies" * (len(mine) > 1)
    head = ["class", "samples", *(f"{label} %" for label in mine), mistaken]
    title = f"{task.task}: accuracy by class, on unseen devices"
    if len(every) > MOST_CLASSES:
        title += f", the worst {MOST_CLASSES} of {len(every):,}"
    return Table(f"{stem}-classes", title, head, cells)


def _accuracy(known: ClassFigures | None, most: int) -> Cell:
    if known is None:
        return None
    percent = round(100 * known.accuracy, 1)
    return percent if known.samples == most else f"{percent:g} of {known.samples}"


def papers(stem: str, task: TaskRuns, found: Verdict, baseline: str) -> list[Table]:
    """The first table and, where there are more figures, the second, with the ratios to the
    baseline in columns of their own."""
    first = [one for one in found.columns if one.key in FIRST]
    more = [one for one in found.columns if one.key not in FIRST]
    named = (("result", "what each strategy came to", first), ("more", "more figures", more))
    return [
        _paper(f"{stem}-{name}", f"{task.task}: {title}", task, columns, baseline)
        for name, title, columns in named
        if columns or name == "result"
    ]


def _paper(
    name: str, title: str, task: TaskRuns, columns: Sequence[Column], baseline: str
) -> Table:
    labels = [group.label for group in task.groups]
    base = labels.index(baseline) if baseline in labels else None
    head = ["strategy", "seeds"]
    for column in columns:
        head += [column.title, *([f"{column.compared} {baseline}"] if base is not None else [])]
    cells: list[list[Cell]] = []
    for i, group in enumerate(task.groups):
        row: list[Cell] = [group.label, len(group.settled)]
        for column in columns:
            entry = column.entries[i]
            row.append(f"{entry.text} {entry.interval}".rstrip())
            if base is not None:
                row.append(column.ratios[base][i])
        cells.append(row)
    return Table(name, title, head, cells, paper=True)
