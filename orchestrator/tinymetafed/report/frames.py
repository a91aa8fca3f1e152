"""Frames that a run has recorded (nodes/recording.py), as lines and as sums."""

import json
import logging
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ..errors import TinyMetaFedError, visible

log = logging.getLogger(__name__)

ARROWS = {"down": "↓", "up": "↑"}
REFUSED, LOST = "refused", "lost"
"""What a frame may be instead of messages."""
FRAMING = "framing"


@dataclass(frozen=True)
class Frame:
    """A line of the file; see FrameRecorder."""

    time: float
    round: int | None
    node: int
    direction: str
    data: bytes
    sequence: int | None
    messages: list[dict[str, Any]]
    refused: str | None
    lost: bool

    @property
    def kinds(self) -> set[str]:
        """Of its messages, or what it is instead."""
        found = {one["kind"] for one in self.messages}
        found |= {REFUSED} if self.refused is not None else set()
        return found | ({LOST} if self.lost else set())


def read(path: Path) -> Iterator[Frame]:
    """The frames of a file in their order. A last line that is not whole, since what wrote it was
    ended or goes on, is left out, and a warning says so. Raises TinyMetaFedError where a line is no
    frame."""
    number = 0
    try:
        with path.open("rb") as file:
            for line in file:
                number += 1
                if line.endswith(b"\n"):
                    yield _frame(line)
                else:
                    log.warning("%s: the last line is not whole; it is left out", path)
    except OSError as error:
        raise TinyMetaFedError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise TinyMetaFedError(
            f"{path}, line {number}: no frame; name a file that 'tinymetafed run --frames' wrote"
        ) from None


def _frame(line: bytes) -> Frame:
    """Raises ValueError, KeyError or TypeError where it is none."""
    found = json.loads(line)
    time, node, number, messages = (
        found["time"], found["node"], found["round"], found.get("messages", []),
    )  # fmt: skip
    refused, lost, sequence = found.get("refused"), found.get("lost", False), found.get("sequence")
    right = (
        isinstance(time, int | float)
        and type(node) is int
        and (number is None or type(number) is int)
        and found["direction"] in ARROWS
        and isinstance(lost, bool)
        and all(type(one["size"]) is int and isinstance(one["kind"], str) for one in messages)
        and (isinstance(refused, str) if refused is not None else type(sequence) is int)
    )
    if not right:
        raise ValueError("of another type")
    data = bytes.fromhex(found["bytes"])
    return Frame(time, number, node, found["direction"], data, sequence, messages, refused, lost)


@dataclass(frozen=True)
class Wanted:
    """Which frames to show: all where a collection is empty. 0 stands for what is part of no
    round."""

    nodes: Collection[int] = ()
    rounds: Collection[int] = ()
    kinds: Collection[str] = ()

    def has(self, frame: Frame) -> bool:
        """Whether it is one of them."""
        return (
            (not self.nodes or frame.node in self.nodes)
            and (not self.rounds or (frame.round or 0) in self.rounds)
            and (not self.kinds or not frame.kinds.isdisjoint(self.kinds))
        )


HEAD = f"{'seconds':>12} {'round':>6} {'node':>5}   {'bytes':>7} {'frame':>6}  messages"


def line(frame: Frame) -> str:
    """A frame as a line below HEAD."""
    said = "; ".join(map(_message, frame.messages))
    if frame.refused is not None:
        said = f"refused: {frame.refused}"
    if frame.lost:
        said = f"lost: {said}"
    number = "-" if frame.round is None else str(frame.round)
    sequence = "-" if frame.sequence is None else f"#{frame.sequence}"
    return (
        f"{frame.time:12.6f} {number:>6} {frame.node:5d} {ARROWS[frame.direction]} "
        f"{len(frame.data):7,d} {sequence:>6}  {visible(said)}"
    )


def _message(one: dict[str, Any]) -> str:
    fields = (f"{key}={_text(value)}" for key, value in one.items() if key not in ("kind", "size"))
    return " ".join([one["kind"], *fields])


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value.replace(" ", "_") if isinstance(value, str) else json.dumps(value)


@dataclass
class Sums:
    """Frames counted, and their bytes, by direction and kind of message."""

    number: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    bytes: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    frames: Counter[str] = field(default_factory=Counter[str])

    def add(self, frame: Frame) -> None:
        """Counts a frame. Of one that is refused or lost, all bytes are its own kind's."""
        way, left = frame.direction, len(frame.data)
        self.frames[way] += 1
        whole = LOST if frame.lost else REFUSED if frame.refused is not None else None
        parts = [(whole, left)] if whole else [(one["kind"], one["size"]) for one in frame.messages]
        for kind, size in parts:
            self.number[way, kind] += 1
            self.bytes[way, kind] += size
            left -= size
        if not whole:
            self.bytes[way, FRAMING] += left

    def table(self) -> Table:
        """A row for each kind of message, and for what frames take besides."""
        table = Table(title="Frames by message", title_justify="left")
        for name in ("", "message", "number", "bytes"):
            table.add_column(name, justify="left" if name in ("", "message") else "right")
        for way, arrow in ARROWS.items():
            kinds = sorted(kind for direction, kind in self.bytes if direction == way)
            for kind in sorted(kinds, key=lambda kind: kind in (FRAMING, REFUSED, LOST)):
                count = f"{self.number[way, kind]:,}" if kind != FRAMING else ""
                table.add_row(arrow, Text(visible(kind)), count, f"{self.bytes[way, kind]:,}")
            if kinds:
                total = sum(self.bytes[way, kind] for kind in kinds)
                table.add_row(arrow, "all frames", f"{self.frames[way]:,}", f"{total:,}")
                table.add_section()
        return table
