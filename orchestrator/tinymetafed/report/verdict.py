"""The first table of a page and the sentences above it: what each strategy came to, for what, and
how it compares with a baseline."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from . import units
from .curves import spent
from .groups import TaskRuns
from .judged import reached
from .measured import (
    BYTES_UNTIL,
    JOULES_UNTIL,
    PLAIN,
    ROUNDS_UNTIL,
    SPREAD,
    WORSE,
    Figure,
    Key,
    Measured,
)
from .over_seeds import Result as Mean
from .over_seeds import results, told_at_start
from .prices import Price
from .results import Result
from .units import three

Sentence = list[str | tuple[str, int]]
"""Its parts: text, or a column and a strategy whose ratio to the baseline stands there."""


@dataclass(frozen=True)
class Entry:
    """A cell. value: what it is sorted by, None where there is none, or it is not to be ranked.
    text: the mean. interval: its 95% interval, or what is to be said in its place."""

    value: float | None
    text: str
    interval: str = ""


@dataclass(frozen=True)
class Column:
    """name: what it is of, until what goal, where it is until one. better: -1 where more is.
    entries: by strategy. ratios: by baseline and strategy, as text with its interval; empty where
    there is none. even: likewise, whether the interval leaves open which of both is better. title:
    all of it. compared: the title of ratios, before the baseline's label."""

    key: str
    name: str
    unit: str
    goal: str
    better: int
    entries: list[Entry]
    ratios: list[list[str]]
    even: list[list[bool]]
    title: str = field(init=False)
    compared: str = field(init=False)

    def __post_init__(self) -> None:
        goal = f" to {self.goal}" if self.goal else ""
        unit = f" ({self.unit})" if self.unit else ""
        sign = "−" if self.better < 0 else "÷"
        object.__setattr__(self, "title", f"{self.name}{unit}{goal}")
        object.__setattr__(self, "compared", f"{self.name}{goal} {sign}")


@dataclass(frozen=True)
class Verdict:
    """Of one task and price. at_start: that runs were at the target before training; else empty."""

    columns: list[Column]
    sentences: list[Sentence]
    at_start: str = ""

    def column(self, key: str) -> Column | None:
        return next((one for one in self.columns if one.key == key), None)


@dataclass(frozen=True)
class _Kind:
    """What a column is of. quantity: as over_seeds has it. base: of the unit; else unit and scale
    of plain numbers. goal: until which. more: more is better. priced: it is of a device and
    radio."""

    key: str
    quantity: str
    name: str
    base: str = ""
    unit: str = ""
    scale: float = 1.0
    goal: str = ""
    more: bool = False
    priced: bool = False


def _kinds(task: TaskRuns) -> list[_Kind]:
    """The columns in their order; the first is the score."""
    accuracy = task.score == "accuracy"
    percent = {"unit": "%", "scale": 100.0}
    score = {**percent, "more": True} if accuracy else {}
    found = [
        _Kind("score", f"{task.score} after adaptation", f"{task.score} after adaptation", **score),
        _Kind("bytes", "bytes", "bytes", "B"),
        _Kind("joules", "joules", "energy", "J", priced=True),
    ]  # fmt: skip
    if task.target is not None:
        goal = f"accuracy ≥ {100 * task.target:g}%" if accuracy else f"loss ≤ {task.target:g}"
        rounds = "rounds of a node" if task.by_node else "rounds"
        found += [
            _Kind("rounds until", ROUNDS_UNTIL, rounds, goal=goal),
            _Kind("bytes until", BYTES_UNTIL, "bytes", "B", goal=goal),
            _Kind("joules until", JOULES_UNTIL, "energy", "J", goal=goal, priced=True),
        ]
    if accuracy:
        found.append(_Kind("loss", "loss after adaptation", "loss after adaptation"))
    return [
        *found,
        _Kind("time", "device time", "device time", "s", priced=True),
        _Kind("worst", f"{task.score} of the worst tenth",
              f"{task.score} of the worst tenth of devices", **score),
        _Kind("worse", WORSE, f"devices worse than {task.no_federation}", **percent),
        _Kind("spread", SPREAD, "spread of the last fifth",
              **({**percent, "unit": "points"} if accuracy else {})),
    ]  # fmt: skip


def verdicts(task: TaskRuns, prices: Sequence[Price]) -> list[Verdict]:
    """What the runs that have come to their end say, by price; one where there is none. Means,
    intervals and ratios are those of `compare`: docs/statistics.md."""
    kinds = _kinds(task)
    wanted = {one.quantity for one in kinds}
    runs = {
        (task.task, group.label, one.run.seed): _measured(task, one, prices, wanted)
        for group in task.groups
        for one in group.settled
    }
    labels = [group.label for group in task.groups]
    # By baseline, then by quantity with its price, then by strategy.
    by_baseline: list[dict[Key, dict[str, Mean]]] = []
    for label in labels:
        found: dict[Key, dict[str, Mean]] = {}
        for one in results(runs, label):
            found.setdefault((one.device, one.radio, one.quantity), {})[one.strategy] = one
        by_baseline.append(found)
    at_start = told_at_start(by_baseline[0].get((*PLAIN, ROUNDS_UNTIL), {}).values())
    plain = {one.key: _column(one, PLAIN, labels, by_baseline) for one in kinds if not one.priced}
    verdicts: list[Verdict] = []
    for price in prices or [PLAIN]:
        columns = [
            plain[one.key] if not one.priced else _column(one, price, labels, by_baseline)
            for one in kinds
        ]
        known = [one for one in columns if one is not None]
        verdicts.append(Verdict(known, list(_sentences(task, known, at_start)), at_start))
    return verdicts


