"""From the store's rows to the ledger."""

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from .energy import ledger, power
from .errors import TinyMetaFedError
from .experiment import EnergySettings, NodeSettings
from .store import NodeRound, PhaseCount, Store


def executed(
    store: Store, run: int, settings: NodeSettings
) -> tuple[list[NodeRound], list[PhaseCount]]:
    """What the nodes of a run did, and what they executed; extrapolated where a sample of its
    rounds was emulated."""
    rows, phases = store.node_rounds(run), store.phases(run)
    return extrapolate(rows, phases) if settings.emulate else (rows, phases)


def extrapolate(
    rows: Sequence[NodeRound], phases: Iterable[PhaseCount]
) -> tuple[list[NodeRound], list[PhaseCount]]:
    """The rows of a run of which a sample was emulated, as if all of it had been: a node executes
    in a round that was not emulated the mean of those that were. Where none was, as they are."""
    phases = list(phases)
    counted = sum(row.counted for row in rows)
    if not counted:
        return list(rows), phases
    by_phase: dict[str, list[PhaseCount]] = defaultdict(list)
    for row in phases:
        by_phase[row.phase].append(row)
    means = [_mean(found, counted) for found in by_phase.values()]
    filled = phases + [
        dataclasses.replace(mean, round=row.round, node=row.node)
        for row in rows
        if not row.counted
        for mean in means
    ]
    return [dataclasses.replace(row, counted=True) for row in rows], filled


def _mean(rows: Sequence[PhaseCount], count: int) -> PhaseCount:
    """The sum of a phase's rows divided by `count`."""
    classes: Counter[str] = Counter()
    cycles: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for row in rows:
        classes.update(json.loads(row.classes))
        for core, figures in json.loads(row.cycles).items():
            cycles[core].append(figures)
    return dataclasses.replace(
        rows[0],
        instructions=round(sum(row.instructions for row in rows) / count),
        classes=json.dumps({name: round(number / count) for name, number in classes.items()}),
        cycles=json.dumps(
            {
                core: [round(sum(column) / count) for column in zip(*found, strict=True)]
                for core, found in cycles.items()
            }
        ),
    )


def book(
    rows: Sequence[NodeRound],
    phases: Iterable[PhaseCount],
    settings: EnergySettings,
    nodes: int,
) -> list[ledger.Entry]:
    """The ledger of what `nodes` nodes did; empty where nothing was counted.

    Raises TinyMetaFedError where the device's core was not priced when the rows were made.
    """
    device, radio = power.device(settings.device), power.radio(settings.radio)
    counted = [row for row in rows if row.counted]
    if not counted:
        return []
    cycles: dict[tuple[int, int], dict[str, tuple[int, int, int]]] = {}
    for row in phases:
        by_core = json.loads(row.cycles)
        if device.core not in by_core:
            raise TinyMetaFedError(
                f"{settings.device}: the run has no cycles of its core, {device.core}, only of "
                f"{', '.join(by_core)}; run the experiment again"
            )
        cycles.setdefault((row.round, row.node), {})[row.phase] = tuple(by_core[device.core])
    work = [
        ledger.Work(
            row.round, row.node, cycles.get((row.round, row.node)) if row.counted else None,
            row.bytes_down, row.bytes_up,
        )
        for row in rows
    ]  # fmt: skip
    return ledger.book(work, device, radio, nodes, settings.interval)
