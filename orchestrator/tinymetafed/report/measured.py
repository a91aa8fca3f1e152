"""What one run of a comparison came to, as quantities with names."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..energy.settings import DeviceName, RadioName
from ..experiments.experiment import Experiment
from ..results import bootstrap
from ..results.store import Run, Store
from . import described, summary
from .energy import uncounted_rounds
from .judged import Devices, curve, final, first_and_last, reached, spread
from .summary import MeanLosses

FIRST_WEIGHTS = "the first weights"
"""What stands for no federation where none of the strategies is `local`."""
PLAIN: tuple[str, str] = "", ""
"""Device and radio of a quantity that is not energy."""
UNCOUNTED = "rounds of a node not counted"
SHARES = {
    "away": "share of node rounds away",
    "late": "share of updates late",
    "diverged": "share of node rounds diverged",
    "left out": "share of node rounds left out",
    "adaptation diverged": "share of devices whose adaptation diverged",
}
"""Quantities where nodes may be so."""
WORSE = "share of devices worse than no federation"
SPREAD = "spread of the last fifth"
ROUNDS_UNTIL, BYTES_UNTIL, JOULES_UNTIL = (
    f"{what} until target" for what in ("rounds", "bytes", "joules")
)
UNTIL = (ROUNDS_UNTIL, BYTES_UNTIL, JOULES_UNTIL)
WORST = {
    "loss of the worst tenth": bootstrap.highest_tenth,
    "accuracy of the worst tenth": bootstrap.lowest_tenth,
}
"""Quantities that are no mean of the devices; none where adaptation diverged on any of them, since
that one is among the worst, with a loss that has no bound."""

BY_DEVICE = {
    *(f"{name} {when} adaptation" for name in ("loss", "accuracy") for when in ("before", "after")),
    *WORST,
    WORSE,
}
"""Quantities that each device of a run has a part in."""

FRACTIONS = {*SHARES.values(), WORSE, *(name for name in BY_DEVICE if name.startswith("accuracy"))}
"""Quantities that are at most 1."""

Key = tuple[str, str, str]
"""Device, radio and quantity."""


@dataclass(frozen=True)
class Figure:
    """censored: the run ended without reaching the target, so that it takes more than this."""

    value: float
    censored: bool = False


@dataclass(frozen=True)
class Measured:
    """One run.

    curve: its evaluations while it trained. final: the devices that tables are of. by_device: of
    each quantity that is their mean, or one of WORST, float64 [devices], NaN where adaptation
    diverged. figures: of all quantities that it has.
    """

    experiment: Experiment
    curve: list[MeanLosses]
    final: Devices
    by_device: dict[str, NDArray[np.float64]]
    figures: dict[Key, Figure]


def same_devices(one: Measured, other: Measured) -> bool:
    """Whether both are judged by the same devices, and these by the same samples."""

    def of(run: Measured) -> tuple[object, ...]:
        known = run.experiment
        judged = known.evaluation.model_dump(exclude={"every", "steps"})
        return known.seed, known.task, known.devices.seen, judged, run.final.numbers.tolist()

    return of(one) == of(other)


def ends(quantity: str) -> tuple[float, float]:
    """The least and the most that it can be. All are of what is counted, spent or lost, so that
    none is below 0."""
    return 0.0, 1.0 if quantity in FRACTIONS else math.inf


def statistic(quantity: str) -> bootstrap.Statistic:
    """How the devices' values make the run's."""
    return WORST.get(quantity, bootstrap.mean)


def measure(
    store: Store,
    run: Run,
    experiment: Experiment,
    target: float | None,
    devices: Sequence[DeviceName],
    radios: Sequence[RadioName],
) -> Measured:
    """A finished run. target: of accuracy after adaptation where there are classes, else of loss.
    devices, radios: to price it for. Raises TinyMetaFedError where a device's core was not priced
    when the run was made."""
    judged, last = curve(store, run), final(store, run)
    by_device = {
        "loss before adaptation": last.loss_before,
        "loss after adaptation": last.loss_after,
        "loss of the worst tenth": last.loss_after,
    }
    if experiment.task.target_is_class:
        by_device |= {
            "accuracy before adaptation": last.accuracy_before,
            "accuracy after adaptation": last.accuracy_after,
            "accuracy of the worst tenth": last.accuracy_after,
        }
    if not len(last.numbers):  # evaluation.unseen is 0
        by_device.clear()
    classes = experiment.task.target_is_class
    totals, moved = store.node_totals(run.id), store.bytes_by_round(run.id)
    found: dict[str, float] = {name: _over(name, values) for name, values in by_device.items()}
    if diverged := float(np.isnan(last.loss_after).sum()):
        found[SHARES["adaptation diverged"]] = diverged / len(last.numbers)
    found |= {
        SPREAD: spread(judged, classes=classes),
        "rounds": run.done,
        "bytes": sum(n for _, n in moved),
        "bytes down": sum(one.bytes_down for one in totals),
        "bytes up": sum(one.bytes_up for one in totals),
        "memory": run.memory,
    }
    there = summary.shares(experiment, run.done, totals, store.event_counts(run.id))
    found |= {SHARES[what]: number / max(1, of) for what, (number, of) in there.items()}
    figures: dict[Key, Figure] = {(*PLAIN, name): Figure(value) for name, value in found.items()}
    there_by = None if target is None else reached(judged, target, classes=classes)
    until, censored = (run.done, True) if there_by is None else (there_by, False)
    if target is not None:
        figures[*PLAIN, ROUNDS_UNTIL] = Figure(until, censored)
        bytes_until = sum(n for number, n in moved if number <= until)
        figures[*PLAIN, BYTES_UNTIL] = Figure(bytes_until, censored)
    known = described.of(experiment)
    uncounted = uncounted_rounds(totals, known.counts, sampled=known.sampled)
    for one, other in itertools.product(devices, radios):
        where = str(one), str(other)
        changes = {"device": one, "radio": other}
        priced = [(nodes, was.model_copy(update=changes)) for nodes, was in experiment.priced]
        spent = known.account(store, run, priced).spent()
        if spent is None:
            continue
        figures[*where, UNCOUNTED] = Figure(uncounted)
        figures[*where, "joules"] = Figure(spent.balance().joules)
        for account in spent.accounts:
            figures[*where, f"joules {account}"] = Figure(spent.balance(account).joules)
        if target is not None:
            figures[*where, JOULES_UNTIL] = Figure(float(spent.by_round[until]), censored)
    figures = {key: one for key, one in figures.items() if not math.isnan(one.value)}
    return Measured(experiment, judged, last, by_device, figures)


def _over(quantity: str, values: NDArray[np.float64]) -> float:
    """Over the devices that did not diverge; NaN where there are none, or it is one of WORST and
    any did."""
    there = values[~np.isnan(values)]
    if len(there) == 0 or (quantity in WORST and len(there) < len(values)):
        return math.nan
    return bootstrap.at(statistic(quantity), there)


def against_no_federation(store: Store, run: Run, one: Measured, alone: Measured | None) -> None:
    """Adds the share of devices that the run serves worse than no federation does, by accuracy
    after adaptation where there are classes, else by loss: than the run `alone` of the strategy
    `local`, or, where there is None, than the first weights, adapted in the same way, of the
    devices for validation, which were judged before training too. What diverged is worse than what
    did not. Nothing is added where devices are not the same."""
    if alone is None:
        other, mine = first_and_last(store, run)
    elif same_devices(one, alone):
        other, mine = alone.final, one.final
    else:
        return
    if len(mine.numbers) == 0 or not np.array_equal(mine.numbers, other.numbers):
        return
    if one.experiment.task.target_is_class:
        worse = mine.accuracy_after < other.accuracy_after
    else:
        worse = mine.loss_after > other.loss_after
    worse |= np.isnan(mine.loss_after) & ~np.isnan(other.loss_after)
    one.by_device[WORSE] = worse.astype(np.float64)
    one.figures[*PLAIN, WORSE] = Figure(float(worse.mean()))
