"""The charts of a page with their data and what a reader can choose of them; and as files."""

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..files import reporting, writing
from . import charts, happened, units, vega
from .axes import Axis, Spec, axes, fill
from .colors import ACCOUNTS, MESSAGES, STATES, order, style
from .curves import Choice, Curves, Rows
from .prices import Price
from .results import Result
from .table import Table

MOST_BANDS = 8
"""Lines whose bands are told apart."""
COLUMN = 3.5
"""Inches: the width of a column of a paper."""
CHARACTER = 4.6
"""Points: the width of a character of a title, about, in the type of a figure; a wide one's."""


@dataclass(frozen=True)
class Chart:
    """name: of its files. note: what a reader has to know of it. xs, ys: what can be drawn along
    the axes; x, y: the keys of those at first. logarithmic: which of "x" and "y" are so. parts: of
    a bar, in their order. height: in pixels. stacked: its parts can be shown as shares. legend:
    entries of one in a file, none where it has no lines. along: keys of x that files are made of,
    besides the first."""

    name: str
    title: str
    note: str
    spec: Spec
    rows: Rows
    xs: list[Choice]
    ys: list[Choice] = field(default_factory=list)
    x: str = ""
    y: str = ""
    logarithmic: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    height: int = 340
    stacked: bool = False
    legend: list[str] = field(default_factory=list)
    along: tuple[str, ...] = ()

    @property
    def embedded(self) -> dict[str, Any]:
        """For the page's script."""
        whole = asdict(self)
        return {key: whole[key] for key in whole if key not in ("note", "legend", "along")}


def of_task(stem: str, curves: Curves) -> list[Chart]:
    """In the order of the page: the Pareto chart first."""
    task, labels = curves.task, curves.labels
    styles = [style(i) for i, _ in enumerate(labels)]
    after = f"{task.measures[0]}_after"
    costs = [one for one in curves.xs if one.key != "wall"]
    cheap = [one for one in costs if one.key != "round"] or costs
    found: list[Chart] = []

    def logarithmic(rows: Rows, x: str, y: str) -> list[str]:
        column = f"{x}0" if x in ("joules", "time") else x
        there = {"x": curves.wide(rows, column) and x != "round", "y": curves.wide(rows, y)}
        return [name for name, wide in there.items() if wide]

    if any(curves.ends.column(after)):
        key = cheap[0].key
        found.append(Chart(
            f"{stem}-pareto", f"{task.task}: what is learnt, and what it costs",
            "The dotted line is the Pareto front: none of these reaches more for as little. Bars "
            "are 95% intervals over the seeds.",
            charts.pareto(labels, styles), curves.ends, curves.xs, curves.ys("unseen"), key, after,
            logarithmic(curves.ends, key, after), height=430, legend=labels, along=("joules",),
        ))  # fmt: skip
    found.append(Chart(
        f"{stem}-learning", f"{task.task}: learning",
        f"A line is the mean over the seeds of the mean over {task.judged_on} devices, its band "
        "the 95% interval over the seeds (Student's t).",
        charts.learning(labels, styles), curves.points, curves.xs, curves.ys(task.judged_on),
        "round", after, logarithmic(curves.points, "round", after), legend=labels,
        along=("bytes", "joules"),
    ))  # fmt: skip
    if curves.devices.rows:
        found.append(_devices(stem, curves))
    tall = 96 + 24 * len(labels)
    if curves.energy.rows and (energy := [one for one in curves.xs if one.key == "joules"]):
        parts = order({str(one) for one in curves.energy.column("part") if one}, ACCOUNTS)
        found.append(Chart(
            f"{stem}-energy", f"{task.task}: where the energy goes",
            "Energy of the whole training, all nodes, the mean over the seeds. Cycles are "
            "estimates: the line goes from the shortest to the longest reading of the processor's "
            "manual.",
            charts.bars(ACCOUNTS, parts, bounded=True), curves.energy, energy, x="joules",
            parts=parts, height=tall, stacked=True,
        ))  # fmt: skip
    sent = [abs(one) for one in curves.messages.column("bytes") if one is not None]
    if sent:
        unit = units.best("B", sent)
        axis = Axis(unit.of("← server sends, nodes send →"), f"datum.bytes / {unit.size:g}")
        parts = order({str(one) for one in curves.messages.column("part")}, MESSAGES)
        found.append(Chart(
            f"{stem}-messages", f"{task.task}: what is sent",
            "Bytes of the whole training by request, framing and repetitions included. Samples "
            "that train and store carry here come from sensors, and are no communication.",
            charts.bars(MESSAGES, parts, bounded=False), curves.messages,
            [Choice("bytes", "bytes", axis)], x="bytes", parts=parts, height=tall,
        ))  # fmt: skip
    return found


