"""One connection to a node: what to send, and what the bytes that came mean."""

from collections.abc import Sequence

from . import frame, messages
from .messages import UNASKED, Answers, Hello

COUNTED = range(1, 24)
"""Numbers of frames that are part of a round, one after the other and round again. CBOR puts each
into one byte, so that a frame's size says nothing of how many came before it."""
UNCOUNTED = range(24, 256)
"""Numbers of all other frames: a measurement leaves those of a round as they are."""


class Connection:
    """The orchestrator's end of a link. One frame is under way at a time, so that no more is in
    flight than the node's receive buffer holds; timeouts and repetitions are the caller's business.

    Attributes:
        hello: the node's last hello, None before the first.
        receive_buffer: bytes of the longest frame that the node takes.
        sequence: number of the last frame of COUNTED; UNASKED before the first.
    """

    def __init__(self) -> None:
        self._receiver = frame.FrameReceiver()
        self.sequence = UNASKED
        self._uncounted = UNCOUNTED[-1]
        self._awaited = UNASKED
        self._frame = b""
        self.hello: Hello | None = None
        self.receive_buffer = 256  # before the hello: room for a hello request

    @property
    def bad_frames(self) -> int:
        """Frames from the node that were dropped."""
        return self._receiver.bad_frames

    @property
    def capacity(self) -> int:
        """The longest body, in bytes, that the node takes."""
        return frame.capacity(self.receive_buffer)

    def send(self, requests: Sequence[bytes], *, counted: bool = True) -> bytes:
        """The bytes of a frame with these requests, each as messages.encode_request has it. Raises
        ValueError where the node would not take it."""
        last = self.sequence if counted else self._uncounted
        sequence = _after(last, COUNTED if counted else UNCOUNTED)
        body = messages.body_head(sequence, len(requests)) + b"".join(requests)
        data = frame.encode(body)
        if len(data) > self.receive_buffer:
            raise ValueError(
                f"a frame of {len(data)} bytes is longer than the node's receive buffer of "
                f"{self.receive_buffer}"
            )
        if counted:
            self.sequence = sequence
        else:
            self._uncounted = sequence
        self._awaited, self._frame = sequence, data
        return data

    def resend(self) -> bytes:
        """The last frame's bytes again: the node does not do the work twice."""
        return self._frame

    def receive(self, data: bytes) -> list[Answers]:
        """What `data` completes: the answers to the last frame, and what the node sends unasked
        (its hello after a boot, a fault). Late answers to earlier frames are passed over."""
        events: list[Answers] = []
        for body in self._receiver.receive(data):
            answers = messages.decode(body)
            if answers is None:
                self._receiver.bad_frames += 1
                continue
            if answers.sequence not in (self._awaited, UNASKED):
                continue
            for response in answers.responses:
                if isinstance(response, Hello):
                    self.hello = response
                    self.receive_buffer = response.receive_buffer
            events.append(answers)
        return events


def _after(sequence: int, numbers: range) -> int:
    """The next of the numbers, which go round."""
    return sequence + 1 if sequence + 1 in numbers else numbers[0]
