"""Runs on one HTML page that needs nothing but itself; its figures and tables as files."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import jinja2
from markupsafe import Markup

from ..energy.ledger import SLEEP
from ..experiments import extension
from ..files import replacing, reporting, writing
from ..plugins import short
from . import charts, events, svg
from .charts import Chart, Stack
from .colors import ACCOUNTS, MESSAGES, ON_DARK
from .results import MOST_POINTS, Result, TaskRuns, compare, differing
from .summary import MOST_NODES, away, diverged, late, unvalidated
from .table import Cell, Table

TEMPLATE = Path(__file__).parent / "template"

BANDS = (
    "A line is the mean over seeds of the mean over devices for validation, its band the 95% "
    "confidence interval over the seeds (Student's t); one seed has no band. A label has the "
    "settings in which runs differ; where it ends in …, the settings above have the rest."
)
FRONT = (
    "A line is a run, its marker where it ends. Rings: the Pareto front of these ends; no other "
    "run is as good for less. A run with rounds that were not counted is not on that of joules."
)
ESTIMATED = (
    "Cycles, and so joules, are estimates; the line at the end of a bar goes from the shortest to "
    "the longest reading of the processor's manual."
)
SENT = (
    "To the left what the server sends, to the right what the nodes answer, framing and "
    "repetitions included. The samples that train and store carry here come from sensors, and are "
    "no communication."
)
EVENTS = (
    "Faults, restarts, repeated frames, timeouts and lost nodes. The firmware is to blame for a "
    "fault, a hang (it computes without end) and a reset (it starts again by itself)."
)
ORDER = (
    "A round, node by node: the lengths are the ledger's, which is counted instructions and bytes "
    "as the device and the radio would take for them. The order is not measured: it is that in "
    "which a round goes. What comes several times in a round is drawn once, as long as all of it. "
    "A node sleeps until the slowest has done. One of participation.slow is drawn as the device "
    "itself would be, and late if it comes after the deadline as slow as it is said to be."
)


@dataclass(frozen=True)
class Part:
    """Figures, and tables with their numbers; open: the tables are shown at once."""

    title: str
    charts: Sequence[Chart]
    tables: Sequence[Table]
    open: bool = False


@dataclass(frozen=True)
class Chapter:
    """notes: paragraphs on all of it. chosen: the reader chooses which part is shown."""

    title: str
    notes: Sequence[str]
    parts: Sequence[Part]
    chosen: bool = False


def chapters(results: Sequence[Result]) -> list[Chapter]:
    """What there is to show of these runs."""
    counted = [one for one in results if one.spent]
    tasks = [(_stem(i, one), one) for i, one in enumerate(compare(results), 1)]
    known = _counting(results)
    found = [
        Chapter("Runs", [*known, *_left_out(results, tasks)], [_runs(results)]),
        Chapter("Events", [EVENTS], _events(results)),
        Chapter("Learning", [BANDS], [_learning(*task) for task in tasks]),
        Chapter("Cost", [FRONT, *known], [_cost(*task) for task in tasks]),
        Chapter("Energy", [ESTIMATED, *known], list(_parts(_energy, tasks))),
        Chapter("Messages", [SENT], list(_parts(_messages, tasks))),
        Chapter(
            "One run", [ORDER, ESTIMATED, *known], [_nodes(one) for one in counted], chosen=True
        ),
    ]
    return [one for one in found if one.parts]


def _events(results: Sequence[Result]) -> list[Part]:
    tables = events.tables([(one.run.id, one.event_counts, one.events) for one in results])
    return [Part("", [], tables, True)] if tables else []


def _parts(
    draw: Callable[[str, TaskRuns], Part | None], tasks: Sequence[tuple[str, TaskRuns]]
) -> Iterator[Part]:
    for task in tasks:
        part = draw(*task)
        if part is not None:
            yield part


def _counting(results: Sequence[Result]) -> list[str]:
    """How what the nodes executed is known, a line for all runs of which the same is true."""
    runs: dict[str, list[int]] = {}
    for one in results:
        runs.setdefault(one.counting, []).append(one.run.id)
    return [
        f"Run{'s' * (len(numbers) > 1)} {_numbers(numbers)}: {known}."
        for known, numbers in runs.items()
    ]


def _numbers(runs: Iterable[int]) -> str:
    """With three or more that follow each other as a range."""
    found: list[str] = []
    for _, pairs in groupby(enumerate(sorted(runs)), key=lambda pair: pair[1] - pair[0]):
        numbers = [str(number) for _, number in pairs]
        found += [f"{numbers[0]}–{numbers[-1]}"] if len(numbers) > 2 else numbers
    return ", ".join(found)


def _left_out(results: Sequence[Result], tasks: Sequence[tuple[str, TaskRuns]]) -> Iterator[str]:
    for _, comparison in tasks:
        for one in comparison.repeated:
            yield (
                f"Run {one.run.id} is in no figure but its own: a later run has the same settings "
                "and seed."
            )
    for one in results:
        if one.thinned:
            yield f"Of run {one.run.id}'s evaluations, {MOST_POINTS} evenly spread ones are shown."
        if added := extension.note(one.extensions, one.run.rounds, one.experiment):
            yield f"Run {one.run.id}: {added}"
        if told := unvalidated(one.run):
            yield f"Run {one.run.id}: {told}"


def _runs(results: Sequence[Result]) -> Part:
    head = [
        "run", "name", "strategy", "task", "seed", "backend", "firmware", "nodes", "rounds done",
        "rounds", "unseen loss after", "unseen accuracy after", "MB down", "MB up", "J",
        "J shortest", "J longest", "device", "radio", "instructions", "created",
    ]  # fmt: skip
    rows = [_run(one) for one in results]
    names = {
        "away": "node rounds away %",
        "late": "updates late %",
        "diverged": "node rounds diverged %",
        "left out": "node rounds left out %",
    }
    for what, name in names.items():
        known = [one.shares.get(what) for one in results]
        if any(known):
            place = head.index("device")
            head.insert(place, name)
            for row, share in zip(rows, known, strict=True):
                row.insert(place, 100 * share[0] / max(1, share[1]) if share else None)
    tables = [Table("runs", "Runs", head, rows)]
    flats = [one.settings for one in results]
    keys = differing(flats)
    if keys:
        cells = [
            [one.run.id, *(flat.get(key) for key in keys)]
            for one, flat in zip(results, flats, strict=True)
        ]
        tables.append(Table("settings", "Settings that differ", ["run", *keys], cells))
    return Part("", [], tables, True)


def _run(one: Result) -> list[Cell]:
    run, settings, last = one.run, one.experiment, one.final
    down, up = (
        1e-6 * sum(getattr(total, f"bytes_{way}") for total in one.totals) for way in ("down", "up")
    )
    spent = one.spent.balance() if one.spent else None
    return [
        run.id, run.name, short(settings.strategy.name), short(settings.task.name), run.seed,
        run.backend, settings.nodes.firmware, settings.nodes.count, run.done, run.rounds,
        last and last.after, last.accuracy_after if last and one.has_classes else None, down, up,
        *((spent.joules, spent.low, spent.high) if spent else (None,) * 3),
        str(settings.energy.device), str(settings.energy.radio), one.counting, run.created,
    ]  # fmt: skip


def _learning(stem: str, comparison: TaskRuns) -> Part:
    measures = ("loss", "accuracy") if comparison.results[0].has_classes else ("loss",)
    drawn: list[Chart] = []
    for measure in measures:
        title = f"{comparison.task}: mean {measure} on {comparison.judged_on} devices"
        figure = charts.learning(comparison, measure, title)
        drawn.append(Chart(f"{stem}-{measure}", title, "", figure))
    curves = [(measure, when) for measure in measures for when in ("before", "after")]
    head = ["settings", "seeds", "round"]
    for measure, when in curves:
        head += [f"{measure} {when}", "95% low", "95% high"]
    cells: list[list[Cell]] = []
    for group in comparison.groups:
        for points in zip(*(group.curve(*one) for one in curves), strict=True):
            values = [value for _, *values in points for value in values]
            cells.append([group.label, len(group.results), points[0][0], *values])
    table = Table(f"{stem}-learning", "Means over seeds", head, cells)
    return Part(comparison.task, drawn, [table])


def _cost(stem: str, comparison: TaskRuns) -> Part:
    score = comparison.results[0].score
    drawn: list[Chart] = []
    for what, name in (("megabytes", "bytes"), ("joules", "joules")):
        title = f"{comparison.task}: {score} after adaptation by {name}"
        figure = charts.cost(comparison, what, title)
        if figure is not None:
            without = [one.run.id for one in comparison.results if not getattr(one, what)]
            note = f"Not counted, so not in it: run {_numbers(without)}." if without else ""
            drawn.append(Chart(f"{stem}-{name}", title, note, figure))
    classes = ("accuracy before", "accuracy after") if score == "accuracy" else ()
    head = ("run", "settings", "seed", "round", "loss before", "loss after", *classes, "MB", "J")
    cells: list[list[Cell]] = []
    for group in comparison.groups:
        for one in group.results:
            for i, point in enumerate(one.judged):
                values = [point.before, point.after]
                if classes:
                    values += [point.accuracy_before, point.accuracy_after]
                joules = one.joules[i] if one.joules else None
                known = (one.run.id, group.label, one.run.seed, point.round)
                cells.append([*known, *values, one.megabytes[i], joules])
    table = Table(f"{stem}-cost", "Runs by rounds", head, cells)
    return Part(comparison.task, drawn, [table])


def _energy(stem: str, comparison: TaskRuns) -> Part | None:
    counted = [one for one in comparison.results if one.spent and one.run.done]
    if not counted:
        return None
    factors = [1e3 / comparison.rounds(one) for one in counted]
    spent = [_by_account(one, factor) for one, factor in zip(counted, factors, strict=True)]
    bars = [
        Stack(one.name, found, {}, _bounds(one, factor))
        for one, found, factor in zip(counted, spent, factors, strict=True)
    ]
    of_a_round, per_round = _of_a_round(comparison)
    title = f"{comparison.task}: energy of {of_a_round}"
    figure = charts.stacks(bars, ACCOUNTS, title, f"mJ {per_round}")
    chart = Chart(f"{stem}-energy", title, "", figure)
    names = charts.order({name for found in spent for name in found}, ACCOUNTS)
    cells = [
        [one.run.id, one.run.name, one.run.seed, str(one.experiment.energy.device),
         str(one.experiment.energy.radio), *(found.get(name, 0.0) for name in names),
         sum(found.values())]
        for one, found in zip(counted, spent, strict=True)
    ]  # fmt: skip
    head = ["run", "name", "seed", "device", "radio", *(f"{name} mJ" for name in names), "all mJ"]
    title = f"Energy of {of_a_round}, by account"
    table = Table(f"{stem}-energy-by-account", title, head, cells)
    return Part(comparison.task, [chart], [table])


def _messages(stem: str, comparison: TaskRuns) -> Part | None:
    known = [one for one in comparison.results if one.messages and one.run.done]
    if not known:
        return None
    names = charts.order({name for one in known for name in one.messages}, MESSAGES)
    bars: list[Stack] = []
    cells: list[list[Cell]] = []
    for one in known:
        factor = 1e-3 / comparison.rounds(one)
        down = {name: factor * moved[0] for name, moved in one.messages.items()}
        up = {name: factor * moved[1] for name, moved in one.messages.items()}
        bars.append(Stack(one.name, up, down))
        row: list[Cell] = [one.run.id, one.run.name, one.run.seed]
        for way in (down, up):
            row += [*(way.get(name, 0.0) for name in names), sum(way.values())]
        cells.append(row)
    of_a_round, per_round = _of_a_round(comparison)
    title = f"{comparison.task}: bytes of {of_a_round}, by request"
    figure = charts.stacks(bars, MESSAGES, title, f"kB {per_round}: ← down, up →")
    chart = Chart(f"{stem}-messages", title, "", figure)
    head = ["run", "name", "seed"]
    head += [f"{name} {way} kB" for way in ("down", "up") for name in (*names, "all")]
    title = f"Bytes of {of_a_round}, by request"
    return Part(
        comparison.task, [chart], [Table(f"{stem}-messages-by-request", title, head, cells)]
    )


def _of_a_round(comparison: TaskRuns) -> tuple[str, str]:
    """What amounts are of, and their unit's end."""
    if comparison.by_node:
        return "one node's round", "per round of a node"
    return "a round, all nodes", "per round"


