"""What a frame says in short, for people: its messages and their fields by name, and of long bytes
how many they are."""

from dataclasses import fields
from math import isfinite
from typing import Any, Literal, cast, get_args

from ..errors import printable
from . import frame, messages
from .chunk import Chunk

Direction = Literal["down", "up"]
"""To the node, or from it."""

_SHORT = 20
"""Bytes that are shown themselves: a build's number."""


class RefusedError(ValueError):
    """A frame that the link refuses; the text says why."""


def _names(message: type[Any]) -> list[str]:
    """Of the fields, in the order of protocol.cddl."""
    found: list[str] = []
    for one in fields(message):
        found += [each.name for each in fields(Chunk)] if one.type is Chunk else [one.name]
    return found


def _kinds(union: Any) -> dict[int, tuple[str, list[str]]]:
    """By code: the name of a message, and those of its fields."""
    return {
        one.CODE: (one.__name__.removesuffix("Request").lower(), _names(one))
        for one in get_args(union)
    }


_KINDS: dict[Direction, dict[int, tuple[str, list[str]]]] = {
    "down": _kinds(messages.Request),
    "up": _kinds(messages.Response),
}
KINDS = frozenset(name for way in _KINDS.values() for name, _ in way.values())
"""Names of all messages."""


def contents(data: bytes, direction: Direction) -> tuple[int, list[dict[str, Any]]]:
    """The number of a frame, and its messages: of each its `kind`, its `size` in bytes without what
    frames it, and its fields, in values that JSON has.

    data: the frame, with its zero. Raises RefusedError.
    """
    if not data.endswith(b"\0"):
        raise RefusedError("cut short")
    try:
        body = frame.decode(data[:-1])
    except frame.FrameError as error:
        raise RefusedError(str(error)) from None
    found = messages.parts(body)
    known = found is not None and all(_is_known(part, direction) for part in found[1])
    if found is None or not known or (direction == "up" and messages.decode(body) is None):
        raise RefusedError("no message of the protocol")
    sequence, every, sizes = found
    return sequence, [
        _message(part, size, direction) for part, size in zip(every, sizes, strict=True)
    ]


def _is_known(part: Any, direction: Direction) -> bool:
    if not isinstance(part, list) or not part:
        return False
    code = cast("list[Any]", part)[0]
    return type(code) is int and code in _KINDS[direction]


def _message(part: list[Any], size: int, direction: Direction) -> dict[str, Any]:
    kind, names = _KINDS[direction][part[0]]
    if kind == "train" and isinstance(part[-1], int) and len(part) == len(names):
        names = [name for name in names if name != "proximal"]  # the options alone
    values = [
        _registers(value) if name == "registers" else _value(value)
        for name, value in zip(names, part[1:], strict=False)  # some may be left out
    ]
    return {"kind": kind, "size": size, **dict(zip(names, values, strict=False))}


def _registers(value: bytes) -> dict[str, str]:
    return {name: hex(one) for name, one in messages.Fault(0, 0, value).by_name.items()}


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex() if 0 < len(value) <= _SHORT else f"{len(value)} bytes"
    if isinstance(value, list):
        return [_value(one) for one in cast("list[Any]", value)]
    if value is None or isinstance(value, int) or (isinstance(value, float) and isfinite(value)):
        return value
    return printable(str(value))
