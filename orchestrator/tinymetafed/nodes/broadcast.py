"""Weights on their way to the nodes."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..link import chunk, messages

CHUNK_OVERHEAD = 48
"""Bytes of a frame's CBOR around the data of one chunk or the samples of one request, at most:
seven heads of up to five bytes, and what the lists take."""


@dataclass(frozen=True)
class Broadcast:
    """Weights that nodes are to be brought to.

    theta: float32 [parameters]. changed: int64 [parameters], the version in which an entry last
    changed. version: of theta, from 1 on.
    """

    theta: NDArray[np.float32]
    changed: NDArray[np.int64]
    version: int
    _pieces: dict[tuple[int, int], tuple[chunk.Chunk, ...]] = field(
        default_factory=dict, repr=False
    )
    _requests: dict[tuple[int, int], tuple[bytes, ...]] = field(default_factory=dict, repr=False)

    def base(self, held: int) -> int:
        """The version that a node which holds `held` is lifted from; 0 where it is sent
        everything, as one is that holds nothing, or something newer."""
        return held if held <= self.version else 0

    def requests(self, held: int, capacity: int) -> tuple[bytes, ...]:
        """What lifts a node from the version `held`: `weights` requests for frames whose bodies
        have at most `capacity` bytes, one at least. Only what changed since `base` is sent. Made
        once for all nodes that stand there."""
        base = self.base(held)
        if (base, capacity) not in self._requests:
            pieces = self._cut(base, capacity)
            self._requests[base, capacity] = tuple(
                messages.encode_request(
                    messages.Weights(base, self.version, i == len(pieces), piece)
                )
                for i, piece in enumerate(pieces, 1)
            )
        return self._requests[base, capacity]

    def first_of(self, held: int, capacity: int, number: int) -> int:
        """The first entry that one of these requests has."""
        return self._cut(self.base(held), capacity)[number].first

    def _cut(self, base: int, capacity: int) -> tuple[chunk.Chunk, ...]:
        if (base, capacity) not in self._pieces:
            marked = self.changed > base if base else np.ones(len(self.theta), dtype=np.bool_)
            room = capacity - CHUNK_OVERHEAD
            pieces = tuple(chunk.encode(self.theta, marked, 0, len(self.theta), room))
            self._pieces[base, capacity] = pieces or (chunk.Chunk(0, 0, chunk.DENSE, b""),)
        return self._pieces[base, capacity]
