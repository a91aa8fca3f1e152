"""Every frame of a run in a file, one a line, as it is sent and as it arrives."""

import json
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import TinyMetaFedError
from ..files import reporting
from ..link.frame import LONGEST
from ..link.short import Direction, RefusedError, contents


class FrameRecorder:
    """A file of JSON lines, private to the user: frames have the devices' samples. A line is an
    object:

    time: seconds since the recording began. round: from 1; null for what is part of none, such as
    a boot or an evaluation. node: from 0. direction: "down", to the node, or "up". bytes: in
    hexadecimal, as they arrive. sequence, messages: see link.short.contents. refused: instead of
    these, why the link refuses the frame. lost: true where noise lets none of it arrive; bytes then
    are those that were sent.

    Attributes:
        round: that is being played.

    Raises TinyMetaFedError, as its taps do, where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.round: int | None = None
        self._path = path
        with reporting(path):
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            if stat.S_ISREG(os.fstat(number).st_mode):  # it may be a pipe
                os.fchmod(number, 0o600)
            self._file = os.fdopen(number, "w", encoding="ascii", buffering=1)
        self._start = time.perf_counter()

    def __enter__(self) -> "FrameRecorder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
        except OSError:  # said when the line was written
            if kind is None:
                raise

    def tap(self, node: int) -> "Tap":
        """For the link of one node."""
        return Tap(self, node)

    def write(self, node: int, direction: Direction, data: bytes, *, lost: bool = False) -> None:
        """Adds a frame."""
        line: dict[str, Any] = {
            "time": round(time.perf_counter() - self._start, 6), "round": self.round, "node": node,
            "direction": direction, "bytes": data.hex(),
        }  # fmt: skip
        try:
            line["sequence"], line["messages"] = contents(data, direction)
        except RefusedError as error:
            line["refused"] = str(error)
        if lost:
            line["lost"] = True
        try:
            self._file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise TinyMetaFedError(
                f"{self._path}: cannot be written: {error.strerror or error}; the rounds that are "
                "done are in the store"
            ) from None


class Tap:
    """What is shown all that passes a node's link."""

    def __init__(self, recorder: FrameRecorder, node: int) -> None:
        self._recorder, self._node = recorder, node
        self._sent, self._arrived = b"", b""  # of frames from the node that are not whole

    def booted(self) -> None:
        """The node starts anew, and what it was sending has no end."""
        if self._arrived:
            self._recorder.write(self._node, "up", self._arrived)
        self._sent, self._arrived = b"", b""

    def down(self, frame: bytes, arriving: Sequence[bytes]) -> None:
        """A frame for the node, and the pieces that arrive of it and of others before."""
        for one in arriving:
            self._recorder.write(self._node, "down", one)
        if not arriving:
            self._recorder.write(self._node, "down", frame, lost=True)

    def up(self, data: bytes, arrived: bytes) -> None:
        """Bytes that the node has sent, and those that arrive after them."""
        sent, self._sent = _split(self._sent + data)
        came, self._arrived = _split(self._arrived + arrived)
        for one in came:
            self._recorder.write(self._node, "up", one)
        for one in sent[len(came) :]:
            self._recorder.write(self._node, "up", one, lost=True)


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole frames, and the rest; what is too long to become a frame is no longer waited for."""
    *ended, rest = data.split(b"\0")
    whole = [one + b"\0" for one in ended if one]
    return (whole, rest) if len(rest) <= LONGEST else ([*whole, rest], b"")
