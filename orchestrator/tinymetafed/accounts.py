"""From the store's rows to the ledger."""

import json
from collections.abc import Iterable, Sequence

from .energy import ledger, power
from .errors import TinyMetaFedError
from .experiment import EnergySettings
from .store import NodeRound, PhaseCount


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
