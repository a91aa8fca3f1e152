"""What a node does, noted until somebody takes it: bytes on its link, and what it executes."""

import logging
from collections.abc import Sequence

from ..energy.profile import Counts, Pricer, Profile
from .packing import Frame
from .transport import Transport
from .usage import FRAMING, Traffic, Usage

log = logging.getLogger(__name__)


class Meter:
    """Of one node, whose transports come one after the other."""

    def __init__(self, node: str, pricing: Pricer | None) -> None:
        self._node = node
        self._pricing = pricing
        self._down: Traffic = {}  # since `take`, as in Usage
        self._up: Traffic = {}
        self._frames: tuple[list[int], list[int]] = ([], [])
        self._received = 0  # bytes of the frame that is being received
        self._sensor = 0
        self._carried: Usage | None = None
        self._before: Counts | None = None  # when `take` last looked, of this transport
        self._asked = False  # anything, since then
        self._uncounted = False  # a transport was closed since then

    def sent(self, frame: Frame, size: int, sensor: int) -> None:
        """A frame of `size` bytes goes out, `sensor` of them of samples."""
        self._asked = True
        self._sensor += sensor
        self._frames[0].append(size - sensor)
        down, framing = self._down, size - sensor
        for piece in frame:
            down[piece.name] = down.get(piece.name, 0) + piece.size
            framing -= piece.size
        down[FRAMING] = down.get(FRAMING, 0) + framing

    def came(self, size: int) -> None:
        """Bytes have come: all of them count, whether they are of an answer or not."""
        self._received += size
        self._up[FRAMING] = self._up.get(FRAMING, 0) + size

    def answered(self, names: Sequence[str], sizes: Sequence[int]) -> None:
        """A frame has ended. names: of the requests that it answers. sizes: of the answers."""
        self._frames[1].append(self._received)
        self._received = 0
        for name, size in zip(names, sizes, strict=False):
            self._up[name] = self._up.get(name, 0) + size
            self._up[FRAMING] -= size

    def ended(self) -> None:
        """The transport is closed, and what the node executed since `take` is lost."""
        self._received = 0
        self._uncounted = self._pricing is not None
        self._before = None

    def carry(self, usage: Usage) -> None:
        """Counts what another node did in this one's place."""
        self._carried = usage if self._carried is None else self._carried + usage

    def take(self, transport: Transport | None) -> Usage:
        """What the node did since the last call."""
        profile = self._take_profile(transport)
        uncounted = profile is None and self._pricing is not None
        down, up = map(tuple, self._frames)
        usage = Usage(self._down, self._up, self._sensor, down, up, profile, uncounted)
        if self._carried is not None:
            usage, self._carried = self._carried + usage, None
        self._down, self._up, self._sensor, self._frames = {}, {}, 0, ([], [])
        self._asked = self._uncounted = False
        return usage

    def instructions(self, transport: Transport) -> int:
        """That the node has executed since `take`; 0 where they are not counted."""
        counts = transport.counts()
        if counts is None or self._pricing is None:
            return 0
        delta = counts if self._before is None else counts.since(self._before)
        profile = None if delta is None else self._pricing.profile(delta)
        return 0 if profile is None else int(profile.instructions.sum())

    def _take_profile(self, transport: Transport | None) -> Profile | None:
        """What the node executed since the last look; None, and a warning, where that is unknown: a
        count that would be wrong is not summed."""
        counts = transport.counts() if transport else None
        if counts is None or self._pricing is None:
            return None
        before, self._before = self._before, counts
        delta = counts if before is None else counts.since(before)
        if self._uncounted:
            problem = "it was started again"
        elif delta is None:
            problem = "its counters went back"
        elif self._asked and not delta.moved:
            problem = "its counters stand still although it answers"
        elif delta.lost:
            problem = "it executed more blocks of code than can be counted"
        else:
            return self._pricing.profile(delta)
        log.warning("%s: %s; what it executed is not counted", self._node, problem)
        return None
