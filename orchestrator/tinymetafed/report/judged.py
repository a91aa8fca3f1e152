"""The evaluations of a run, as comparisons read them: on the way, and at the end."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..results.store import Run, Store
from ..tasks.base import Part
from .summary import MeanLosses, losses


@dataclass(frozen=True)
class Devices:
    """The devices that a run was judged by, ascending. numbers: int64 [devices]. The measures:
    float64 [devices], NaN where adaptation diverged."""

    numbers: NDArray[np.int64]
    loss_before: NDArray[np.float64]
    loss_after: NDArray[np.float64]
    accuracy_before: NDArray[np.float64]
    accuracy_after: NDArray[np.float64]


def curve(store: Store, run: Run) -> list[MeanLosses]:
    """Each evaluation while it trained, on devices for validation: for curves, and what was spent
    until a target."""
    return losses(store.learning(run.id))


def final(store: Store, run: Run) -> Devices:
    """The devices that tables are of: unseen ones, judged at its end; none where it has none."""
    return _devices(store, run, run.done, "unseen")


def first_and_last(store: Store, run: Run) -> tuple[Devices, Devices]:
    """The devices that were judged before training, of the first weights, and the same in the end,
    adapted in the same way. They are those for validation: unseen ones are judged at the end
    alone."""
    return _devices(store, run, 0, "validation"), _devices(store, run, run.done, "validation")


def _devices(store: Store, run: Run, done: int, part: Part) -> Devices:
    rows = [one for one in store.evaluations(run.id, done) if one.part == part]
    columns = np.array(
        [
            (one.loss_before, one.loss_after, one.accuracy_before, one.accuracy_after)
            for one in rows
        ],
        np.float64,
    ).reshape(-1, 4)
    return Devices(np.array([one.device for one in rows], np.int64), *columns.T)


def reached(judged: list[MeanLosses], target: float, *, classes: bool) -> int | None:
    """After how many rounds a curve was judged to be there for the first time: at the accuracy
    after adaptation where there are classes, else the loss."""
    there = (one.accuracy_after >= target if classes else one.after <= target for one in judged)
    return next((one.round for one, good in zip(judged, there, strict=True) if good), None)


def spread(judged: list[MeanLosses], *, classes: bool) -> float:
    """How much the curve moves at the end: the standard deviation (n − 1) of its points, mean
    accuracy after adaptation where there are classes, else loss, in the last fifth of the rounds.
    NaN where there are less than two, or one diverged."""
    start = 0.8 * max((one.round for one in judged), default=0)
    points = [
        one.accuracy_after if classes else one.after
        for one in judged
        if one.round and one.round >= start
    ]
    return float(np.std(points, ddof=1)) if len(points) > 1 else math.nan