def _devices(stem: str, curves: Curves) -> Chart:
    task, labels = curves.task, curves.labels
    accuracy = task.score == "accuracy"
    axis = Axis(
        f"{task.score} of an unseen device after adaptation{' (%)' if accuracy else ''}", ""
    )
    least = [one for one in curves.devices.column("q0") if one is not None]
    wide = not accuracy and min(least) > 0 and curves.wide(curves.devices, "q75")
    worst = "lowest" if accuracy else "highest"
    return Chart(
        f"{stem}-devices", f"{task.task}: unseen devices, one by one",
        "Of all seeds: the bar is the middle half of the devices, its tick the median, the line "
        f"goes from one end to the other; a diamond is the mean of the tenth with the {worst} "
        f"{task.score}.",
        charts.spread(labels, [style(i) for i, _ in enumerate(labels)]), curves.devices,
        [Choice("devices", "devices", axis)], x="devices", logarithmic=["x"] if wide else [],
        height=70 + 24 * len(labels),
    )  # fmt: skip


def of_run(one: Result) -> list[Chart]:
    """What happened in it, round by round and node by node."""
    stem, found = f"run-{one.run.id}", list[Chart]()
    shown = min(one.experiment.nodes.count, happened.MOST_NODES)
    of = f"The first {shown} of {one.experiment.nodes.count} nodes. "
    some = of if shown < one.experiment.nodes.count else ""
    tall = 96 + 24 * shown
    if one.run.done:
        rows = happened.rounds(one)
        found.append(Chart(
            f"{stem}-rounds", f"{one.name}: what became of each node", some + ROUNDS,
            charts.rounds(), rows, [], parts=list(STATES), height=tall,
        ))  # fmt: skip
    for rows, key, base, title, name, note in (
        (
            happened.last_round(one),
            "time",
            "s",
            f"round {one.run.done}, node by node",
            "last",
            LAST,
        ),
        (happened.by_node(one), "joules", "J", "energy of each node, all rounds", "nodes", ""),
    ):
        if not rows.rows:
            continue
        sums: dict[str, float] = {}
        for row in rows.rows:
            sums[row[0]] = sums.get(row[0], 0.0) + (row[2] or 0.0 if row[1] else 0.0)
        unit = units.best(base, sums.values())
        value = f"datum.{key} / {unit.size:g}"
        bounds = [f"datum.{key}{end} / {unit.size:g}" for end in ("_low", "_high")]
        what = "time on the device" if key == "time" else "energy"
        low, high = bounds if key == "joules" else ("", "")
        axis = Axis(unit.of(what), value, low, high)
        parts = order({row[1] for row in rows.rows if row[1]}, ACCOUNTS)
        found.append(Chart(
            f"{stem}-{name}", f"{one.name}: {title}", some + note,
            charts.bars(ACCOUNTS, parts, bounded=key == "joules"), rows,
            [Choice(key, key, axis)], x=key, parts=parts, height=tall,
        ))  # fmt: skip
    return found


ROUNDS = (
    "The server's time line: who took part in which round, and events (triangles). The last 400 "
    "rounds where there are more."
)
LAST = (
    "The lengths are the ledger's: counted instructions and bytes as the device and the radio "
    "would take for them. The order is not measured: it is that in which a round goes, and what "
    "comes several times is drawn once, as long as all of it. A node sleeps until the slowest has "
    "done."
)


