"""Frames: COBS(body ‖ CRC-32(body), little-endian) and a zero byte."""

import zlib

from cobs import cobs  # pyright: ignore[reportMissingTypeStubs]

CRC_SIZE = 4
LONGEST = 1 << 16
"""Bytes of a frame that is received, at most. Nodes send frames of 8 KiB."""


def encode(body: bytes) -> bytes:
    """The frame of one body."""
    crc = zlib.crc32(body).to_bytes(CRC_SIZE, "little")
    return cobs.encode(body + crc) + b"\0"  # pyright: ignore[reportUnknownMemberType]


def capacity(frame_size: int) -> int:
    """The longest body, in bytes, of a frame that is certain to have no more than `frame_size`."""
    data = frame_size - 1  # the zero
    return data - (data + 254) // 255 - CRC_SIZE


class FrameReceiver:
    """Cuts a byte stream into bodies. What is not a frame, or longer than LONGEST, is counted and
    dropped; the receiver is in step again at the next zero."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self._skipping = False  # the rest of a frame that was dropped
        self.bad_frames = 0

    def receive(self, data: bytes) -> list[bytes]:
        """The bodies that `data` completes, in order."""
        if not (self._partial or self._skipping) and data.find(b"\0") == len(data) - 1:
            return self._checked(data[:-1])  # one, whole
        *complete, rest = data.split(b"\0")
        bodies: list[bytes] = []
        for piece in complete:
            if not self._skipping:
                bodies += self._checked(bytes(self._partial) + piece)
            self._partial.clear()
            self._skipping = False
        if not self._skipping:
            self._partial += rest
        if len(self._partial) > LONGEST:
            self._partial.clear()
            self._skipping = True
            self.bad_frames += 1
        return bodies

    def _checked(self, encoded: bytes) -> list[bytes]:
        if not encoded:
            return []
        try:
            return [decode(encoded)]
        except FrameError:
            self.bad_frames += 1
            return []


class FrameError(ValueError):
    """Bytes that are no frame; the text says why."""


def decode(encoded: bytes) -> bytes:
    """The body of a frame without its zero. Raises FrameError."""
    if len(encoded) > LONGEST:
        raise FrameError(f"longer than {LONGEST} bytes")
    try:
        decoded = cobs.decode(encoded)  # pyright: ignore[reportUnknownMemberType]
    except cobs.DecodeError:
        raise FrameError("not COBS") from None
    body, crc = decoded[:-CRC_SIZE], decoded[-CRC_SIZE:]
    if not body or int.from_bytes(crc, "little") != zlib.crc32(body):
        raise FrameError("wrong CRC-32")
    return body
