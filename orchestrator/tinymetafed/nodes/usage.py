"""What a node did over some time: bytes on the link, frames, executed instructions."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

from pydantic_core import to_json

from ..energy.profile import Profile, total

FRAMING = "framing"
"""The name under which bytes are counted that belong to no request: heads, checksums, COBS."""

Traffic = dict[str, int]
"""Bytes by request."""


@dataclass(frozen=True)
class Usage:
    """What a node did over some time.

    Samples reach a real node from its sensors. Their bytes pass the link here because nothing else
    leads into an emulated node, and are counted apart: they are no communication.

    Attributes:
        down, up: bytes on the link by request, repetitions included, samples not.
        bytes_sensor: of samples.
        frames_down, frames_up: bytes of each frame, samples not.
        profile: None where nothing was counted.
        uncounted: some of it was lost, so that the profile would be wrong.
    """

    down: Traffic = field(default_factory=dict)
    up: Traffic = field(default_factory=dict)
    bytes_sensor: int = 0
    frames_down: tuple[int, ...] = ()
    frames_up: tuple[int, ...] = ()
    profile: Profile | None = None
    uncounted: bool = False

    @cached_property
    def bytes_down(self) -> int:
        """Of all requests."""
        return sum(self.down.values())

    @cached_property
    def bytes_up(self) -> int:
        """Of all requests."""
        return sum(self.up.values())

    @cached_property
    def messages(self) -> str:
        """By request [bytes down, bytes up], as JSON. Many nodes of a round share a usage."""
        down, up = self.down, self.up
        both = {name: (down.get(name, 0), up.get(name, 0)) for name in sorted({*down, *up})}
        return to_json(both).decode()

    @cached_property
    def frames(self) -> str:
        """[bytes of each frame down, of each up], as JSON."""
        return to_json((self.frames_down, self.frames_up)).decode()

    def __add__(self, other: "Usage") -> "Usage":
        if UNUSED in (self, other):
            return other if self == UNUSED else self
        uncounted = self.uncounted or other.uncounted
        return Usage(
            dict(Counter(self.down) + Counter(other.down)),
            dict(Counter(self.up) + Counter(other.up)),
            self.bytes_sensor + other.bytes_sensor,
            self.frames_down + other.frames_down,
            self.frames_up + other.frames_up,
            None if uncounted else total(p for p in (self.profile, other.profile) if p),
            uncounted,
        )


UNUSED = Usage()