def _measured(task: TaskRuns, one: Result, prices: Sequence[Price], wanted: set[str]) -> Measured:
    """With what it has spent for each price, in all and until the target."""
    figures = {key: value for key, value in one.plain.figures.items() if key[-1] in wanted}
    done = one.run.done
    there_by = None if task.target is None else reaches(one, task.target)
    until, censored = (done, True) if there_by is None else (there_by, False)
    if task.target is not None:
        rounds = spent(one, "node_rounds" if task.by_node else "round", None, until)
        figures[*PLAIN, ROUNDS_UNTIL] = Figure(rounds or 0.0, censored)
        figures[*PLAIN, BYTES_UNTIL] = Figure(float(one.bytes[until]), censored)
    for price in prices:
        for quantity, key, number, open_ in (
            ("joules", "joules", done, False), ("device time", "time", done, False),
            (JOULES_UNTIL, "joules", until, censored),
        ):  # fmt: skip
            value = spent(one, key, price, number) if quantity in wanted else None
            if value is not None:
                figures[*price, quantity] = Figure(value, open_)
    by_device = {key: value for key, value in one.plain.by_device.items() if key in wanted}
    return replace(one.plain, by_device=by_device, figures=figures)


def _column(
    kind: _Kind,
    price: Price,
    labels: Sequence[str],
    by_baseline: Sequence[Mapping[Key, Mapping[str, Mean]]],
) -> Column | None:
    """None where no run has it."""
    key = (*price, kind.quantity)
    means = by_baseline[0].get(key)
    if not means:
        return None
    size, unit = 1 / kind.scale, kind.unit
    if kind.base:
        best = units.best(kind.base, [one.mean for one in means.values()])
        size, unit = best.size, best.name
    entries = [_entry(means.get(label), size, kind) for label in labels]
    if any(one.at_start for one in means.values()):  # the target says nothing of training
        entries = [replace(one, value=None) for one in entries]
    beside = [[found.get(key, {}).get(label) for label in labels] for found in by_baseline]
    ratios = [[_compared(one, size, kind) for one in row] for row in beside]
    even = [[_even(one, kind) for one in row] for row in beside]
    better = -1 if kind.more else 1
    return Column(kind.key, kind.name, unit, kind.goal, better, entries, ratios, even)


def _entry(found: Mean | None, size: float, kind: _Kind) -> Entry:
    if found is None:
        return Entry(None, "–")

    def text(value: float) -> str:
        if kind.scale != 1.0:
            return f"{value / size:.1f}"
        whole = kind.quantity == ROUNDS_UNTIL and value >= 100
        return f"{value:,.0f}" if whole else three(value / size)

    mean, low, high = found.mean, found.low, found.high
    if found.censored:
        # What has not been reached takes more than it has spent.
        there = found.seeds - found.censored
        before = f", {found.at_start} before training" if found.at_start else ""
        said = f"reached by {there} of {found.seeds} seeds{before}"
        return Entry(math.inf, f"> {text(mean)}", said)
    if found.at_start:
        said = f"reached before training by {found.at_start} of {found.seeds} seeds"
        return Entry(mean, text(mean), said)
    if low is None or high is None:
        return Entry(mean, text(mean), "one seed")
    ends = text(low), text(high)
    return Entry(mean, text(mean), "" if ends == (text(mean),) * 2 else f"[{ends[0]}, {ends[1]}]")


def _compared(found: Mean | None, size: float, kind: _Kind) -> str:
    """The difference of what is in percent, the ratio of all else."""
    if found is None:
        return ""
    values = found.ratio, found.ratio_low, found.ratio_high
    text = _ratio
    unit = "×"
    if kind.scale != 1.0:
        values = found.difference, found.difference_low, found.difference_high
        text, unit = (lambda value: f"{value / size:+.1f}".replace("-", "−")), " points"
    value, low, high = values
    if value is None:
        return ""
    sign = {"lower": "> ", "upper": "< "}.get(found.bound, "")
    shown = f"{sign}{text(value)}{unit}"
    end = low if found.bound == "lower" else high
    if sign:
        return shown if end is None or text(end) == text(value) else f"{shown} [{sign}{text(end)}]"
    if low is None or high is None or {text(low), text(high)} == {text(value)}:
        return shown
    return f"{shown} [{text(low)}, {text(high)}]"


