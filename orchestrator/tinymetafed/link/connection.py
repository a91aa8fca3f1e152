"""One connection to a node: what to send, and what the bytes that came mean."""

from functools import lru_cache

from . import frame, messages
from .messages import UNASKED, Hello, Request, Response

LAST_SEQUENCE = 23
"""Numbers go round from 1 to the last that CBOR puts into one byte, so that a message's size says
nothing of how many came before it. One request under way at a time needs no more."""


class Connection:
    """The orchestrator's end of a link. One request is under way at a time, so that no more is in
    flight than the node's receive buffer holds; timeouts and repetitions are the caller's business.

    Attributes:
        hello: the node's last hello, None before the first.
        receive_buffer: bytes of the longest frame that the node takes.
        sequence: number of the last request.
    """

    def __init__(self) -> None:
        self._receiver = frame.FrameReceiver()
        self.sequence = UNASKED
        self._frame = b""
        self.hello: Hello | None = None
        self.receive_buffer = 256  # before the hello: room for a hello request

    @property
    def bad_frames(self) -> int:
        """Frames from the node that were dropped."""
        return self._receiver.bad_frames

    @property
    def capacity(self) -> int:
        """The longest request body, in bytes, that the node takes."""
        return frame.capacity(self.receive_buffer)

    def send(self, request: Request) -> bytes:
        """The bytes of a new request. Raises ValueError where the node would not take them."""
        sequence = self.sequence % LAST_SEQUENCE + 1
        data = (_shared if isinstance(request, messages.Weights) else _encode)(sequence, request)
        if len(data) > self.receive_buffer:
            raise ValueError(
                f"a {type(request).__name__} of {len(data)} bytes is longer than the node's "
                f"receive buffer of {self.receive_buffer}"
            )
        self.sequence, self._frame = sequence, data
        return data

    def resend(self) -> bytes:
        """The last request's bytes again: the node does not do the work twice."""
        return self._frame

    def receive(self, data: bytes) -> list[Response]:
        """What `data` completes: the answer to the last request, and what the node sends unasked
        (its hello after a boot, a fault). Late answers to earlier requests are passed over."""
        events: list[Response] = []
        for body in self._receiver.receive(data):
            decoded = messages.decode(body)
            if decoded is None:
                self._receiver.bad_frames += 1
                continue
            sequence, response = decoded
            if sequence not in (self.sequence, UNASKED):
                continue
            if isinstance(response, Hello):
                self.hello = response
                self.receive_buffer = response.receive_buffer
            events.append(response)
        return events


def _encode(sequence: int, request: Request) -> bytes:
    return frame.encode(messages.encode(sequence, request))


_shared = lru_cache(maxsize=256)(_encode)
"""The same broadcast goes to many nodes, mostly with the same number."""