def _nodes(one: Result) -> Part:
    name, last, count = f"run-{one.run.id}", one.run.done, one.experiment.nodes.count
    shown = range(min(count, MOST_NODES))
    note = f"The first {MOST_NODES} of {count} nodes." if count > MOST_NODES else ""
    took = sorted({total.node for total in one.totals} | {entry.node for entry in one.last})
    assert one.spent is not None
    if SLEEP in one.spent.accounts:  # then each has an account
        took = list(range(count))
    spent = {node: _by_account(one, 1e3, node) for node in took}
    bars = [
        Stack(f"node {node}", spent.get(node, {}), {}, _bounds(one, 1e3, node)) for node in shown
    ]
    title = f"{one.name}: energy of each node, {last} rounds"
    round_title = f"{one.name}: round {last}, node by node"
    drawn = [
        Chart(f"{name}-nodes", title, note, charts.stacks(bars, ACCOUNTS, title, "mJ")),
        Chart(
            f"{name}-round", round_title, note, charts.timeline(one, last, shown, round_title)
        ),
    ]  # fmt: skip
    tables: list[Table] = []
    if took_part := _took_part(one):
        tables.append(Table(f"{name}-rounds-by-node", "Rounds by node", *took_part))
    lasted: dict[int, dict[str, float]] = {node: {} for node in took}
    for entry in one.last:
        lasted[entry.node][entry.account] = entry.seconds * 1e3
    tables += [
        _accounts(f"{name}-energy-by-node", "Energy by node, all rounds", "mJ", spent),
        _accounts(f"{name}-round-{last}", f"Round {last} by node", "ms", lasted),
    ]
    return Part(one.name, drawn, tables)


