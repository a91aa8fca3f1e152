"""What a run came to, as tables for the terminal."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..errors import TinyMetaFedError, visible
from ..experiments import extension
from ..experiments.experiment import Experiment
from ..results.schema import WITH_VALIDATION
from ..results.spending import Spent
from ..results.store import Judged, NodeTotal, Run, Store
from ..tasks.base import Part
from . import energy, events
from .classes import worst_classes
from .described import Description, describe, raw

MOST_NODES = 16  # with a line of their own


@dataclass(frozen=True)
class MeanLosses:
    """Mean over the devices of a part, before and after few-shot adaptation; accuracy is that too,
    and 0 where the task has no classes. diverged: devices whose adaptation did, which are in no
    mean; NaN where it did on all."""

    round: int
    devices: int
    diverged: int
    before: float
    after: float
    accuracy_before: float
    accuracy_after: float
    part: Part


def losses(judged: Iterable[Judged]) -> list[MeanLosses]:
    """Of evaluations, as Store.judged and Store.learning have them."""
    return [
        MeanLosses(
            one.round, one.devices, one.diverged,
            *(math.nan if mean is None else mean for mean in (
                one.loss_before, one.loss_after, one.accuracy_before, one.accuracy_after,
            )),
            part=one.part,
        )
        for one in judged
    ]  # fmt: skip


def summary(store: Store, run: Run, figure: Path | None) -> Iterator[RenderableType]:
    """The tables, in the order in which they are printed. Where this version cannot read the run's
    settings, these as they are stored."""
    known = describe(store, run)
    experiment = known.experiment
    yield Text.assemble(
        (f"Run {run.id} · {run.name}", "bold"),
        f"\n{known.strategy} on {known.task}, seed {run.seed}, "
        f"{known.count} {run.backend} nodes, {run.done} of {run.rounds} rounds",
    )
    labels = store.labels_of(run.id)
    if labels.tags:
        yield Text(f"Tags: {', '.join(labels.tags)}")
    if labels.note:
        yield Text("\n".join(map(visible, labels.note.splitlines())))
    if added := extension.note(store.extensions(run.id), run.rounds, experiment):
        yield Text(added)
    judged = losses(store.judged(run.id))
    if told := unvalidated(run):
        yield Text(told)
    yield _losses(judged, known.classes(judged))
    if (by_class := worst_classes(store.class_counts(run.id, run.done))) is not None:
        yield by_class
    totals, spent = store.node_totals(run.id), known.account(store, run).spent()
    yield _nodes(totals, spent, known)
    left_out = {} if experiment is None else store.event_counts(run.id)
    found = {} if experiment is None else shares(experiment, run.done, totals, left_out)
    if lines := list(_participation(found)):
        yield Text("\n".join(lines))
    if (table := events.terminal(store, run)) is not None:
        yield table
    if experiment is not None and experiment.nodes.groups:
        yield energy.by_group(experiment.nodes.fleet, experiment.priced, totals, spent)
    if known.priced is not None and spent is not None and spent.accounts:
        uncounted = energy.Uncounted.of(store, run, totals, known.counts, sampled=known.sampled)
        yield energy.by_account(
            spent, uncounted, known.priced, traced=run.traced, sampled=known.sampled
        )
    if known.problem is not None:
        yield Text(f"{known.problem}. They are:\n{raw(run)}")
    lines = [f"Wall time {run.seconds:.1f} s", f"Stored in {store.path} as run {run.id}"]
    if figure is not None:
        lines.append(f"Figure {figure}")
    yield Text("\n".join(lines))


def unvalidated(run: Run) -> str | None:
    """What has to be known of a run without devices for validation; None of others."""
    if run.schema >= WITH_VALIDATION:
        return None
    return (
        f"Begun with {run.made_by}, which had no devices for validation: its curve is that of "
        "unseen devices."
    )


def away(experiment: Experiment, done: int) -> Counter[int] | None:
    """By node, of how many of the rounds done it was away; None where none may be."""
    if not experiment.participation.leave:
        return None
    attendance = experiment.attendance
    return Counter(chain.from_iterable(map(attendance.away, range(done))))


def late(experiment: Experiment, totals: Iterable[NodeTotal]) -> Counter[int] | None:
    """By node, how many of its updates were late; None where none may be."""
    if experiment.participation.deadline is None:
        return None
    return Counter({one.node: one.late for one in totals})


def diverged(totals: Iterable[NodeTotal]) -> Counter[int] | None:
    """By node, in how many of its rounds training diverged; None where it did in none."""
    found = Counter({one.node: one.diverged for one in totals if one.diverged})
    return found or None


def shares(
    experiment: Experiment,
    done: int,
    totals: Sequence[NodeTotal],
    events: Mapping[tuple[str, int], int],
) -> dict[str, tuple[int, int]]:
    """Rounds of a node in which it was "away", and updates that were "late", each of how many,
    neither where it may not be; and rounds of a node in which training "diverged", and in which it
    was "left out" since its link was too noisy, where any. events: by kind and node."""
    rounds = sum(one.rounds for one in totals)
    left_out = Counter({node: n for (kind, node), n in events.items() if kind == "left out"})
    updates = rounds - sum(one.diverged for one in totals) - left_out.total()
    found: dict[str, tuple[Counter[int] | None, int]] = {
        "away": (away(experiment, done), done * experiment.nodes.count),
        "late": (late(experiment, totals), updates),
        "diverged": (diverged(totals), rounds),
        "left out": (left_out or None, rounds),
    }
    return {what: (there.total(), of) for what, (there, of) in found.items() if there is not None}


def _participation(found: dict[str, tuple[int, int]]) -> Iterator[str]:
    words = {
        "away": "Nodes were away in {:,} of {:,} rounds of a node ({:.0%})",
        "late": "{:,} of {:,} updates were late ({:.0%})",
        "diverged": "Training diverged, and is left out, in {:,} of {:,} rounds of a node ({:.0%})",
        "left out": "Links were too noisy, and nodes left out, in {:,} of {:,} rounds of a node "
        "({:.0%})",
    }
    for what, (number, of) in found.items():
        yield words[what].format(number, of, number / max(1, of))


def _losses(found: list[MeanLosses], classes: bool) -> Table:
    what = "loss (accuracy)" if classes else "loss"
    table = Table(title=f"Mean {what} before and after adaptation", title_justify="left")
    table.add_column("devices")
    table.add_column("weights")
    columns = ["before", "after", "÷ start"]
    if diverged := any(row.diverged for row in found):
        columns.append("diverged")
    for column in columns:
        table.add_column(column, justify="right")
    for part in ("validation", "unseen"):
        mine = [row for row in found if row.part == part]
        start = next((row.after for row in mine if row.round == 0), math.nan)
        for row in {row.round: row for row in (*mine[:1], *mine[-1:])}.values():
            name = "at the start" if row.round == 0 else f"after {row.round} rounds"
            before = _measured(row.before, row.accuracy_before, classes)
            after = _measured(row.after, row.accuracy_after, classes)
            ratio = row.after / start if start else math.nan  # nothing is a share of zero
            cells = [before, after, "–" if math.isnan(ratio) else f"{ratio:.2f}"]
            if diverged:
                cells.append(f"{row.diverged / row.devices:.0%}")
            table.add_row(f"{row.devices} {part}", name, *cells)
    return table


def _measured(loss: float, accuracy: float, classes: bool) -> str:
    if math.isnan(loss):
        return "diverged"
    return f"{loss:.3f} ({accuracy:.1%})" if classes else f"{loss:.3f}"


def _nodes(totals: Sequence[NodeTotal], spent: Spent | None, known: Description) -> Table:
    table = Table(title="Communication and computation in training", title_justify="left")
    table.add_column("node")
    for column in ("bytes down", "bytes up", "instructions", "mJ"):
        table.add_column(column, justify="right")
    by_node = {one.node: one for one in totals}

    def add(name: str, node: int | None) -> None:
        mine = totals if node is None else [by_node[node]] if node in by_node else []
        executed, joules = "not counted", ""
        if spent is not None and (known.sampled or any(one.counted for one in mine)):
            nodes = slice(None) if node is None else node
            executed = f"{spent.instructions[nodes].sum():,}"
            if spent.accounts:
                joules = f"{spent.balance(node=node).joules * 1e3:,.2f}"
        down, up = sum(one.bytes_down for one in mine), sum(one.bytes_up for one in mine)
        table.add_row(name, f"{down:,}", f"{up:,}", executed, joules)

    for node in range(known.count if known.count <= MOST_NODES else 0):
        add(str(node), node)
    table.add_section()
    add("all", None)
    return table


def run_list(store: Store, runs: Sequence[Run]) -> tuple[Table, list[str]]:
    """A line for each run; and what of them cannot be shown. Raises TinyMetaFedError."""
    table = Table()
    columns = ["run", "name", "strategy", "backend", "seed", "rounds", "loss after", "created"]
    tags = {run.id: " ".join(store.labels_of(run.id).tags) for run in runs}
    if any(tags.values()):
        columns.insert(2, "tags")
    for column in columns:
        table.add_column(column, justify="right" if column in ("run", "seed", "rounds") else "left")
    problems: list[str] = []
    for run in runs:
        known = describe(store, run)
        loss = "–"
        try:
            if last := losses(store.judged(run.id, last=True)):
                loss = _measured(last[0].after, last[0].accuracy_after, known.classes(last))
                loss += " validation" * (last[0].part == "validation")
        except TinyMetaFedError as error:
            problems.append(str(error))
        if known.problem is not None:
            problems.append(known.problem)
        tagged = [tags[run.id]] if "tags" in columns else []
        added = "".join(f" (was {after})" for after in store.extensions(run.id)[-1:])
        rounds = f"{run.done}/{run.rounds}{added}"
        cells = (run.name, *tagged, known.strategy, run.backend, str(run.seed), rounds)
        table.add_row(str(run.id), *map(escape, cells), loss, escape(run.created))
    return table, problems
