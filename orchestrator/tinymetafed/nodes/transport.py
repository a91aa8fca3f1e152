"""The interface of a backend."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from ..errors import FirmwareFault, TinyMetaFedError
from .events import NodeEvent

if TYPE_CHECKING:  # it imports Capstone and pyelftools, for which settings need not wait
    from ..energy.profile import Counts
    from .fault import Stand


class NodeLost(TinyMetaFedError):
    """A node stopped answering: its emulator ended, its processor faulted, its link broke. What it
    held is gone; a new transport starts it afresh.

    Attributes:
        event: what the store is to say of it.
    """

    def __init__(self, text: str, event: NodeEvent | None = None) -> None:
        super().__init__(text)
        self.event = event or NodeEvent("lost", text)


class LinkTooNoisy(NodeLost):
    """Noise that an experiment asks for has taken all attempts to send a frame."""


class NodeFaulted(NodeLost, FirmwareFault):
    """The node's firmware is why."""


class NodeHung(FirmwareFault):
    """A node computes for longer than it may. It would do so again."""


class Transport(Protocol):
    """The byte stream to one running node: its emulated UART, or what stands for it.

    Attributes:
        immediate: it answers while it is written to, so that nobody has to wait.
    """

    @property
    def immediate(self) -> bool: ...

    async def write(self, data: bytes) -> None:
        """Sends `data`, a frame. Raises NodeLost."""
        ...

    async def read(self) -> bytes:
        """Waits for bytes from the node; at least one. Raises NodeLost."""
        ...

    async def computing(self) -> bool:
        """Whether the node is at work, as far as can be known: it lives, and does not wait for a
        frame."""
        ...

    async def executed(self) -> int | None:
        """Instructions of a node that computes, since it has sent anything or since it was looked
        at first; None where `counts` has all that is known."""
        ...

    async def stand(self) -> "Stand | None":
        """Where a node stands that computes and comes to no end; None where that cannot be known. A
        node of which it was asked is not to be used again."""
        ...

    def counts(self) -> "Counts | None":
        """What the node has executed since its start; None where nothing counts."""
        ...

    def said(self) -> str:
        """The emulator's last words, for a message."""
        ...

    async def close(self) -> None:
        """Ends the node. No process and no file stays behind."""
        ...


OpenTransport = Callable[[], Awaitable[Transport]]
"""Starts a node and returns the way to it. Raises TinyMetaFedError where it cannot be started."""
