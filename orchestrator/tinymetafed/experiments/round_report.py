"""What is said of a round when it is done and in the store."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from ..results.rows import DeviceEvaluation, Event, NodeRound
from ..tasks.base import Part


@dataclass
class RoundReport:
    """A round that is done, and in the store.

    Attributes:
        run: the number of the run in the store.
        number: of the round, from 1. rounds: how many there are.
        theta: float32 [parameters], the weights after it; read only.
        nodes: what each node did in it: bytes, whether it was late, whether it diverged.
        evaluations: of devices after it, each with its part; empty where none were judged. Unseen
            ones are judged after the last round alone.
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
        """Mean loss on devices for validation after adaptation, of those where it did not diverge;
        None where none were judged after this round."""
        return self._mean("loss_after", "validation")

    @property
    def accuracy(self) -> float | None:
        """Mean accuracy of the same, 0 to 1; None also where there are no classes."""
        return self._mean("accuracy_after", "validation")

    @property
    def unseen_loss(self) -> float | None:
        """The same on unseen devices, which are judged after the last round; else None."""
        return self._mean("loss_after", "unseen")

    @property
    def unseen_accuracy(self) -> float | None:
        """Mean accuracy of the same, 0 to 1; None also where there are no classes."""
        return self._mean("accuracy_after", "unseen")

    def _mean(self, measure: str, part: Part) -> float | None:
        if measure.startswith("accuracy") and not self.has_classes:
            return None
        values = [getattr(one, measure) for one in self.evaluations if one.part == part]
        known = [value for value in values if value is not None]
        return fmean(known) if known else None

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
        part, loss, accuracy = "validation", report.loss, report.accuracy
        if report.evaluations[-1].part == "unseen":
            part, loss, accuracy = "unseen", report.unseen_loss, report.unseen_accuracy
        if loss is None:
            self._text = f", {part}: diverged"
        elif accuracy is None:
            self._text = f", {part}: loss {loss:.3f}"
        else:
            self._text = f", {part}: loss {loss:.3f} ({accuracy:.1%})"

    def __str__(self) -> str:
        return self._text
