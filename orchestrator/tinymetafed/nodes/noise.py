"""Noise on the link of a node: bytes are flipped or lost, frames are lost, doubled or reordered.

Nothing of it depends on time. What becomes of a frame is a function of the seed, the node, the
direction, the round, and how many frames have gone that way in the round.
"""

from collections.abc import Sequence

import numpy as np

from ..link.frame import LONGEST
from .settings import Direction, LinkNoise

_NONE = LinkNoise()


class Noise:
    """What becomes of the frames of one node. They are disturbed in rounds only: what boots a node
    before the first of them, or judges it, is not.

    Attributes:
        spoiled: frames that did not arrive as they were sent, once and in their order.
        heard: the last frame for the node arrived, so that it will answer.
    """

    def __init__(self, links: Sequence[LinkNoise], node: int, seed: int) -> None:
        """links: of which those count that name the node."""
        self.spoiled = 0
        self.heard = True
        self._rates: dict[Direction, LinkNoise] = {"down": _NONE, "up": _NONE}
        for one in links:
            if one.nodes is None or node in one.nodes:
                self._rates |= dict.fromkeys(one.directions, one)
        self._seed = (seed, 0x_FA017, node)
        self._round: int | None = None
        self._frames: dict[Direction, int] = {}
        self._cut = False  # the end of a frame did not arrive at the node, which waits for it
        self._overtaken = b""  # a frame for the node that its own repetition overtakes
        self._held = b""  # a frame from the node that the next one overtakes
        self._partial = b""  # the begin of a frame from the node

    def begin(self, number: int | None) -> None:
        """A round begins, or none: what is still held back is lost."""
        self._round, self._frames = number, {}
        self._overtaken, self._held = b"", b""

    def booted(self) -> None:
        """The node knows nothing of what came before."""
        self._cut, self._partial = False, b""

    def down(self, frame: bytes) -> list[bytes]:
        """What arrives at the node: pieces to send one by one, each after the answer to the one
        before.

        Only its own repetition overtakes a frame. Where the exchange has gone on, the frame is lost
        instead: one frame is under way at a time, so that no link has another to put before it.
        """
        if self._round is None:
            self.heard = True
            return [frame]
        was_overtaken, self._overtaken = self._overtaken == frame, b""
        arriving, reordered = self._arriving("down", frame)
        if reordered:
            arriving, self._overtaken = [], frame
        self.heard = arriving[:1] == [frame] and not self._cut
        if self.heard and was_overtaken:
            arriving.append(frame)
        for piece in arriving:
            self._cut = not piece.endswith(b"\0")
        return arriving

    def up(self, data: bytes) -> bytes:
        """What arrives of the bytes that the node has sent; nothing until a frame is whole."""
        data, self._partial = self._partial + data, b""
        if self._round is None or len(data) > LONGEST:  # no frame is: it is passed on as it is
            return data
        *frames, self._partial = data.split(b"\0")
        arrived = b""
        for frame in frames:
            if not frame:
                continue
            arriving, reordered = self._arriving("up", frame + b"\0")
            held, self._held = self._held, b""
            if reordered:
                arriving, self._held = [], frame + b"\0"
            arrived += b"".join(arriving) + held
        return arrived

    def _arriving(self, direction: Direction, frame: bytes) -> tuple[list[bytes], bool]:
        """The copies of a frame that arrive, none of them empty; and whether it is reordered."""
        rates, number = self._rates[direction], self._frames.get(direction, 0)
        self._frames[direction] = number + 1
        assert self._round is not None
        way = ("down", "up").index(direction)
        rng = np.random.default_rng((*self._seed, way, self._round, number))
        lost, doubled, reordered = np.cumsum(
            (rates.lost_frames, rates.doubled_frames, rates.reordered_frames)
        )
        fate, spoilt = rng.random(), _spoil(frame, rates, rng)
        arriving = [spoilt] * (0 if fate < lost or not spoilt else 2 if fate < doubled else 1)
        is_reordered = bool(doubled <= fate < reordered)
        self.spoiled += is_reordered or arriving != [frame]
        return arriving, is_reordered


def _spoil(frame: bytes, rates: LinkNoise, rng: np.random.Generator) -> bytes:
    """With some of its bytes lost, and a bit of others flipped."""
    if not rates.lost_bytes and not rates.flipped_bytes:
        return frame
    values = np.frombuffer(frame, np.uint8)
    fate, bits = rng.random(len(values)), rng.integers(8, size=len(values), dtype=np.uint8)
    flipped = fate < rates.lost_bytes + rates.flipped_bytes
    spoilt = values ^ np.where(flipped, np.left_shift(np.uint8(1), bits), np.uint8(0))
    return spoilt[fate >= rates.lost_bytes].tobytes()
