"""What a program comes to: answers to its requests, and the entries that a node sends of its
update."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..link import Response, chunk, messages
from .answers import not_finite
from .packing import Frame, Piece, update_piece
from .transport import NodeLost


@dataclass(frozen=True)
class Evaluation:
    """Mean loss over the samples, and the share of right classes (0 where there are none)."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Outcome:
    """What a program came to.

    responses: of each primitive, those to its requests. indices, values: of the marked entries that
    were sent, int32 and float32 [k], ascending.
    """

    responses: tuple[tuple[Response, ...], ...]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]


def evaluation(outcome: Outcome, place: int) -> Evaluation:
    """What the `Evaluate` at a place of the program found."""
    loss = correct = samples = 0.0
    for response in outcome.responses[place]:
        assert isinstance(response, messages.Evaluated)
        loss += response.loss
        correct += response.correct
        samples += response.samples
    return Evaluation(loss / samples, correct / samples)


class Collected:
    """The marked entries of an update as they come, run by run."""

    def __init__(self, node: str, runs: Sequence[tuple[int, int]]) -> None:
        self._node = node
        self._runs = runs
        self._next = [first for first, _ in runs]  # of each run the first that is yet to come
        self._found: list[list[tuple[NDArray[np.int32], NDArray[np.float32]]]] = [[] for _ in runs]
        self._asked: list[int] | None = None  # the same, when the rest was asked for
        self._place: int | None = None  # of the program's `Send`
        self._left = 0

    def take(self, piece: Piece, response: Response) -> None:
        """What a request of the program was answered with. Raises NodeLost where it is nothing
        that the node can have come to, NodeRefused where a value is not finite."""
        if isinstance(response, messages.Selected):
            self._left = response.entries
        elif isinstance(response, messages.Evaluated):
            judged = sum(end - first for _, first, end in piece.samples)
            if response.samples != judged or response.correct > judged:
                raise NodeLost(
                    f"{self._node} judged {response.samples} samples, {response.correct} of them "
                    f"right, where it was sent {judged}"
                )
        elif isinstance(response, messages.Updated):
            assert piece.run is not None
            self._place, run = piece.place, piece.run
            first, end = self._next[run], self._runs[run][1]
            where, what, count = entries_of(self._node, response, first, end)
            if len(what) == count:  # dense: zeros stand for what is not marked
                sent = what != 0
                where, what = where[sent], what[sent]
            self._found[run].append((where, what))
            self._left -= len(what)
            self._next[run] = first + count
            if self._left < 0:
                raise self._wrong()

    def rest(self) -> Frame:
        """The frame that asks for what has not come yet; empty where there is nothing."""
        if self._place is None or self._left == 0:
            return ()
        open_runs = [
            update_piece(self._place, run, self._next[run], end)
            for run, (_, end) in enumerate(self._runs)
            if self._next[run] < end
        ]
        if not open_runs or self._next == self._asked:
            raise self._wrong()
        self._asked = list(self._next)
        return tuple(open_runs[: messages.MOST_REQUESTS])

    def entries(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """All of them, ascending."""
        found = [pair for run in self._found for pair in run]
        if len(found) == 1:
            return found[0]
        nothing = (np.empty(0, np.int32), np.empty(0, np.float32))
        indices, values = zip(nothing, *found, strict=True)
        return np.concatenate(indices), np.concatenate(values)

    def _wrong(self) -> NodeLost:
        return NodeLost(f"{self._node} sent another number of entries than it had marked")


def entries_of(
    node: str, response: Response, first: int, end: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], int]:
    """What an `updated` has from `first` on: indices, values, and entries that these are of.

    Raises NodeLost where it is another part than was asked for, NodeRefused where a value is not
    finite.
    """
    assert isinstance(response, messages.Updated)
    piece = response.chunk
    if piece.first != first or piece.count > end - first:
        raise NodeLost(f"{node} sent another part of its update than asked for")
    try:
        where, what = chunk.decode(piece)
    except chunk.ChunkError as error:
        raise NodeLost(f"{node} sent a part of its update: {error}") from None
    if not np.isfinite(what).all():
        raise not_finite(node, "update")
    return where, what, piece.count
