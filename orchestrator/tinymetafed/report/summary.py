"""What a run came to, as tables for the terminal."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ..energy.ledger import Entry, balance
from ..experiments.experiment import Experiment
from ..results import accounts
from ..results.store import NodeRound, PhaseCount, Run, Store
from . import energy, events

MOST_NODES = 16  # with a line of their own


@dataclass(frozen=True)
class LossOnUnseen:
    """Mean over unseen devices, before and after few-shot adaptation; accuracy is that too, and 0
    where the task has no classes. diverged: devices whose adaptation did, which are in no mean; NaN
    where it did on all."""

    round: int
    devices: int
    diverged: int
    before: float
    after: float
    accuracy_before: float
    accuracy_after: float


def losses(store: Store, run: Run) -> list[LossOnUnseen]:
    """The run's evaluations, a line for each round that was judged."""
    found: list[LossOnUnseen] = []
    for done, rows in groupby(store.evaluations(run.id), key=lambda row: row.round):
        here = list(rows)
        columns = ("loss_before", "loss_after", "accuracy_before", "accuracy_after")
        known = [row for row in here if row.loss_after is not None]
        means = [
            float(np.mean([getattr(row, column) for row in known])) if known else math.nan
            for column in columns
        ]
        found.append(LossOnUnseen(done, len(here), len(here) - len(known), *means))
    return found


def settings(run: Run) -> Experiment:
    """The experiment that the run is of."""
    return Experiment.model_validate_json(run.settings)


def summary(store: Store, run: Run, figure: Path | None) -> Iterator[RenderableType]:
    """The tables, in the order in which they are printed."""
    experiment = settings(run)
    yield Text.assemble(
        (f"Run {run.id} · {run.name}", "bold"),
        f"\n{experiment.strategy.name} on {experiment.task.name}, seed {run.seed}, "
        f"{experiment.nodes.count} {run.backend} nodes, {run.done} of {run.rounds} rounds",
    )
    yield _losses(losses(store, run), experiment.task.target_is_class)
    rows, phases = accounts.executed(store, run.id, experiment.nodes)
    sampled = experiment.nodes.emulate > 0
    if sampled:
        entries = accounts.book(
            rows, phases, experiment.energy, experiment.nodes.count, experiment.attendance.away
        )
    else:
        entries = store.ledger(run.id)
    yield _nodes(rows, phases, entries, experiment.nodes.count)
    if lines := list(_participation(shares(experiment, run.done, rows))):
        yield Text("\n".join(lines))
    if (table := events.terminal(store, run)) is not None:
        yield table
    if entries:
        traced = run.backend == "renode"
        yield energy.by_account(
            rows, phases, entries, experiment.energy, traced=traced, sampled=sampled
        )
    lines = [f"Wall time {run.seconds:.1f} s", f"Stored in {store.path} as run {run.id}"]
    if figure is not None:
        lines.append(f"Figure {figure}")
    yield Text("\n".join(lines))


def away(experiment: Experiment, done: int) -> Counter[int] | None:
    """By node, of how many of the rounds done it was away; None where none may be."""
    if not experiment.participation.leave:
        return None
    attendance = experiment.attendance
    return Counter(chain.from_iterable(map(attendance.away, range(done))))


def late(experiment: Experiment, rows: Iterable[NodeRound]) -> Counter[int] | None:
    """By node, how many of its updates were late; None where none may be."""
    if experiment.participation.deadline is None:
        return None
    return Counter(row.node for row in rows if row.late)


def diverged(rows: Iterable[NodeRound]) -> Counter[int] | None:
    """By node, in how many of its rounds training diverged; None where it did in none."""
    return Counter(row.node for row in rows if row.diverged) or None


