"""What a node does that no undisturbed one does: kinds of event, and what each of them says.

Whatever the bench's speed has to do with is no event: a node that computes is waited for, and an
answer that is there when a wait ends is taken.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic_core import to_json

Kind = Literal["fault", "hang", "reset", "timeout", "repetition", "lost", "restart"]
"""fault: the processor or the operating system stopped the firmware. hang: it computed for longer
than nodes.patience. reset: it started again by itself. timeout: no answer to a frame came, and the
node did not compute. repetition: the frame was sent again. lost: the emulator ended, or the link
broke, or no frame was answered. restart: the bench started the node again."""

FIRMWARE_FAULTS = frozenset({"fault", "hang", "reset"})
"""Kinds that are the firmware's own doing, by which a run's exit status is 3."""


@dataclass(frozen=True)
class NodeEvent:
    """One of them.

    text: for people. more: what there is else, as JSON can have it.
    """

    kind: Kind
    text: str
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def detail(self) -> str:
        """Of a row of the store."""
        return to_json({"text": self.text} | self.more).decode()