def write(
    found: Sequence[Chart], tables: Sequence[Table], labels: dict[str, list[str]],
    prices: Sequence[Price], folder: Path, inches: float = COLUMN,
) -> int:  # fmt: skip
    """Every chart as SVG, PNG, PDF and specification, every table as CSV, those for papers as
    LaTeX and Markdown; returns the number of files. labels: of a chart's strategies, by its name.
    prices: energy is that of the first. Raises TinyMetaFedError."""
    with reporting(folder):
        folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for chart in found:
        keys = [chart.x, *(key for key in chart.along if key != chart.x)]
        known = {one.key: one for one in chart.xs}
        for key in keys:
            axis = known[key].at(0) if key in known else None
            if key and axis is None:
                continue
            name = chart.name if key == chart.x else f"{chart.name}-by-{key}"
            spec, rows = filled(chart, axis, inches, labels.get(chart.name, []))
            count += len(vega.files(spec, rows, folder / name))
    for table in tables:
        texts = {".csv": table.csv}
        if table.paper:
            texts |= {".tex": table.latex, ".md": table.markdown}
        for ending, text in texts.items():
            with writing(folder / f"{table.name}{ending}") as file:
                file.write(text)
        count += len(texts)
    return count


def _longest(rows: Sequence[dict[str, Any]]) -> int:
    """Characters of what bars are of."""
    return max((len(str(row.get("label") or row.get("node"))) for row in rows), default=0)


def _broken(axis: Axis | None, room: float) -> Axis | None:
    """With a title that is broken into lines, where one is longer than the axis. room: in points,
    of which a character of a title takes CHARACTER."""
    if axis is None:
        return None
    together = axis.title.replace(" (", "\u00a0(")  # a unit stays with what it is of
    lines = textwrap.wrap(together, max(12, int(room / CHARACTER)))
    return replace(axis, title=f" {charts.BREAK}".join(lines))


def filled(
    chart: Chart, x: Axis | None, inches: float, labels: Sequence[str]
) -> tuple[Spec, list[dict[str, Any]]]:
    """The chart along these axes, for a file of this width, and its rows."""
    y = next((one.axis for one in chart.ys if one.key == chart.y), None)
    rows = chart.rows.records(labels)
    if chart.parts and "part" in chart.rows.columns:
        places = {name: i for i, name in enumerate(chart.parts)}
        rows = [row | {"place": places.get(row["part"], len(places))} for row in rows]
    logarithmic = chart.logarithmic
    if chart.ys and x is not None:
        # The other axes that x may be are of other sizes.
        column = x.value.removeprefix("datum.").partition(" ")[0]
        known = [row[column] for row in rows if row.get(column)]
        wide = "pareto" in chart.name and known and max(known) > 5 * min(known)
        logarithmic = [one for one in logarithmic if one == "y"] + ["x"] * bool(wide)
    longest = max(map(len, chart.legend), default=0)
    fits = max(1, int(72 * inches / (30 + 4.2 * longest)))
    legend: Spec | None = (
        {"columns": min(fits, 4), "symbolDash": [1, 0], "symbolOpacity": 1}
        if chart.legend
        else None
    )
    lines = -(-len(chart.legend) // min(fits, 4))
    # A plot as high as is right for its width, or for its bars; and each line of a legend.
    columns = max(2, int(0.8 * inches))
    bars = len({row.get("label") or row.get("node") for row in rows})
    height = 0.75 + 0.17 * bars + 0.17 * -(-len(chart.parts) // columns)
    if chart.legend:
        height = min(0.66 * inches, 3.4) + 0.14 * lines
    # What is left for the plot beside the marks of its axes; each line of a title takes some of it.
    beside = 72 * inches - (60 if chart.ys else 26 + min(charts.LABELS, 4.2 * _longest(rows)))
    above = 72 * height - 56 - 10 * lines
    x, y = _broken(x, beside), _broken(y, above)
    chosen = axes(x, y, logarithmic, legend) | charts.width(chart.spec, inches, height)
    chosen |= {
        "@stack": "zero", "@bands": 0.13,
        "@bounded": "datum.part == ''",
        "@x.positive": "datum.q0 > 0" if "x" in chart.logarithmic else "true",
        "@columns": columns,
    }  # fmt: skip
    spec: Spec = fill(chart.spec, chosen)
    if "layer" in spec:
        left = {"hover"} if len(labels) <= MOST_BANDS else {"hover", "bands"}
        spec["layer"] = [layer for layer in spec["layer"] if layer.get("name") not in left]
    return spec, rows
