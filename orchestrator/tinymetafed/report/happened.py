"""What happened in runs besides learning: faults and restarts, nodes that were late or absent,
training that diverged; by run, group, node and device, and round by round."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from . import events
from .curves import Rows, rounded
from .results import MOST_ROUNDS, Result
from .summary import MOST_NODES, away, diverged, late
from .table import Cell, Table

MOST_ROWS = 2000
"""Of a table of nodes or devices."""


def left_out(one: Result) -> Counter[int]:
    """By node, of how many rounds it was left out since its link was too noisy."""
    counts = one.event_counts.items()
    return Counter({node: n for (kind, node), n in counts if kind == "left out"})


def absences(one: Result) -> dict[str, Counter[int]]:
    """By what and node, in how many rounds; what cannot be, or was not, is not there."""
    found = {
        "away": away(one.experiment, one.run.done), "late": late(one.experiment, one.totals),
        "diverged": diverged(one.totals), "left out": left_out(one) or None,
    }  # fmt: skip
    return {what: nodes for what, nodes in found.items() if nodes is not None}


def count(one: Result) -> int:
    """Of events, and of node rounds that were no plain ones."""
    absent = sum(nodes.total() for what, nodes in absences(one).items() if what != "left out")
    return sum(one.event_counts.values()) + absent


def tables(results: Sequence[Result], labels: Mapping[int, str]) -> list[Table]:
    """labels: of the strategies, by the run's number."""
    found = events.tables([(one.run.id, one.event_counts, one.events) for one in results])
    found += [
        table
        for make in (_runs, _groups, _nodes, _devices)
        if (table := make(results, labels)) is not None
    ]
    return found


def sentences(results: Sequence[Result]) -> list[str]:
    """In words, what of it there was; that there was nothing, too."""
    counts: Counter[str] = Counter()
    runs: dict[str, set[int]] = {}
    for one in results:
        kinds: Counter[str] = Counter()
        for (kind, _), n in one.event_counts.items():
            kinds[kind] += n
        absent = {what: nodes.total() for what, nodes in absences(one).items()}
        absent.pop("left out", None)  # it is an event, too
        for what, n in (kinds | absent).items():
            if n:
                counts[what] += n
                runs.setdefault(what, set()).add(one.run.id)
    unfit = sum(point.loss_after is None for one in results for point in one.unseen)
    if unfit:
        counts["adaptation of an unseen device diverged"] = unfit
        runs["adaptation of an unseen device diverged"] = {
            one.run.id for one in results if any(p.loss_after is None for p in one.unseen)
        }
    if not counts:
        return [
            "Nothing but rounds: no fault, restart, repeated frame, late or absent node, and no "
            "training that diverged."
        ]
    words = {"away": "node rounds away", "late": "updates late", "diverged": "node rounds diverged"}
    return [
        f"{words.get(what, what)}: {n:,} in {len(runs[what])} of {len(results)} runs"
        for what, n in counts.most_common()
    ]


def _runs(results: Sequence[Result], labels: Mapping[int, str]) -> Table | None:
    whats = ("away", "late", "diverged", "left out")
    known = [what for what in whats if any(one.shares.get(what) for one in results)]
    if not known:
        return None
    heads = {
        "away": "node rounds away %", "late": "updates late %",
        "diverged": "node rounds diverged %", "left out": "node rounds left out %",
    }  # fmt: skip
    cells: list[list[Cell]] = []
    for one in results:
        row: list[Cell] = [one.run.id, labels.get(one.run.id, ""), one.run.seed]
        for what in known:
            share = one.shares.get(what)
            row.append(100 * share[0] / max(1, share[1]) if share else None)
        cells.append(row)
    head = ["run", "strategy", "seed", *(heads[what] for what in known)]
    return Table("absences", "Late, absent and diverged, by run", head, cells)


def _groups(results: Sequence[Result], labels: Mapping[int, str]) -> Table | None:
    cells: list[list[Cell]] = []
    for one in results:
        if not one.experiment.nodes.groups:
            continue
        absent = absences(one)
        for i, (nodes, _) in enumerate(one.experiment.nodes.fleet, 1):
            mine = [total for total in one.totals if total.node in nodes]
            count: Counter[str] = Counter()
            for (kind, node), n in one.event_counts.items():
                if node in nodes and kind != "left out":
                    count["events"] += n
            cells.append([
                one.run.id, labels.get(one.run.id, ""), i, f"{nodes.start}–{nodes.stop - 1}",
                sum(total.rounds for total in mine),
                *(sum(absent[what][n] for n in nodes) if what in absent else None
                  for what in ("late", "away", "diverged", "left out")),
                count["events"],
            ])  # fmt: skip
    head = ["run", "strategy", "group", "nodes", "node rounds", "late", "away", "diverged",
            "left out", "events"]  # fmt: skip
    return Table("groups", "By group of nodes", head, cells) if cells else None


