"""What the charts of a task are drawn of: means and intervals over the seeds, as rows of a table,
and the axes that they can be drawn along."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..results.statistics import mean_and_interval
from . import units
from .axes import Axis
from .groups import TaskRuns
from .measured import ends
from .prices import Price
from .results import Result, measured

MARKED = 10
"""Markers on a line, about."""
WIDE = 5.0
"""Times that the largest mean on an axis is the smallest, from which on it is logarithmic."""
WHEN = ("after", "before")
Number = float | None


@dataclass(frozen=True)
class Rows:
    """A table by the names of its columns; a "label" may be a place in a list of labels."""

    columns: list[str]
    rows: list[list[Any]]

    def records(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """As a chart takes them."""
        found = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        for one in found:
            if isinstance(label := one.get("label"), int):
                one["label"] = labels[label]
        return found

    def column(self, name: str) -> list[Any]:
        """Its cells; none where it is not there."""
        return [row[self.columns.index(name)] for row in self.rows] if name in self.columns else []


@dataclass(frozen=True)
class Choice:
    """What a reader can draw along an axis. by_price: an axis for each price, None where no run has
    it; empty where there is the one."""

    key: str
    name: str
    axis: Axis | None = None
    by_price: tuple[Axis | None, ...] = ()

    def at(self, price: int) -> Axis | None:
        return self.by_price[price] if self.by_price else self.axis


def rounded(value: float | None) -> Number:
    """For a page: five digits; None where there is no number."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")


def interval(values: Iterable[float | None], quantity: str) -> list[Number]:
    """Mean and 95% interval, cut at the ends of the quantity, of those that there are; None where
    there is none, or a single one has no interval."""
    known = [one for one in values if one is not None and math.isfinite(one)]
    if not known:
        return [None, None, None]
    return [rounded(one) for one in mean_and_interval(known, *ends(quantity))]


def spent(one: Result, key: str, price: Price | None, number: int) -> Number:
    """By a run until it had done so many rounds: "bytes", "wall" in seconds, "node_rounds", or, of
    a price, "joules" and "time" in seconds."""
    if key == "round":
        return float(number)
    if key == "node_rounds":
        return float(number * one.experiment.per_round)
    if key == "bytes":
        return float(one.bytes[number])
    if key == "wall":
        return float(one.seconds[number])
    course = one.courses.get(price) if price else None
    if course is None:
        return None
    found = course.joules if key == "joules" else course.seconds
    return None if found is None else float(found[number])