def _even(found: Mean | None, kind: _Kind) -> bool:
    """Whether the interval that _compared shows has 0, of a difference, or 1, of a ratio."""
    if found is None:
        return False
    low, high, none = (
        (found.ratio_low, found.ratio_high, 1.0)
        if kind.scale == 1.0
        else (found.difference_low, found.difference_high, 0.0)
    )
    if found.bound:  # the other end is not known
        return (low is not None and low <= none) or (high is not None and none <= high)
    return low is not None and high is not None and low <= none <= high


def _ratio(value: float) -> str:
    return f"{value:.2f}" if 0.1 <= value < 2 else three(value, 2)


def reaches(one: Result, target: float) -> int | None:
    """See judged.reached; of all evaluations, also where charts have some of them."""
    return reached(one.plain.curve, target, classes=one.has_classes)


def _sentences(task: TaskRuns, columns: Sequence[Column], at_start: str) -> Iterator[Sentence]:
    labels = [group.label for group in task.groups]
    score = next((one for one in columns if one.key == "score"), None)
    known = [
        (entry.value * score.better, i)
        for i, entry in enumerate(score.entries if score else ())
        if score and entry.value is not None
    ]
    if not known or score is None:
        judged = any(one.unseen for group in task.groups for one in group.settled)
        yield [
            "Adaptation diverged on all unseen devices."
            if judged
            else "No run has been judged on unseen devices, as is done after the last round."
        ]
        return
    _, best = min(known)
    name = "highest accuracy" if task.score == "accuracy" else "lowest loss"
    entry = score.entries[best]
    percent = "%" if task.score == "accuracy" else ""
    first: Sentence = [
        f"{labels[best]} has the {name} after adaptation on unseen devices: {entry.text}{percent}"
    ]
    if entry.interval.startswith("["):
        first[0] = f"{first[0]} {entry.interval}"
    if len(labels) == 1:
        first[0] = str(first[0]).replace(f"has the {name}", f"comes to a mean {task.score}")
        spent_on = [
            f"{column.entries[0].text} {column.unit}"
            for column in columns
            if column.key in ("bytes", "joules")
        ]
        yield [*first, f", for {' and '.join(spent_on)}."]
        return
    yield [*first, ("score", best), "."]
    one_seed = all(one.interval == "one seed" for one in score.entries if one.value is not None)
    if one_seed and len(known) > 1:
        yield ["With one seed each there are no intervals: a difference may be chance."]
    close = (
        [] if one_seed else [i for i, _ in enumerate(labels) if i != best and score.even[best][i]]
    )
    by_key = {column.key: column for column in columns}
    if close:
        beside = [f"{labels[one]} ({score.ratios[best][one]})" for one in close]
        among = [best, *close]
        cheap = _cheapest(labels, by_key, among, {
            "bytes": "sends and receives least", "joules": "takes the least energy"})  # fmt: skip
        apart = f"do not tell {_listed(beside)} apart from it (paired by seed and device, 95%)"
        yield [f"These runs {apart}.", *([" Of these, ", *cheap, "."] if cheap else [])]
    until = by_key.get("rounds until")
    if until is not None:
        there = [i for i, entry in enumerate(until.entries)
                 if entry.value is not None and math.isfinite(entry.value)]  # fmt: skip
        goal = until.goal
        if at_start:
            yield [f"{goal[0].upper()}{goal[1:]}: {at_start}"]
            return
        if not there:
            yield [f"None reaches {goal} with every seed."]
            return
        cheap = _cheapest(labels, by_key, there, {
            "rounds until": "the fewest rounds", "bytes until": "the fewest bytes",
            "joules until": "the least energy"}, verb="needs ")  # fmt: skip
        goal = f"{goal[0].upper()}{goal[1:]}"
        by = f"{len(there)} of {len(labels)}"
        yield [f"{goal} is reached with every seed by {by}{': ' if cheap else ''}", *cheap, "."]


def _cheapest(
    labels: Sequence[str],
    by_key: Mapping[str, Column],
    among: Sequence[int],
    words: Mapping[str, str],
    verb: str = "",
) -> Sentence:
    """Of some strategies that which is best by each of these columns, each named once; none where
    several are. words: what is said of such a one, by column; verb: before all of it."""
    said: dict[int, list[tuple[str, str]]] = {}
    for key, what in words.items():
        column = by_key.get(key)
        known = [(column.entries[i].value or 0.0, i) for i in among
                 if column.entries[i].value is not None] if column else []  # fmt: skip
        if column and known:
            least, i = min(known)
            if sum(value == least for value, _ in known) > 1:
                continue
            unit = f"\u00a0{column.unit}" if column.unit else ""
            said.setdefault(i, []).append((key, f"{what} ({column.entries[i].text}{unit}"))
    found: Sentence = []
    for i, parts in said.items():
        found.append(f"{'; ' if found else ''}{labels[i]} {verb}")
        for k, (key, text) in enumerate(parts):
            found += [f"{' and ' if k else ''}{text}", (key, i), ")"]
    return found


def _listed(names: Sequence[str], most: int = 3) -> str:
    if len(names) > most:
        return f"{len(names)} others"
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"