def _took_part(one: Result) -> tuple[list[str], list[list[Cell]]] | None:
    """In how many rounds each node took part, and in how many it was late or away, or its training
    diverged; None where none of it may be, or was."""
    found = {
        "late": late(one.experiment, one.totals),
        "away": away(one.experiment, one.run.done),
        "diverged": diverged(one.totals),
    }
    known = {what: nodes for what, nodes in found.items() if nodes is not None}
    if not known:
        return None
    took_part = Counter({total.node: total.rounds for total in one.totals})
    cells: list[list[Cell]] = [
        [node, took_part[node], *(nodes[node] for nodes in known.values())]
        for node in range(one.experiment.nodes.count)
    ]
    return ["node", "took part", *known], cells


def _accounts(name: str, title: str, unit: str, found: Mapping[int, Mapping[str, float]]) -> Table:
    """A line for each node, a column for each account."""
    names = charts.order({account for row in found.values() for account in row}, ACCOUNTS)
    cells = [
        [node, *(row.get(account, 0.0) for account in names), sum(row.values())]
        for node, row in found.items()
    ]
    return Table(name, title, ["node", *(f"{one} {unit}" for one in (*names, "all"))], cells)


def _by_account(one: Result, factor: float, node: int | None = None) -> Mapping[str, float]:
    """Joules times `factor`, of a node or of all."""
    assert one.spent is not None
    return {name: one.spent.balance(name, node).joules * factor for name in one.spent.accounts}