def shares(
    experiment: Experiment, done: int, rows: Sequence[NodeRound]
) -> dict[str, tuple[int, int]]:
    """Rounds of a node in which it was "away", and updates that were "late", each of how many,
    neither where it may not be; and rounds of a node in which training "diverged", where any."""
    found: dict[str, tuple[Counter[int] | None, int]] = {
        "away": (away(experiment, done), done * experiment.nodes.count),
        "late": (late(experiment, rows), sum(not row.diverged for row in rows)),
        "diverged": (diverged(rows), len(rows)),
    }
    return {what: (there.total(), of) for what, (there, of) in found.items() if there is not None}


def _participation(found: dict[str, tuple[int, int]]) -> Iterator[str]:
    words = {
        "away": "Nodes were away in {:,} of {:,} rounds of a node ({:.0%})",
        "late": "{:,} of {:,} updates were late ({:.0%})",
        "diverged": "Training diverged, and is left out, in {:,} of {:,} rounds of a node ({:.0%})",
    }
    for what, (number, of) in found.items():
        yield words[what].format(number, of, number / max(1, of))


def _losses(found: list[LossOnUnseen], classes: bool) -> Table:
    devices = found[0].devices if found else 0
    what = "loss (accuracy)" if classes else "loss"
    table = Table(title=f"Mean {what} on {devices} unseen devices", title_justify="left")
    table.add_column("weights")
    columns = ["before adaptation", "after adaptation", "after ÷ start"]
    if diverged := any(row.diverged for row in found):
        columns.append("diverged")
    for column in columns:
        table.add_column(column, justify="right")
    for row in {row.round: row for row in (*found[:1], *found[-1:])}.values():
        name = "start of training" if row.round == 0 else f"after {row.round} rounds"
        before = _measured(row.before, row.accuracy_before, classes)
        after = _measured(row.after, row.accuracy_after, classes)
        ratio = row.after / found[0].after
        cells = [before, after, "–" if math.isnan(ratio) else f"{ratio:.2f}"]
        table.add_row(name, *cells, *([f"{row.diverged / row.devices:.0%}"] if diverged else []))
    return table


def _measured(loss: float, accuracy: float, classes: bool) -> str:
    if math.isnan(loss):
        return "diverged"
    return f"{loss:.3f} ({accuracy:.1%})" if classes else f"{loss:.3f}"


def _nodes(
    rows: list[NodeRound], phases: list[PhaseCount], entries: list[Entry], count: int
) -> Table:
    table = Table(title="Communication and computation in training", title_justify="left")
    table.add_column("node")
    for column in ("bytes down", "bytes up", "instructions", "mJ"):
        table.add_column(column, justify="right")

    def add(name: str, nodes: range) -> None:
        mine = [row for row in rows if row.node in nodes]
        executed, spent = "not counted", ""
        if any(row.counted for row in mine):
            executed = f"{sum(row.instructions for row in phases if row.node in nodes):,}"
            spent = f"{balance([one for one in entries if one.node in nodes]).joules * 1e3:,.2f}"
        down, up = sum(row.bytes_down for row in mine), sum(row.bytes_up for row in mine)
        table.add_row(name, f"{down:,}", f"{up:,}", executed, spent)

    for node in range(count if count <= MOST_NODES else 0):
        add(str(node), range(node, node + 1))
    table.add_section()
    add("all", range(count))
    return table


def run_list(store: Store) -> Table:
    """All runs, the oldest first."""
    table = Table()
    columns = ("run", "name", "strategy", "backend", "seed", "rounds", "loss after", "created")
    for column in columns:
        table.add_column(column, justify="right" if column in ("run", "seed", "rounds") else "left")
    for run in store.runs():
        experiment, last = settings(run), losses(store, run)[-1:]
        classes = experiment.task.target_is_class
        table.add_row(
            str(run.id),
            run.name,
            experiment.strategy.name,
            run.backend,
            str(run.seed),
            f"{run.done}/{run.rounds}",
            _measured(last[0].after, last[0].accuracy_after, classes) if last else "–",
            run.created,
        )
    return table
