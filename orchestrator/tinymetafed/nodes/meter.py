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
        self.pricing = pricing
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

    def came(self, data: bytes) -> None:
        """The node has sent bytes: all of them count, whether they are of an answer or not, and
        whether they arrive or not."""
        self._up[FRAMING] = self._up.get(FRAMING, 0) + len(data)
        *ended, rest = data.split(b"\0")
        for piece in ended:
            self._received += len(piece) + 1
            if self._received > 1:  # else a zero between two frames, which is counted with the next
                self._frames[1].append(self._received)
                self._received = 0
        self._received += len(rest)

    def answered(self, names: Sequence[str], sizes: Sequence[int]) -> None:
        """A frame has arrived. names: of the requests that it answers. sizes: of the answers."""
        for name, size in zip(names, sizes, strict=False):
            self._up[name] = self._up.get(name, 0) + size
            self._up[FRAMING] -= size

    def ended(self) -> None:
        """The transport is closed, and what the node executed since `take` is lost."""
        self._received = 0
        self._uncounted = self.pricing is not None
        self._before = None

    def carry(self, usage: Usage) -> None:
        """Counts what another node did in this one's place."""
        self._carried = usage if self._carried is None else self._carried + usage

    def forget(self) -> None:
        """Nothing was done since `take` but what is carried."""
        self._down, self._up, self._sensor, self._frames = {}, {}, 0, ([], [])
        self._received = 0
        self._before = None
        self._asked = self._uncounted = False

    def take(self, profile: Profile | None) -> Usage:
        """What the node did since the last call. profile: what it executed since the last look;
        None where that is unknown."""
        uncounted = profile is None and self.pricing is not None
        down, up = map(tuple, self._frames)
        usage = Usage(self._down, self._up, self._sensor, down, up, profile, uncounted)
        if self._carried is not None:
            usage, self._carried = self._carried + usage, None
        self._down, self._up, self._sensor, self._frames = {}, {}, 0, ([], [])
        return usage

    def instructions(self, transport: Transport) -> int:
        """That the node has executed since `take`; 0 where they are not counted."""
        counts = transport.counts()
        if counts is None or self.pricing is None:
            return 0
        delta = counts if self._before is None else counts.since(self._before)
        profile = None if delta is None else self.pricing.profiles([delta])[0]
        return 0 if profile is None else int(profile.instructions.sum())

    def look(self, transport: Transport | None) -> Counts | None:
        """What the node executed since the last look; None, and a warning, where that is unknown: a
        count that would be wrong is not summed."""
        asked, uncounted = self._asked, self._uncounted
        self._asked = self._uncounted = False
        counts = transport.counts() if transport else None
        if counts is None or self.pricing is None:
            return None
        before, self._before = self._before, counts
        delta = counts if before is None else counts.since(before)
        if uncounted:
            problem = "it was started again"
        elif delta is None:
            problem = "its counters went back"
        elif asked and not delta.moved:
            problem = "its counters stand still although it answers"
        elif delta.lost:
            problem = "it executed more blocks of code than can be counted"
        else:
            return delta
        log.warning("%s: %s; what it executed is not counted", self._node, problem)
        return None


def take_together(meters: Sequence[tuple[Meter, Transport | None]]) -> list[Usage]:
    """What the nodes did since their meters were last asked. Those of one program are priced
    together."""
    looks = [meter.look(transport) for meter, transport in meters]
    profiles: list[Profile | None] = [None] * len(meters)
    for pricing in {meter.pricing for meter, _ in meters}:
        if pricing is None:
            continue
        mine = [
            (i, look)
            for i, ((meter, _), look) in enumerate(zip(meters, looks, strict=True))
            if look is not None and meter.pricing is pricing
        ]
        found = pricing.profiles([look for _, look in mine])
        for (i, _), profile in zip(mine, found, strict=True):
            profiles[i] = profile
    return [meter.take(profile) for (meter, _), profile in zip(meters, profiles, strict=True)]