def _bounds(one: Result, factor: float, node: int | None = None) -> tuple[float, float]:
    """Joules times `factor`, by the shortest and the longest cycles."""
    assert one.spent is not None
    found = one.spent.balance(node=node)
    return found.low * factor, found.high * factor


def _stem(number: int, comparison: TaskRuns) -> str:
    """Of the names of a task's files."""
    return re.sub(r"[^a-z0-9]+", "-", f"{comparison.task} {number}".lower())


def render(found: Sequence[Chapter]) -> str:
    """The page. Everything in it that is not the template's is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE), autoescape=True, trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    return environment.get_template("page.html").render(
        chapters=found, on_dark=ON_DARK,
        inline=lambda chart: Markup(svg.inline(chart.figure, chart.name)),
    )  # fmt: skip


def write(page: str, path: Path) -> None:
    """Raises TinyMetaFedError."""
    with writing(path) as file:
        file.write(page)


def write_parts(found: Sequence[Chapter], folder: Path) -> int:
    """Every figure as SVG and PNG, every table as CSV; returns the number of files. Raises
    TinyMetaFedError."""
    parts = [part for chapter in found for part in chapter.parts]
    drawn = [chart for part in parts for chart in part.charts]
    tables = [table for part in parts for table in part.tables]
    with reporting(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for chart in drawn:
        with writing(folder / f"{chart.name}.svg") as file:
            svg.save(chart.figure, chart.name, file)
        with replacing(folder / f"{chart.name}.png") as file:
            chart.figure.savefig(file, dpi=150)
    for table in tables:
        with writing(folder / f"{table.name}.csv") as file:
            file.write(table.csv)
    return 2 * len(drawn) + len(tables)
