"""Events of nodes: faults, restarts, repeated frames, timeouts, lost nodes.

The bench's speed makes none of them: a node that computes is waited for, by its own time, and an
answer that is there when a wait ends is taken. An undisturbed node has no events.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic_core import to_json

Kind = Literal["fault", "hang", "reset", "timeout", "repetition", "lost", "restart", "left out"]
"""fault: the processor or the operating system stopped the firmware. hang: it computed for longer
than nodes.patience. reset: it started again by itself. timeout: no answer to a frame came, and the
node did not compute. repetition: the frame was sent again. lost: the emulator ended, or the link
broke, or no frame was answered. restart: the bench started the node again. left out: noise on its
link took all attempts, and the round went on without it."""

FIRMWARE_FAULTS = frozenset({"fault", "hang", "reset"})
"""Kinds that are the firmware's own doing, by which a run's exit status is 3."""


@dataclass(frozen=True)
class NodeEvent:
    """One event of a node.

    text: for people. more: what there is else, as JSON can have it. device: whose task the node
    played, None where none.
    """

    kind: Kind
    text: str
    more: dict[str, Any] = field(default_factory=dict)
    device: int | None = None

    @property
    def detail(self) -> str:
        """Of a row of the store."""
        return to_json({"text": self.text} | self.more).decode()
