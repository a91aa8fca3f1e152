"""The messages of firmware/protocol.cddl, which says what their fields mean."""

import io
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, get_args

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

_ENCODER = cbor2.CBOREncoder(io.BytesIO(), canonical=True)  # to make one costs more than a message


def encode(sequence: int, request: Request) -> bytes:
    """The CBOR of a request. Floats are as short as they can be without loss from float32."""
    items = [request.CODE, *vars(request).values()]  # as the class declares its fields
    match request:
        case Load(layers=layers, keeps=keeps):
            items[5:] = [[[layer.operation, layer.local, *layer.arguments] for layer in layers]]
            items += [True] if keeps else []  # else it is left out
        case Weights(chunk=piece) | Restore(chunk=piece):
            items[-1:] = vars(piece).values()
        case Train(rate=rate):
            items[1] = float(np.float32(rate))
        case Select(values=chunk.FLOAT32):
            del items[-1]  # it is left out
        case _:
            pass
    return _ENCODER.encode_to_bytes([sequence, items])


def decode(body: bytes) -> tuple[int, Response] | None:
    """Sequence number and response; None where the body is no response of the protocol."""
    stream = io.BytesIO(body)
    try:
        message = cbor2.load(stream)
        sequence, part = message
        code, *values = part
        cls, limits = _RESPONSES[code]
        found = Updated(Chunk(*values)) if cls is Updated else cls(*values)
    except Exception:  # whatever cbor2 makes of tags and numbers that no node sends
        return None
    if type(message) is not list or type(part) is not list or stream.read(1):
        return None
    if not (_fits(sequence, _UINT32) and _fits(code, _UINT32) and all(map(_fits, values, limits))):
        return None
    return sequence, found


@dataclass(frozen=True)
class _Limit:
    """Of a field: its type; of a number, the first too large; of bytes, how many where that is
    fixed."""

    type: Any
    end: int = 2**32
    size: int | None = None


_UINT32 = _Limit(int)


def _fits(value: object, limit: _Limit) -> bool:
    if type(value) is not limit.type:
        return False
    if isinstance(value, int):
        return 0 <= value < limit.end
    return limit.size is None or (isinstance(value, bytes) and len(value) == limit.size)


def _limits(message: type[Any]) -> list[_Limit]:
    found: list[_Limit] = []
    for each in fields(message):
        if each.type is Chunk:
            found += _limits(Chunk)
        else:
            found.append(
                _Limit(each.type, 2 ** each.metadata.get("bits", 32), each.metadata.get("size"))
            )
    return found


_RESPONSES: dict[int, tuple[type[Any], list[_Limit]]] = {
    message.CODE: (message, _limits(message)) for message in get_args(Response)
}
