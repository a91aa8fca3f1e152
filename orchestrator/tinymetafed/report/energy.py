"""What was executed and what it costs, as tables for the terminal, and the ledger as CSV."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from ..energy import ledger, power
from ..energy.settings import Priced
from ..files import escaped, writing
from ..nodes.settings import NodeKind
from ..plugins import short
from ..results.spending import Spent
from ..results.store import MeasuredCycles, NodeTotal, PhaseCount, Run, Store

if TYPE_CHECKING:  # it imports Capstone and pyelftools, for which a table need not wait
    pass

ORDER = (
    "start", "receive", "reconstruct", "learn", "select", "evaluate", "send",
    ledger.RECEIVE, ledger.TRANSMIT, ledger.WAKE_UP, ledger.SLEEP, ledger.ASLEEP,
)  # fmt: skip
"""Of the rows; phases of other programs come first."""


def uncounted_rounds(totals: Iterable[NodeTotal], nodes: Iterable[range], *, sampled: bool) -> int:
    """Rounds of single nodes in which it is not known what was executed. nodes: that are counted.
    sampled: a sample of the rounds was emulated, and stands for the others."""
    if sampled:
        return 0
    counted = set(chain(*nodes))
    return sum(one.rounds - one.counted for one in totals if one.node in counted)


@dataclass(frozen=True)
class Uncounted:
    """Rounds of single nodes in which it is not known what was executed: how many, and of the first
    ones node and round."""

    number: int
    first: Sequence[tuple[int, int]]

    @classmethod
    def of(
        cls,
        store: Store,
        run: Run,
        totals: Sequence[NodeTotal],
        nodes: Sequence[range],
        *,
        sampled: bool,
    ) -> "Uncounted":
        """nodes, sampled: see uncounted_rounds."""
        number = uncounted_rounds(totals, nodes, sampled=sampled)
        return cls(number, store.uncounted(run.id, nodes, 5) if number else ())


def by_account(
    spent: Spent,
    uncounted: Uncounted,
    priced: Priced,
    *,
    traced: bool,
    sampled: bool = False,
) -> Table:
    """All nodes and rounds together: a line for each account. traced: cycles are, once.
    sampled: what was executed is, extrapolated to all rounds."""
    devices = dict.fromkeys(power.device(one.device).name for _, one in priced)
    radios = dict.fromkeys(power.radio(one.radio).name for _, one in priced)
    table = Table(
        title=f"Energy of all nodes: {', '.join([*devices, *radios])}",
        title_justify="left",
        caption=_caption(uncounted, spent.balance(), traced, sampled),
        caption_justify="left",
    )
    table.add_column("account")
    for column in ("M instr.", "M cycles", "bounds", "ms", "mJ"):
        table.add_column(column, justify="right")
    instructions = dict(zip(spent.phases, spent.instructions.sum(axis=0).tolist(), strict=True))
    cycles = dict(zip(spent.phases, spent.cycles.tolist(), strict=True))
    for name in sorted({*spent.phases, *spent.accounts}, key=in_order):
        counts = _counts(instructions[name], cycles[name]) if name in cycles else [""] * 3
        figures = _energy(spent.balance(name)) if name in spent.accounts else [""] * 2
        table.add_row(name, *counts, *(["asleep", ""] if name == ledger.ASLEEP else figures))
    table.add_section()
    sums = spent.cycles.sum(axis=0).tolist()
    table.add_row("all", *_counts(sum(instructions.values()), sums), *_energy(spent.balance()))
    return table


def by_group(
    fleet: Sequence[tuple[range, NodeKind]],
    priced: Priced,
    totals: Sequence[NodeTotal],
    spent: Spent | None,
) -> Table:
    """A line for each group of a fleet."""
    table = Table(title="By group of nodes", title_justify="left")
    for column in ("nodes", "backend", "priced for"):
        table.add_column(column)
    for column in ("rounds", "bytes down", "bytes up", "M instr.", "mJ"):
        table.add_column(column, justify="right")
    prices = dict(priced)
    for nodes, kind in fleet:
        mine = [one for one in totals if one.node in nodes]
        sums = [
            sum(getattr(one, key) for one in mine) for key in ("rounds", "bytes_down", "bytes_up")
        ]
        costs, device = ["not counted", ""], ""
        if nodes in prices and spent is not None:
            some = slice(nodes.start, nodes.stop)
            joules = spent.energy[some, :, 1].sum()
            costs = [f"{spent.instructions[some].sum() / 1e6:,.1f}", f"{joules * 1e3:,.3f}"]
            device = f"{prices[nodes].device}, {prices[nodes].radio}"
        which = f"{nodes.start} to {nodes.stop - 1}" if len(nodes) > 1 else f"{nodes.start}"
        table.add_row(which, _kind(kind), device, *(f"{one:,}" for one in sums), *costs)
    return table


def _kind(kind: NodeKind) -> str:
    words = [short(kind.backend)]
    if kind.emulated:
        words += [kind.board] if kind.firmware == "bare" else [kind.firmware, kind.board]
        words += [kind.link] if kind.link else []
    return " ".join(words)


def by_class(counts: Mapping[str, Mapping[str, int]]) -> Table:
    """Instructions of all nodes and rounds, by phase and class: a line for each class, a column for
    each phase."""
    from ..energy.profile import COUNTED

    names = sorted(counts, key=in_order)
    table = Table(title="Thousands of instructions by class", title_justify="left")
    table.add_column("class")
    for name in names:
        table.add_column(name, justify="right")
    for kind in COUNTED:
        found = [counts[name].get(kind, 0) for name in names]
        if any(found):
            table.add_row(kind, *(f"{number / 1e3:,.1f}" for number in found))
    return table


COMPARED = "reconstruct", "learn", "select", "evaluate"
"""Phases in which a node computes; in the others it waits for its link too, by another clock."""
NOT_MEASURED = (
    "Cycles were not measured: the nodes' counter (DWT->CYCCNT) stands still, as it does on QEMU, "
    "or a frame took so long that it may have gone round."
)


def of_measured(
    measured: Sequence[MeasuredCycles], phases: Iterable[PhaseCount], priced: Priced
) -> Table:
    """Cycles by the nodes' own counter beside the model's of the core that a node is priced for, of
    all rounds of a node of which both are known; of all that were measured where none is."""
    cores = {node: power.device(energy.device).core for nodes, energy in priced for node in nodes}
    modelled = {
        (one.round, one.node, one.phase): one.cycles[core][1]
        for one in phases
        if (core := cores.get(one.node)) is not None and core in one.cycles
    }
    counted = {place[:2] for place in modelled}
    both = [one for one in measured if (one.round, one.node) in counted]
    table = Table(title="Cycles by the nodes' own counter", title_justify="left")
    table.add_column("phase")
    for column in ("M measured", "M modelled", "measured / modelled"):
        table.add_column(column, justify="right")
    for phase in COMPARED:
        mine = [one for one in both or measured if one.phase == phase]
        cycles = sum(one.cycles for one in mine)
        model = sum(modelled.get((one.round, one.node, phase), 0) for one in mine)
        if cycles or model:
            ratio = f"{cycles / model:.3f}" if model else ""
            table.add_row(
                phase, f"{cycles / 1e6:,.3f}", f"{model / 1e6:,.3f}" if model else "", ratio
            )
    rounds = len({(one.round, one.node) for one in both or measured})
    table.caption = f"{rounds} rounds of a node" + (
        "" if both else "; what they executed was not counted: nodes.emulate counts a sample"
    )
    table.caption_justify = "left"
    return table


def in_order(account: str) -> tuple[int, str]:
    """A key to sort phases and accounts by."""
    return (ORDER.index(account) if account in ORDER else -1, account)


def _counts(instructions: int, cycles: Sequence[int]) -> list[str]:
    low, expected, high = cycles
    bounds = f"−{1 - low / expected:.0%} +{high / expected - 1:.0%}" if expected else ""
    return [f"{instructions / 1e6:,.1f}", f"{expected / 1e6:,.1f}", bounds]


def _energy(found: ledger.Balance) -> list[str]:
    return [f"{found.seconds * 1e3:,.1f}", f"{found.joules * 1e3:,.3f}"]


def _caption(uncounted: Uncounted, found: ledger.Balance, traced: bool, sampled: bool) -> str:
    bounds = (
        "Cycles are estimates; their bounds are the shortest and longest reading of the manual. "
        f"By these the energy is {found.low * 1e3:,.1f} to {found.high * 1e3:,.1f} mJ."
    )
    if traced:
        bounds += (
            "\nThey were traced once for each kind of request, and scaled by the instructions "
            "that were counted."
        )
    if sampled:
        bounds += "\nA sample of the rounds was counted, and stands for the others."
    if not uncounted.number:
        return bounds
    which = ", ".join(f"node {node} in round {number}" for node, number in uncounted.first)
    others = uncounted.number - len(uncounted.first)
    more = f" and {others} more" if others else ""
    return f"{bounds}\nNot counted, so not summed: {which}{more}."


def write_csv(entries: Iterable[ledger.Entry], path: Path) -> int:
    """A line for each entry; returns how many. Raises TinyMetaFedError."""
    number = 0
    with writing(path) as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(ledger.Entry)])
        for entry in entries:
            writer.writerow(escaped(astuple(entry)))
            number += 1
    return number
