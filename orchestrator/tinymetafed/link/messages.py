"""The messages of firmware/protocol.cddl, which says what their fields mean."""

import io
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, cast

import cbor2
import numpy as np

from . import chunk
from .chunk import Chunk

PROTOCOL = 1
UNASKED = 0  # the sequence number of what a node sends by itself


@dataclass(frozen=True)
class HelloRequest:
    """Who are you?"""

    CODE: ClassVar = 0


@dataclass(frozen=True)
class Layer:
    """One layer of a model as the node is told it."""

    operation: int
    local: bool
    arguments: tuple[int, ...]


@dataclass(frozen=True)
class Load:
    CODE: ClassVar = 1
    inputs: int
    loss: int
    accumulate: bool
    capacity: int
    layers: tuple[Layer, ...]
    keeps: bool = False


@dataclass(frozen=True)
class Weights:
    CODE: ClassVar = 2
    base: int  # `from` in the protocol
    to: int
    last: bool
    chunk: Chunk


@dataclass(frozen=True)
class Train:
    CODE: ClassVar = 3
    rate: float  # rounded to float32
    frozen: int
    batch: int
    epochs: int
    samples: bytes | None


@dataclass(frozen=True)
class Store:
    CODE: ClassVar = 4
    append: bool
    samples: bytes


@dataclass(frozen=True)
class Evaluate:
    CODE: ClassVar = 5
    samples: bytes


@dataclass(frozen=True)
class Predict:
    CODE: ClassVar = 6
    samples: bytes


@dataclass(frozen=True)
class Select:
    CODE: ClassVar = 7
    keep: int
    values: int = chunk.FLOAT32


@dataclass(frozen=True)
class Update:
    CODE: ClassVar = 8
    first: int
    end: int


@dataclass(frozen=True)
class Residual:
    CODE: ClassVar = 9
    first: int
    end: int


@dataclass(frozen=True)
class Restore:
    CODE: ClassVar = 10
    chunk: Chunk


Request = (
    HelloRequest | Load | Weights | Train | Store | Evaluate | Predict | Select | Update
    | Residual | Restore
)  # fmt: skip
_LEFT_OUT = {"keeps", "values"}
"""Fields at the end of a request that are not sent where they are false or 0."""


@dataclass(frozen=True)
class Hello:
    CODE: ClassVar = 0
    protocol: int
    version: str
    build: bytes = field(metadata={"size": 20})
    receive_buffer: int
    memory: int
    bad_frames: int
    overruns: int


@dataclass(frozen=True)
class Loaded:
    CODE: ClassVar = 1
    parameters: int
    needed: int
    available: int


@dataclass(frozen=True)
class Done:
    CODE: ClassVar = 2


@dataclass(frozen=True)
class Trained:
    CODE: ClassVar = 3
    steps: int
    loss: float


@dataclass(frozen=True)
class Evaluated:
    CODE: ClassVar = 5
    samples: int
    loss: float
    correct: int


@dataclass(frozen=True)
class Outputs:
    CODE: ClassVar = 6
    values: bytes


@dataclass(frozen=True)
class Selected:
    CODE: ClassVar = 7
    entries: int


@dataclass(frozen=True)
class Updated:
    CODE: ClassVar = 8
    chunk: Chunk


@dataclass(frozen=True)
class Error:
    CODE: ClassVar = 9
    code: int
    message: str
    needed: int = field(metadata={"bits": 64})
    available: int = field(metadata={"bits": 64})


@dataclass(frozen=True)
class Fault:
    CODE: ClassVar = 10
    pc: int
    lr: int
    cfsr: int
    hfsr: int
    address: int


Response = (
    Hello | Loaded | Done | Trained | Evaluated | Outputs | Selected | Updated | Error | Fault
)
_RESPONSES: dict[int, type[Response]] = {
    message.CODE: message
    for message in (
        Hello, Loaded, Done, Trained, Evaluated, Outputs, Selected, Updated, Error, Fault,
    )
}  # fmt: skip


def _flat(value: object) -> list[Any]:
    """A field as the items that it has in its message's list."""
    match value:
        case Chunk():
            return [value.first, value.count, value.encoding, value.data]
        case tuple():  # the layers of a model
            layers = cast(tuple[Layer, ...], value)
            return [[[layer.operation, layer.local, *layer.arguments] for layer in layers]]
        case float():
            return [float(np.float32(value))]
        case _:
            return [value]


def encode(sequence: int, request: Request) -> bytes:
    """The CBOR of a request. Floats are as short as they can be without loss from float32."""
    items = [request.CODE]
    for name, value in vars(request).items():  # as the class declares its fields
        if value or name not in _LEFT_OUT:
            items += _flat(value)
    return cbor2.dumps([sequence, items], canonical=True)


def decode(body: bytes) -> tuple[int, Response] | None:
    """Sequence number and response; None where the body is no response of the protocol."""
    stream = io.BytesIO(body)
    try:
        sequence, (code, *values) = _list(cbor2.load(stream))
        cls = _RESPONSES[code] if type(code) is int else None
        part: Any = Chunk(*values) if cls is Updated else cls and cls(*values)
    except Exception:  # whatever cbor2 makes of tags and numbers that no node sends
        return None
    parts_fit = part and all(_fits(getattr(part, each.name), each) for each in fields(part))
    if not parts_fit or stream.read() or type(sequence) is not int or not 0 <= sequence < 2**32:
        return None
    return sequence, Updated(part) if cls is Updated else part


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return cast(list[Any], value)


def _fits(value: object, field: Field[Any]) -> bool:
    """Whether the value is of the field's type and size."""
    if type(value) is not field.type:
        return False
    if isinstance(value, int):
        return 0 <= value < 2 ** field.metadata.get("bits", 32)
    size = field.metadata.get("size")
    return size is None or (isinstance(value, bytes) and len(value) == size)
