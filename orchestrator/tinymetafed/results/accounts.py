"""From a few rounds' rows to the ledger; from a whole run's: spending.py."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence

from pydantic_core import from_json

from ..energy import ledger, power
from ..energy.settings import EnergySettings, Priced
from ..errors import TinyMetaFedError
from .profiles import PhaseCount
from .rows import NodeRound

COMPUTING = ("reconstruct", "learn", "select")
"""Phases that execute the same each time; others depend on how an emulated link's bytes come."""


def book(
    rows: Sequence[NodeRound],
    phases: Sequence[PhaseCount],
    priced: Priced,
    away: Callable[[int], Collection[int]] = lambda done: (),
) -> list[ledger.Entry]:
    """The ledger of what the nodes did that are priced; empty where nothing was counted.

    away: of the round after so many rounds, the nodes that are not there.

    Raises TinyMetaFedError where a device's core was not priced when the rows were made.
    """
    if not any(row.counted for row in rows):
        return []
    nodes: dict[int, tuple[power.Device, power.BitRadio | power.LoRaRadio]] = {}
    work: list[ledger.Work] = []
    for group, settings in priced:
        nodes |= dict.fromkeys(group, (power.device(settings.device), power.radio(settings.radio)))
        mine = [row for row in rows if row.node in group]
        work += _work(mine, (row for row in phases if row.node in group), settings)
    interval = max(settings.interval for _, settings in priced)
    return ledger.book(work, nodes, interval, lambda number: away(number - 1))


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


def _three(figures: Sequence[int]) -> tuple[int, int, int]:
    shortest, expected, longest = figures
    return shortest, expected, longest


def _work(
    rows: Sequence[NodeRound], phases: Iterable[PhaseCount], settings: EnergySettings
) -> list[ledger.Work]:
    device = power.device(settings.device)
    cycles: dict[tuple[int, int], dict[str, tuple[int, int, int]]] = {}
    for row in phases:
        if device.core not in row.cycles:
            raise TinyMetaFedError(
                f"{settings.device}: the run has no cycles of its core, {device.core}, only of "
                f"{', '.join(row.cycles)}; run the experiment again"
            )
        cycles.setdefault((row.round, row.node), {})[row.phase] = _three(row.cycles[device.core])
    return [
        ledger.Work(
            row.round, row.node, cycles.get((row.round, row.node)) if row.counted else None,
            *from_json(row.frames),
        )
        for row in rows
    ]  # fmt: skip
