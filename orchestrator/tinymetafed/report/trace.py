"""The timeline of a run in the trace-event format, which Perfetto and Chrome open.

Of the format (docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU) these events
are used: X, a slice with a duration; i, an instant; C, a counter; M, a name. Time is the devices':
that of the ledger, in microseconds, rounded to whole nanoseconds.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from math import isfinite
from pathlib import Path
from typing import Any

from ..energy import ledger
from ..energy.ledger import Entry
from ..errors import TinyMetaFedError
from ..files import writing
from ..results.store import Event, Judged, NodeRound, Run, Store
from . import events as event_tables
from .colors import ACCOUNTS
from .described import Description

SERVER = 1
"""Its process. Those of nodes are behind it."""
RADIO = (ledger.RECEIVE, ledger.TRANSMIT)
_ORDER = {account: place for place, account in enumerate(ACCOUNTS)}
_AFTER = _ORDER["evaluate"]  # where a phase is put that nobody knows

TraceEvent = dict[str, Any]


def write(
    path: Path, store: Store, run: Run, described: Description, first: int, last: int | None
) -> int:
    """Writes the rounds `first` to `last`, all that are done where not given; round `first` begins
    at 0. Returns how many events there are. Raises TinyMetaFedError."""
    if first > min(run.done, run.done if last is None else last):
        raise TinyMetaFedError(
            f"run {run.id}: no round {first}{f' to {last}' if last else ''} is done; it has "
            f"{run.done} rounds"
        )
    entries = described.account(store, run).entries(first)
    found = _events(store, run, described, iter(entries), first, last)
    head = {
        "displayTimeUnit": "ms",
        "otherData": {
            "run": run.id, "name": run.name, "created": run.created, "seed": run.seed,
            "backend": run.backend, "made by": run.made_by, "strategy": described.strategy,
            "task": described.task, "time": "of the devices, as the ledger has it",
            "devices": [
                {
                    "nodes": [nodes.start, nodes.stop - 1], "device": str(one.device),
                    "radio": str(one.radio),
                }
                for nodes, one in described.priced or ()
            ],
            "events outside of rounds": sum(one.round is None for one in store.events(run.id)),
        },
    }  # fmt: skip
    number = 0
    with writing(path) as file:
        file.write(json.dumps(head)[:-1] + ', "traceEvents": [')
        for number, event in enumerate(found, 1):
            file.write(f"{',' if number > 1 else ''}\n{json.dumps(event, allow_nan=False)}")
        file.write("\n]}\n")
    return number


def _events(
    store: Store, run: Run, described: Description, entries: Iterator[Entry], first: int,
    last: int | None,
) -> Iterator[TraceEvent]:  # fmt: skip
    rows: dict[int, list[NodeRound]] = defaultdict(list)
    for row in store.node_rounds(run.id, first):
        rows[row.round].append(row)
    happened: dict[int | None, list[Event]] = defaultdict(list)
    for one in store.events(run.id):
        happened[one.round].append(one)
    losses = {one.round: one for one in store.learning(run.id)}
    named: set[int] = set()
    yield from _names(SERVER, "server", ["rounds"])
    start = 0.0
    yield from _loss(losses.get(first - 1), start)
    for number, group in groupby(entries, key=lambda entry: entry.round):
        if last is not None and number > last:
            break
        by_node: dict[int, list[Entry]] = defaultdict(list)
        for entry in group:
            by_node[entry.node].append(entry)
        seen = by_node.keys() | {one.node for one in happened[number]}
        for node in sorted(seen - named):
            yield from _names(_process(node), f"node-{node}", ["processor", "radio"])
        named |= seen
        end = start + max(sum(entry.seconds for entry in mine) for mine in by_node.values())
        marks = {row.node: row for row in rows[number]}
        for node, mine in sorted(by_node.items()):
            yield from _node(node, mine, start, end, marks.get(node))
        for one in happened[number]:
            detail = {"text": event_tables.text(one), "device": one.device, "round": number}
            yield _instant(one.kind, _process(one.node), start, detail)
        yield _slice(f"round {number}", "round", SERVER, 0, start, end, _sums(rows[number]))
        yield from _loss(losses.get(number), end)
        start = end
    if not named:
        raise TinyMetaFedError(
            f"run {run.id}: nothing was counted on its {run.backend} nodes in these rounds, so "
            "there is no timeline; qemu and renode nodes count"
        )


def _node(
    node: int, entries: list[Entry], start: float, end: float, row: NodeRound | None
) -> Iterator[TraceEvent]:
    """What a node does in a round, one after the other. row: None where it takes no part."""
    at = awake = start
    for entry in sorted(entries, key=lambda one: _ORDER.get(one.account, _AFTER)):
        begin, at = at, min(at + entry.seconds, end)
        detail = {"round": entry.round, "seconds": entry.seconds, "joules": entry.joules}
        if row is not None:
            detail["device"] = row.device
        place = int(entry.account in RADIO)
        kind = "radio" if place else "sleep" if entry.account == ledger.SLEEP else "phase"
        awake = begin if kind == "sleep" else at
        yield _slice(entry.account, kind, _process(node), place, begin, at, detail)
    if row is not None:
        for name, true in (("late", row.late), ("diverged", row.diverged)):
            if true:
                yield _instant(name, _process(node), awake, {"round": row.round})


def _sums(rows: list[NodeRound]) -> dict[str, Any]:
    return {
        "nodes": len(rows), "bytes down": sum(row.bytes_down for row in rows),
        "bytes up": sum(row.bytes_up for row in rows), "late": sum(row.late for row in rows),
    }  # fmt: skip


def _process(node: int) -> int:
    return SERVER + 1 + node


def _thread(process: int, place: int) -> int:
    """Numbers that no two processes share, since some viewers keep threads by these alone."""
    return 2 * process + place


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e9) / 1e3


def _slice(
    name: str, kind: str, process: int, place: int, begin: float, end: float, detail: dict[str, Any]
) -> TraceEvent:
    first, last = round(begin * 1e9), round(end * 1e9)
    return {
        "ph": "X", "name": name, "cat": kind, "pid": process, "tid": _thread(process, place),
        "ts": first / 1e3, "dur": (last - first) / 1e3, "args": detail,
    }  # fmt: skip


def _instant(name: str, process: int, at: float, detail: dict[str, Any]) -> TraceEvent:
    return {
        "ph": "i", "name": name, "cat": "event", "pid": process, "tid": _thread(process, 0),
        "ts": _microseconds(at), "s": "t", "args": detail,
    }  # fmt: skip


def _loss(judged: Judged | None, at: float) -> Iterator[TraceEvent]:
    """After adaptation, where it was judged then."""
    if judged is not None and judged.loss_after is not None and isfinite(judged.loss_after):
        yield {
            "ph": "C", "name": f"loss on {judged.part} devices", "pid": SERVER,
            "ts": _microseconds(at), "args": {"after adaptation": judged.loss_after},
        }  # fmt: skip


def _names(process: int, name: str, threads: list[str]) -> Iterator[TraceEvent]:
    def metadata(kind: str, thread: int, detail: dict[str, Any]) -> TraceEvent:
        return {"ph": "M", "name": kind, "pid": process, "tid": thread, "ts": 0, "args": detail}

    main = _thread(process, 0)
    yield metadata("process_name", main, {"name": name})
    yield metadata("process_sort_index", main, {"sort_index": process})
    for place, one in enumerate(threads):
        thread = _thread(process, place)
        yield metadata("thread_name", thread, {"name": one})
        yield metadata("thread_sort_index", thread, {"sort_index": place})