class Curves:
    """Of one task. prices: in the order in which the reader chooses."""

    def __init__(self, task: TaskRuns, prices: Sequence[Price]) -> None:
        self.task, self.prices = task, prices
        self.labels = [group.label for group in task.groups]

    @cached_property
    def _keys(self) -> list[tuple[str, str, Price | None]]:
        """Column, key and price of what is spent."""
        found: list[tuple[str, str, Price | None]] = [
            (key, key, None) for key in ("node_rounds", "bytes", "wall")
        ]
        for i, price in enumerate(self.prices):
            found += [(f"joules{i}", "joules", price), (f"time{i}", "time", price)]
        return found

    @cached_property
    def points(self) -> Rows:
        """By rounds: a row for each strategy and round that was judged."""
        measures = [(m, when) for m in self.task.measures for when in WHEN]
        columns = ["label", "round", "seeds", "marked", *(name for name, *_ in self._keys)]
        for measure, when in measures:
            columns += [f"{measure}_{when}{end}" for end in ("", "_low", "_high")]
        rows: list[list[Any]] = []
        for label, group in enumerate(self.task.groups):
            numbers = group.rounds
            every = max(1, round(len(numbers) / MARKED))
            for i, number in enumerate(numbers):
                there = group.at(number)
                marked = (len(numbers) - 1 - i) % every == 0
                row: list[Any] = [label, number, len(there), int(marked)]
                row += [
                    interval((spent(one, key, price, number) for one, _ in there), key)[0]
                    for _, key, price in self._keys
                ]
                for what in measures:
                    values = (measured(one.judged[place], *what) for one, place in there)
                    row += interval(values, _quantity(*what))
                rows.append(row)
        return Rows(columns, rows)

    @cached_property
    def ends(self) -> Rows:
        """At the end: a row for each strategy that has come to it."""
        measures = [(m, when) for m in self.task.measures for when in WHEN]
        names = ["round", *(name for name, *_ in self._keys)]
        names += [f"{measure}_{when}" for measure, when in measures]
        columns = ["label", "seeds", *(f"{n}{end}" for n in names for end in ("", "_low", "_high"))]
        rows: list[list[Any]] = []
        for label, group in enumerate(self.task.groups):
            there = group.settled
            if not there:
                continue
            row: list[Any] = [
                label,
                len(there),
                *interval((one.run.done for one in there), "rounds"),
            ]
            for _, key, price in self._keys:
                row += interval((spent(one, key, price, one.run.done) for one in there), key)
            for what in measures:
                values = (measured(one.final, *what) for one in there if one.final)
                row += interval(values, _quantity(*what))
            rows.append(row)
        return Rows(columns, rows)

    @cached_property
    def xs(self) -> list[Choice]:
        """Along which the reader can lay it."""
        rounds = "rounds of a node (rounds × nodes in one)" if self.task.by_node else "rounds"
        column = "node_rounds" if self.task.by_node else "round"
        first = Choice("round", "rounds", Axis(rounds, f"datum.{column}"))
        found = [
            first, self._sized("bytes", "bytes", "communication, all nodes", "B"),
            self._priced("joules", "energy", "energy, all nodes", "J"),
            self._priced("time", "device time", "time on the devices", "s"),
            self._sized("wall", "wall time", "wall time of the bench", "s"),
        ]  # fmt: skip
        return [one for one in found if one.axis or any(one.by_price)]

    def ys(self, devices: str) -> list[Choice]:
        """What the reader can hold against it: means over `devices`."""
        return [
            Choice(
                f"{measure}_{when}",
                _quantity(measure, when),
                self._measure(devices, measure, when),
            )
            for when in WHEN
            for measure in self.task.measures
        ]

    def _measure(self, devices: str, measure: str, when: str) -> Axis:
        key, what = f"{measure}_{when}", f"{devices} {_quantity(measure, when)}"
        if measure == "accuracy":
            ends = [f"100 * datum.{key}{end}" for end in ("", "_low", "_high")]
            return Axis(f"{what} (%)", ends[0], ends[1], ends[2], sign=-1)
        unit = "nats" if self.task.score == "accuracy" else "MSE"
        return Axis(f"{what} ({unit})", f"datum.{key}", f"datum.{key}_low", f"datum.{key}_high")

    def _axis(self, column: str, title: str, base: str) -> Axis | None:
        values = [one for one in self.points.column(column) if one is not None]
        if not values:
            return None
        unit = units.best(base, values)
        value, low, high = (f"datum.{column}{end} / {unit.size:g}" for end in ("", "_low", "_high"))
        return Axis(unit.of(title), value, low, high)

    def _sized(self, key: str, name: str, title: str, base: str) -> Choice:
        return Choice(key, name, self._axis(key, title, base))

    def _priced(self, key: str, name: str, title: str, base: str) -> Choice:
        found = [self._axis(f"{key}{i}", title, base) for i in range(len(self.prices))]
        titled = [
            axis
            and Axis(
                f"{axis.title}, {', '.join(filter(None, price))}", axis.value, axis.low, axis.high
            )
            for axis, price in zip(found, self.prices, strict=True)
        ]
        return Choice(key, name, by_price=tuple(titled) if any(titled) else ())

    def wide(self, rows: Rows, column: str) -> bool:
        """Whether an axis of it is to be logarithmic."""
        if column.startswith("accuracy"):
            return False
        known = [one for one in rows.column(column) if one]
        return bool(known) and 0 < min(known) < max(known) / WIDE

    @cached_property
    def energy(self) -> Rows:
        """Joules by account and price, the mean over the seeds; of the part "" the whole, and what
        it is by the shortest and the longest cycles."""
        columns = ["label", "part"]
        for i, _ in enumerate(self.prices):
            columns += [f"joules{i}", f"joules{i}_low", f"joules{i}_high"]
        rows: list[list[Any]] = []
        for label, group in enumerate(self.task.groups):
            courses = [[one.courses.get(price) for one in group.settled] for price in self.prices]
            known = [[one for one in some if one] for some in courses]
            names = dict.fromkeys(name for some in known for one in some for name in one.accounts)
            for part in [*names, ""] if names else []:
                row: list[Any] = [label, part]
                for some in known:
                    if part:
                        row += [_mean(one.accounts.get(part, 0.0) for one in some), None, None]
                    else:
                        row += [_mean(float(one.joules[-1]) for one in some)]
                        row += [_mean(one.low for one in some), _mean(one.high for one in some)]
                rows.append(row)
        return Rows(columns, rows)

    @cached_property
    def messages(self) -> Rows:
        """Bytes by request, the mean over the seeds; those that the server sends are negative."""
        rows: list[list[Any]] = []
        for label, group in enumerate(self.task.groups):
            settled = group.settled
            names = dict.fromkeys(name for one in settled for name in one.messages)
            for part in names:
                for way, sign in ((0, -1), (1, 1)):
                    moved = _mean(one.messages.get(part, (0, 0))[way] for one in settled)
                    rows.append([label, part, None if moved is None else sign * moved])
        return Rows(["label", "part", "bytes"], rows)

    @cached_property
    def devices(self) -> Rows:
        """How the unseen devices of all seeds fare at the end, by the score."""
        accuracy = self.task.score == "accuracy"
        rows: list[list[Any]] = []
        for label, group in enumerate(self.task.groups):
            found = [
                100.0 * one.accuracy_after if accuracy else one.loss_after
                for result in group.settled
                for one in result.unseen
                if one.loss_after is not None and one.accuracy_after is not None
            ]
            if not found:
                continue
            values = np.sort(found)
            worst = (
                values[: max(1, len(values) // 10)]
                if accuracy
                else values[-max(1, len(values) // 10) :]
            )
            quantiles = np.percentile(values, [0, 25, 50, 75, 100]).tolist()
            rows.append([label, len(found), *map(rounded, (*quantiles, float(worst.mean())))])
        return Rows(["label", "count", "q0", "q25", "q50", "q75", "q100", "worst"], rows)


def _quantity(measure: str, when: str) -> str:
    """Its name, as measured.ends knows it."""
    return f"{measure} {when} adaptation"


def _mean(values: Iterator[float] | Iterable[float]) -> Number:
    known = list(values)
    return rounded(sum(known) / len(known)) if known else None
