"""Events of nodes, as tables: faults, restarts, frames that were sent again."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table as TerminalTable

from ..results.store import Event, Run, Store
from .table import Cell, Table

MOST_SHOWN = 20
"""With a line of their own on a terminal; where there are more, each kind has one."""
MOST_ON_PAGE = 1000
"""Of a run, on a page."""
REGISTERS_IN_A_LINE = 5


def text(event: Event) -> str:
    """What it says to people."""
    return json.loads(event.detail)["text"]


def registers(event: Event) -> str:
    """Of a processor that has faulted, as NAME VALUE NAME VALUE …; empty where not known."""
    found: Mapping[str, str] = json.loads(event.detail).get("registers", {})
    return " ".join(f"{name} {value}" for name, value in found.items())


def terminal(store: Store, run: Run) -> TerminalTable | None:
    """The events of a run; None where there are none."""
    counts = store.event_counts(run.id)
    total = sum(counts.values())
    if not total:
        return None
    table = TerminalTable(title=f"Events: {total:,}", title_justify="left")
    if total <= MOST_SHOWN:
        for column in ("round", "node", "device", "kind", "detail"):
            table.add_column(column, justify="left" if column in ("kind", "detail") else "right")
        for event in store.events(run.id):
            table.add_row(*map(_number, (event.round, event.node, event.device)), event.kind,
                          escape(_with_registers(event)))  # fmt: skip
        return table
    for column in ("kind", "events", "nodes", "first round", "the first of them"):
        table.add_column(column, justify="left" if "first of" in column or column == "kind"
                         else "right")  # fmt: skip
    by_kind: dict[str, list[int]] = defaultdict(list)
    for (kind, _), count in counts.items():
        by_kind[kind].append(count)
    for kind, of_nodes in by_kind.items():
        (first,) = store.events(run.id, kind, most=1)
        table.add_row(kind, f"{sum(of_nodes):,}", f"{len(of_nodes):,}", _number(first.round),
                      escape(_with_registers(first)))  # fmt: skip
    return table


def _with_registers(event: Event) -> str:
    words = registers(event).split()
    step = 2 * REGISTERS_IN_A_LINE
    lines = [" ".join(words[i : i + step]) for i in range(0, len(words), step)]
    return "\n".join([text(event), *lines])


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def tables(
    found: Sequence[tuple[int, Mapping[tuple[str, int], int], Sequence[Event]]],
) -> list[Table]:
    """Of a page; none where no run has any. found: of each run its number, events by kind and
    node, and the first of them."""
    kinds = list(dict.fromkeys(kind for _, counts, _ in found for kind, _ in counts))
    if not kinds:
        return []
    cells: list[list[Cell]] = [
        [run, *(sum(n for (of, _), n in counts.items() if of == kind) for kind in kinds)]
        for run, counts, _ in found
    ]
    each: list[list[Cell]] = [
        [run, one.round, one.node, one.device, one.kind, text(one), registers(one)]
        for run, _, events in found
        for one in events
    ]
    head = ["run", "round", "node", "device", "kind", "detail", "registers"]
    title = "One by one"
    if any(len(events) < sum(counts.values()) for _, counts, events in found):
        title += f", the first {MOST_ON_PAGE:,} of a run"
    return [
        Table("events-by-kind", "Events by kind", ["run", *kinds], cells),
        Table("events", title, head, each),
    ]
