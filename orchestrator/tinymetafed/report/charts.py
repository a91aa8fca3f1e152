"""The figures of a report."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .colors import ACCOUNTS, FAINT, HATCHES, INK, LINES, MARKERS, PAPER
from .results import Group, Result, TaskRuns, measured, pareto

WIDTH = 6.6  # inches
SPREAD = 100
"""Of losses in one figure: what is less than a hundredth of an axis is not told from zero."""
STYLE: Any = {
    "font.size": 9, "text.color": INK, "text.parse_math": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": INK,
    "axes.labelcolor": INK, "axes.titlesize": 10, "axes.titlelocation": "left",
    "axes.grid": True, "axes.axisbelow": True, "grid.color": FAINT, "grid.linewidth": 0.6,
    "xtick.color": INK, "ytick.color": INK, "figure.facecolor": PAPER, "axes.facecolor": PAPER,
    "legend.frameon": False, "hatch.linewidth": 0.7,
}  # fmt: skip
FRONT: Any = {
    "color": INK, "linestyle": ":", "linewidth": 1, "marker": "o", "markersize": 12,
    "markerfacecolor": "none",
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """name: of its file. note: what a reader has to know of it."""

    name: str
    title: str
    note: str
    figure: Figure


@dataclass(frozen=True)
class Stack:
    """A bar: label, and its parts to the right and to the left of zero, by name. error: the ends of
    what its length may be."""

    label: str
    right: Mapping[str, float]
    left: Mapping[str, float]
    error: tuple[float, float] | None = None


def learning(comparison: TaskRuns, measure: str, title: str) -> Figure:
    """The mean of a measure on devices for validation by rounds, before and after adaptation."""
    with mpl.rc_context(STYLE):
        figure, axes = _new(3.6 + 0.18 * len(comparison.groups))
        curves = [
            (i, group, when, list(zip(*group.curve(measure, when), strict=True)))
            for i, group in enumerate(comparison.groups)
            for when in ("before", "after")
        ]
        floor = _floor(measure, [mean for *_, curve in curves for mean in curve[1]])
        for i, group, when, (rounds, means, lows, highs) in curves:
            dash, alpha = ("--", 0.08) if when == "before" else ("-", 0.18)
            if comparison.by_node:
                rounds = [done * group.results[0].experiment.per_round for done in rounds]
            if len(group.results) > 1:
                lows = [max(low, floor) for low in lows]
                axes.fill_between(rounds, lows, highs, color=_color(i), alpha=alpha, lw=0)
            _line(axes, i, rounds, means, linestyle=dash)
        axes.set_xlabel(
            "rounds of a node (rounds × nodes in one)" if comparison.by_node else "rounds"
        )
        _measure_axis(axes, comparison, measure, floor)
        axes.set_title(title)
        _legend(
            figure, dict(enumerate(comparison.groups)),
            Line2D([], [], color=INK, linestyle="-", label="after adaptation"),
            Line2D([], [], color=INK, linestyle="--", label="before adaptation"),
        )  # fmt: skip
    return figure


def cost(comparison: TaskRuns, what: str, title: str) -> Figure | None:
    """The score after adaptation by "megabytes" or "joules" until then: a line for each run, and
    the Pareto front of the ends of those that were counted in all rounds. None where no run has
    these."""
    groups = {
        i: group for i, group in enumerate(comparison.groups)
        if any(getattr(one, what) for one in group.results)
    }  # fmt: skip
    if not groups:
        return None
    score = comparison.results[0].score
    sign = -1 if score == "accuracy" else 1
    ends: list[tuple[float, float]] = []
    drawn: list[float] = []
    with mpl.rc_context(STYLE):
        figure, axes = _new(3.6 + 0.18 * len(groups))
        for i, group in groups.items():
            for one in group.results:
                spent: list[float] = getattr(one, what)
                if spent:
                    reached = [measured(point, score, "after") for point in one.judged]
                    _line(axes, i, spent, reached, markevery=[-1], linewidth=1.2)
                    drawn += reached
                    known = what != "joules" or not one.uncounted
                    if known and not math.isnan(reached[-1]):
                        ends.append((spent[-1], sign * reached[-1]))
        front = sorted({end for end, best in zip(ends, pareto(ends), strict=True) if best})
        x, y = [end[0] for end in front], [sign * end[1] for end in front]
        axes.step(x, y, where="post", zorder=3, **FRONT)
        unit = {"megabytes": "MB down and up, all nodes", "joules": "J, all nodes"}[what]
        axes.set_xlim(left=0)
        axes.set_xlabel(f"{unit}, since the start")
        _measure_axis(axes, comparison, score, _floor(score, drawn))
        axes.set_title(title)
        _legend(figure, groups, Line2D([], [], label="Pareto front", **FRONT))
    return figure


def stacks(bars: Sequence[Stack], colors: Mapping[str, str], title: str, unit: str) -> Figure:
    """A horizontal bar for each."""
    parts = [item for bar in bars for item in (*bar.right.items(), *bar.left.items())]
    names = order({name for name, size in parts if size}, colors)
    with mpl.rc_context(STYLE):
        figure, axes = _new(1.6 + 0.26 * len(bars))
        places = range(len(bars))
        for side, sign in (("right", 1), ("left", -1)):
            ends = [0.0] * len(bars)
            for name in names:
                sizes = [sign * getattr(bar, side).get(name, 0.0) for bar in bars]
                if any(sizes):
                    axes.barh(places, sizes, 0.7, ends, **_fill(name, colors), clip_on=False)
                    ends = [end + size for end, size in zip(ends, sizes, strict=True)]
        for place, bar in zip(places, bars, strict=True):
            if bar.error:
                axes.plot(bar.error, (place, place), color=INK, linewidth=1, marker="|")
        if any(bar.left for bar in bars):
            axes.axvline(0, color=INK, linewidth=0.8)
            axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        _rows(axes, [bar.label for bar in bars])
        axes.set_xlabel(unit)
        axes.set_title(title)
        _parts_legend(figure, names, colors)
    return figure


def timeline(result: Result, number: int, nodes: range, title: str) -> Figure:
    """Round `number`: what the nodes do one after the other."""
    lasts = {
        (one.node, one.account): one.seconds * 1e3 for one in result.last if one.round == number
    }
    marks = dict.fromkeys(result.experiment.attendance.away(number - 1), ", away")
    here = [row for row in result.last_rows if row.round == number]
    marks |= {row.node: ", late" for row in here if row.late}
    marks |= {row.node: ", diverged" for row in here if row.diverged}
    bars = [
        Stack(
            f"node {node}{marks.get(node, '')}",
            {account: ms for (n, account), ms in lasts.items() if n == node},
            {},
        )
        for node in nodes
    ]
    return stacks(bars, ACCOUNTS, title, "ms from the start of the round, on the device")


def order(names: set[str], known: Mapping[str, str]) -> list[str]:
    """In the order of `known`; others behind."""
    return [name for name in known if name in names] + sorted(names - known.keys())


def _new(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _color(i: int) -> str:
    return LINES[i % len(LINES)]


def _marker(i: int) -> dict[str, Any]:
    return {"color": _color(i), "marker": MARKERS[i % len(MARKERS)], "markersize": 4.5}


def _line(axes: Axes, i: int, x: Sequence[float], y: Sequence[float], **style: Any) -> None:
    every = max(1, len(x) // 12)
    axes.plot(x, y, **{"linewidth": 1.6, "markevery": every, **_marker(i), **style})


def _floor(measure: str, drawn: Sequence[float]) -> float:
    """Where the axis of a measure starts: zero; but above it, and so by the logarithm, where some
    losses are so small beside others that they would lie on it."""
    known = [one for one in drawn if not math.isnan(one)]
    apart = measure == "loss" and known and 0 < min(known) < max(known) / SPREAD
    return min(known) / 2 if apart else 0.0


def _measure_axis(axes: Axes, comparison: TaskRuns, measure: str, floor: float) -> None:
    if floor:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylim(bottom=floor)
    if measure == "accuracy":
        axes.set_ylim(top=1.02)
        axes.set_ylabel("accuracy (share of right classes)")
    else:
        classes = comparison.results[0].has_classes
        axes.set_ylabel(f"loss ({'cross-entropy, nats' if classes else 'mean squared error'})")


def _legend(figure: Figure, groups: Mapping[int, Group], *others: Line2D) -> None:
    handles = [
        Line2D([], [], label=f"{group.label} ({_seeds(len(group.results))})", **_marker(i))
        for i, group in groups.items()
    ]
    long = max(len(str(handle.get_label())) for handle in handles) > 40
    figure.legend(
        handles=[*handles, *others], loc="outside lower left", ncols=1 if long else 2, fontsize=8
    )


def _seeds(count: int) -> str:
    return f"{count} seeds" if count > 1 else "1 seed"


def _parts_legend(figure: Figure, names: Sequence[str], colors: Mapping[str, str]) -> None:
    handles = [Patch(label=name, **_fill(name, colors)) for name in names]
    figure.legend(handles=handles, loc="outside lower left", ncols=5, fontsize=8)


def _fill(name: str, colors: Mapping[str, str]) -> dict[str, Any]:
    return {
        "facecolor": colors.get(name, INK), "hatch": HATCHES.get(name), "edgecolor": PAPER,
        "linewidth": 0.5,
    }  # fmt: skip


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_ylim(len(labels) - 0.5, -0.5)
