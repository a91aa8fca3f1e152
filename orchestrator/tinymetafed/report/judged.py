"""The evaluations of a run, as comparisons read them: on the way, and at the end."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..results.store import Run, Store
from .summary import LossOnUnseen, losses


@dataclass(frozen=True)
class Devices:
    """The devices that a run was judged by, ascending. numbers: int64 [devices]. The measures:
    float64 [devices], NaN where adaptation diverged."""

    numbers: NDArray[np.int64]
    loss_before: NDArray[np.float64]
    loss_after: NDArray[np.float64]
    accuracy_before: NDArray[np.float64]
    accuracy_after: NDArray[np.float64]


def curve(store: Store, run: Run) -> list[LossOnUnseen]:
    """Each evaluation while it trained, for curves and what was spent until a target."""
    return losses(store, run)


def final(store: Store, run: Run) -> Devices:
    """The devices that tables are of, judged at its end."""
    return _devices(store, run, run.done)


def first_and_last(store: Store, run: Run) -> tuple[Devices, Devices]:
    """The devices that were judged before training, of the first weights, and the same in the end,
    adapted in the same way."""
    first = _devices(store, run, 0)
    return first, _devices(store, run, run.done, first.numbers)


def _devices(store: Store, run: Run, done: int, only: NDArray[np.int64] | None = None) -> Devices:
    rows = store.evaluations(run.id, done)
    if only is not None:
        there = set(only.tolist())
        rows = [one for one in rows if one.device in there]
    columns = np.array(
        [
            (one.loss_before, one.loss_after, one.accuracy_before, one.accuracy_after)
            for one in rows
        ],
        np.float64,
    ).reshape(-1, 4)
    return Devices(np.array([one.device for one in rows], np.int64), *columns.T)


def spread(judged: list[LossOnUnseen], *, classes: bool) -> float:
    """How much the curve moves at the end: the standard deviation (n − 1) of its points, mean
    accuracy after adaptation where there are classes, else loss, in the last fifth of the rounds.
    NaN where there are less than two, or one diverged."""
    start = 0.8 * judged[-1].round
    points = [
        one.accuracy_after if classes else one.after
        for one in judged
        if one.round and one.round >= start
    ]
    return float(np.std(points, ddof=1)) if len(points) > 1 else math.nan
