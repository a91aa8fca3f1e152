"""What is said of a round when it is done and in the store."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from ..results.rows import DeviceEvaluation, Event, NodeRound


@dataclass
class RoundReport:
    """A round that is done, and in the store.

    Attributes:
        run: the number of the run in the store.
        number: of the round, from 1. rounds: how many there are.
        theta: float32 [parameters], the weights after it; read only.
        nodes: what each node did in it: bytes, whether it was late, whether it diverged.
        evaluations: of unseen devices after it; empty where none were judged.
        events: faults, restarts, repeated frames.
        seconds: wall time. has_classes: whether there is an accuracy.
        stopped: whether stop() was called.
    """

    run: int
    number: int
    rounds: int
    theta: NDArray[np.float32]
    nodes: Sequence[NodeRound]
    evaluations: Sequence[DeviceEvaluation]
    events: Sequence[Event]
    seconds: float
    has_classes: bool
    stopped: bool = field(default=False, init=False)

    @property
    def loss(self) -> float | None:
        """Mean loss on unseen devices after adaptation, of those where it did not diverge; None
        where none were judged after this round."""
        return _mean([one.loss_after for one in self.evaluations])

    @property
    def accuracy(self) -> float | None:
        """Mean accuracy of the same, 0 to 1; None also where there are no classes."""
        if not self.has_classes:
            return None
        return _mean([one.accuracy_after for one in self.evaluations])

    @property
    def bytes_down(self) -> int:
        """To all nodes together."""
        return sum(one.bytes_down for one in self.nodes)

    @property
    def bytes_up(self) -> int:
        """From all nodes together."""
        return sum(one.bytes_up for one in self.nodes)

    def stop(self) -> None:
        """Ends the run after this round; it can be resumed."""
        self.stopped = True


class LastJudged:
    """What was judged last, for a line of progress: called with each round's report, it is text."""

    def __init__(self) -> None:
        self._text = ""

    def __call__(self, report: RoundReport) -> None:
        if not report.evaluations:
            return
        if report.loss is None:
            self._text = ", diverged"
        elif report.accuracy is None:
            self._text = f", loss {report.loss:.3f}"
        else:
            self._text = f", loss {report.loss:.3f} ({report.accuracy:.1%})"

    def __str__(self) -> str:
        return self._text


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