def _nodes(results: Sequence[Result], labels: Mapping[int, str]) -> Table | None:
    cells: list[list[Cell]] = []
    for one in results:
        absent = absences(one)
        by_node: Counter[int] = Counter()
        for (kind, node), n in one.event_counts.items():
            if kind != "left out":
                by_node[node] += n
        totals = {total.node: total for total in one.totals}
        for node in range(one.experiment.nodes.count):
            total = totals.get(node)
            joules = (
                one.spent.balance(node=node).joules if one.spent and one.spent.accounts else None
            )
            cells.append([
                one.run.id, labels.get(one.run.id, ""), one.run.seed, node,
                total.rounds if total else 0,
                *(absent[what][node] if what in absent else None
                  for what in ("late", "away", "diverged", "left out")),
                by_node[node], 1e-3 * total.bytes_down if total else 0.0,
                1e-3 * total.bytes_up if total else 0.0, joules,
            ])  # fmt: skip
    head = ["run", "strategy", "seed", "node", "rounds", "late", "away", "diverged", "left out",
            "events", "kB down", "kB up", "J"]  # fmt: skip
    return _cut(Table("nodes", "By node", head, cells))


def _devices(results: Sequence[Result], labels: Mapping[int, str]) -> Table | None:
    cells: list[list[Cell]] = [
        [one.run.id, labels.get(one.run.id, ""), one.run.seed, "seen", device.device, device.rounds,
         device.late, device.diverged]
        for one in results
        for device in one.devices
        if device.late or device.diverged
    ]  # fmt: skip
    cells += [
        [
            one.run.id,
            labels.get(one.run.id, ""),
            one.run.seed,
            "unseen",
            point.device,
            None,
            None,
            1,
        ]
        for one in results
        for point in one.unseen
        if point.loss_after is None
    ]
    if not cells:
        return None
    cells.sort(key=lambda row: (-int(row[7] or 0), -int(row[6] or 0), int(row[0] or 0)))
    head = ["run", "strategy", "seed", "part", "device", "rounds", "late", "diverged"]
    return _cut(Table("devices", "Devices that were late or diverged", head, cells))


def _cut(table: Table) -> Table:
    if len(table.cells) <= MOST_ROWS:
        return table
    title = f"{table.title}, the first {MOST_ROWS:,} of {len(table.cells):,}"
    return Table(table.name, title, table.head, table.cells[:MOST_ROWS])


def rounds(one: Result) -> Rows:
    """Of charts.rounds: stretches of rounds in which a node's state was the same, and events."""
    done, experiment = one.run.done, one.experiment
    first = max(1, done - MOST_ROUNDS + 1)
    states: dict[tuple[int, int], str] = {}
    for number, node, was_late, has_diverged in one.fates:
        state = "diverged" if has_diverged else "late" if was_late else "took part"
        states[node, number] = state
    for event in one.events:
        if event.kind == "left out" and event.round:
            states[event.node, event.round] = "left out"
    if experiment.participation.leave:
        for number in range(first, done + 1):
            for node in experiment.attendance.away(number - 1):
                states.setdefault((node, number), "away")
    count = min(experiment.nodes.count, MOST_NODES)
    found: list[list[Any]] = []
    for node in range(count):
        row = [(n, states.get((node, n), "not chosen")) for n in range(first, done + 1)]
        for state, stretch in groupby(row, key=lambda pair: pair[1]):
            numbers = [number for number, _ in stretch]
            found.append([f"node {node}", numbers[0], numbers[-1], state, None, None])
    for event in one.events:
        number = event.round or (first if one.run.done else 0)
        if event.kind != "left out" and event.node < count and first <= number:
            name = f"node {event.node}"
            found.append([name, number, number, None, event.kind, events.text(event)])
    return Rows(["node", "first", "last", "state", "event", "detail"], found)


def last_round(one: Result) -> Rows:
    """Of charts.bars: what each node did in the last round, in seconds by account."""
    marks: dict[int, str] = {}
    if one.run.done:
        marks = dict.fromkeys(one.experiment.attendance.away(one.run.done - 1), ", away")
    marks |= {row.node: ", late" for row in one.last_rows if row.late}
    marks |= {row.node: ", diverged" for row in one.last_rows if row.diverged}
    rows = [
        [f"node {entry.node}{marks.get(entry.node, '')}", entry.account, rounded(entry.seconds)]
        for entry in one.last
        if entry.node < MOST_NODES
    ]
    return Rows(["label", "part", "time"], rows)


def by_node(one: Result) -> Rows:
    """Of charts.bars: joules of each node by account, in all rounds."""
    columns = ["label", "part", "joules", "joules_low", "joules_high"]
    if one.spent is None or not one.spent.accounts:
        return Rows(columns, [])
    rows: list[list[Any]] = []
    for node in range(min(one.experiment.nodes.count, MOST_NODES)):
        for name in one.spent.accounts:
            joules = one.spent.balance(name, node).joules
            if joules:
                rows.append([f"node {node}", name, rounded(joules), None, None])
        total = one.spent.balance(node=node)
        rows.append([f"node {node}", "", *map(rounded, (total.joules, total.low, total.high))])
    return Rows(columns, rows)
