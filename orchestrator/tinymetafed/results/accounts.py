"""From the store's rows to the ledger."""

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

from pydantic_core import from_json

from ..energy import ledger, power
from ..energy.settings import EnergySettings
from ..errors import TinyMetaFedError
from ..nodes.settings import NodeSettings
from .store import NodeRound, PhaseCount, Store

COMPUTING = ("reconstruct", "learn", "select")
"""Phases that execute the same each time; others depend on how an emulated link's bytes come."""


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
    away: Callable[[int], Collection[int]] = lambda done: (),
) -> list[ledger.Entry]:
    """The ledger of what `nodes` nodes did; empty where nothing was counted.

    away: of the round after so many rounds, the nodes that are not there.

    Raises TinyMetaFedError where the device's core was not priced when the rows were made.
    """
    device, radio = power.device(settings.device), power.radio(settings.radio)
    if not any(row.counted for row in rows):
        return []

    work = _work(rows, phases, settings)
    return ledger.book(
        work, device, radio, nodes, settings.interval, lambda number: away(number - 1)
    )


def durations(
    rows: Sequence[NodeRound],
    phases: Iterable[PhaseCount],
    settings: EnergySettings,
    slowness: Sequence[float],
) -> list[float | None]:
    """Seconds that each of the nodes takes for its round; None where it was not counted.

    By the expected reading: its computing, which takes it as many times as long as `slowness`, by
    node, says; and its radio. So two runs come to the same.
    """
    device, radio = power.device(settings.device), power.radio(settings.radio)

    def duration(row: NodeRound, work: ledger.Work) -> float | None:
        if work.cycles is None:
            return None
        cycles = {phase: n for phase, n in work.cycles.items() if phase in COMPUTING}
        only = dataclasses.replace(work, cycles=cycles)
        return sum(
            entry.seconds * (slowness[row.node] if entry.account in COMPUTING else 1.0)
            for entry in ledger.awake(only, device, radio)
        )

    return [duration(*pair) for pair in zip(rows, _work(rows, phases, settings), strict=True)]


def _work(
    rows: Sequence[NodeRound], phases: Iterable[PhaseCount], settings: EnergySettings
) -> list[ledger.Work]:
    device = power.device(settings.device)
    cycles: dict[tuple[int, int], dict[str, tuple[int, int, int]]] = {}
    for row in phases:
        by_core = from_json(row.cycles)
        if device.core not in by_core:
            raise TinyMetaFedError(
                f"{settings.device}: the run has no cycles of its core, {device.core}, only of "
                f"{', '.join(by_core)}; run the experiment again"
            )
        cycles.setdefault((row.round, row.node), {})[row.phase] = tuple(by_core[device.core])
    return [
        ledger.Work(
            row.round, row.node, cycles.get((row.round, row.node)) if row.counted else None,
            *from_json(row.frames),
        )
        for row in rows
    ]  # fmt: skip
