"""The messages of firmware/protocol.cddl, which says what their fields mean."""

import io
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, ClassVar, cast, get_args

import cbor2
import numpy as np

from ..errors import printable
from . import chunk
from .chunk import Chunk

PROTOCOL = 5
UNASKED = 0  # the sequence number of what a node sends by itself
MOST_REQUESTS = 22
"""Requests in a frame, at most: its list's head is one byte then."""
RESIDUAL, MARK, VARIATE = 1, 2, 4
"""Bits of Load.room."""
GLOBAL, LOCAL, FROZEN = 0, 1, 2
"""Values of Layer.part."""
FROM_MARK, CORRECTED = 1, 2
"""Bits of Train.options."""
REGISTERS: tuple[str, ...] = (
    "r0", "r1", "r2", "r3", "r12", "lr", "pc", "xpsr", "sp", "cfsr", "hfsr", "mmfar", "bfar",
)  # fmt: skip
"""Of a fault, in their order."""
PHASES = "idle", "receive", "reconstruct", "learn", "select", "evaluate", "send"
"""Of a node's work, in the order in which it tells their cycles."""


@dataclass(frozen=True)
class HelloRequest:
    """Who are you?"""

    CODE: ClassVar = 0


@dataclass(frozen=True)
class Layer:
    """One layer of a model as the node is told it."""

    operation: int
    part: int
    arguments: tuple[int, ...]


@dataclass(frozen=True)
class Load:
    CODE: ClassVar = 1
    inputs: int
    loss: int
    accumulate: bool
    capacity: int
    layers: tuple[Layer, ...]
    room: int = 0
    in_flash: int | None = None


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
    proximal: float = 0.0  # rounded to float32
    options: int = 0


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


@dataclass(frozen=True)
class Mark:
    CODE: ClassVar = 11


@dataclass(frozen=True)
class Variate:
    CODE: ClassVar = 12
    chunk: Chunk


@dataclass(frozen=True)
class Renew:
    CODE: ClassVar = 13
    rate: float  # rounded to float32


@dataclass(frozen=True)
class Part:
    CODE: ClassVar = 14
    first: int
    samples: bytes


@dataclass(frozen=True)
class Backbone:
    CODE: ClassVar = 15
    chunk: Chunk


@dataclass(frozen=True)
class Cycles:
    CODE: ClassVar = 16


Request = (
    HelloRequest | Load | Weights | Train | Store | Evaluate | Predict | Select | Update
    | Residual | Restore | Mark | Variate | Renew | Part | Backbone | Cycles
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
    parameters: int | None = None
    checksum: int | None = None

    @property
    def backbone(self) -> tuple[int, int] | None:
        """Number and checksum of the frozen parameters in the node's flash; None without."""
        if self.parameters is None or self.checksum is None:
            return None
        return self.parameters, self.checksum


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


def cycles_by_phase(answer: Outputs) -> dict[str, int] | None:
    """Cycles of each phase since the counter was started; None where it stands still."""
    if len(answer.values) != 8 * len(PHASES):
        return None
    return dict(zip(PHASES, np.frombuffer(answer.values, "<u8").tolist(), strict=True))


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
    exception: int
    reason: int
    registers: bytes = field(metadata={"size": 4 * len(REGISTERS)})

    @property
    def by_name(self) -> dict[str, int]:
        """The registers."""
        words = np.frombuffer(self.registers, "<u4").tolist()
        return dict(zip(REGISTERS, words, strict=True))


Response = (
    Hello | Loaded | Done | Trained | Evaluated | Outputs | Selected | Updated | Error | Fault
)

_ENCODER = cbor2.CBOREncoder(io.BytesIO(), canonical=True)  # to make one costs more than a message


_LIST, _BYTES = 0x80, 0x40  # the major types of CBOR that are put together by hand


def _head(major: int, length: int) -> bytes:
    """The head of an item of CBOR (RFC 8949, section 3)."""
    if length < 24:
        return bytes([major + length])
    size = 1 if length < 2**8 else 2 if length < 2**16 else 4
    return bytes([major + 23 + size.bit_length()]) + length.to_bytes(size, "big")


def _items(request: Request) -> list[Any]:
    """A request as the list of protocol.cddl. Floats are rounded to float32."""
    items = [request.CODE, *vars(request).values()]  # as the class declares its fields
    match request:
        case Load(layers=layers, room=room, in_flash=in_flash):
            items[5:] = [[[layer.operation, layer.part, *layer.arguments] for layer in layers]]
            items += [room] if room or in_flash is not None else []  # else it is left out
            items += [] if in_flash is None else [in_flash]
        case (
            Weights(chunk=piece)
            | Restore(chunk=piece)
            | Variate(chunk=piece)
            | Backbone(chunk=piece)
        ):
            items[-1:] = vars(piece).values()
        case Train(rate=rate, proximal=proximal, options=options):
            items[1] = float(np.float32(rate))
            items[6:] = [float(np.float32(proximal))] if proximal else []
            items += [options] if options else []
        case Renew(rate=rate):
            items[1] = float(np.float32(rate))
        case Select(values=chunk.FLOAT32):
            del items[-1]  # it is left out
        case _:
            pass
    return items


def encode_request(request: Request) -> bytes:
    """The CBOR of a request. Floats are as short as they can be without loss from float32."""
    return _ENCODER.encode_to_bytes(_items(request))


def around_samples(request: Train | Store | Evaluate | Part, size: int) -> tuple[bytes, bytes]:
    """The CBOR of a request with `size` bytes of samples in place of its own: what comes before
    these bytes, and what comes behind them."""
    items = _items(request)
    place = 1 + list(vars(request)).index("samples")
    before = b"".join(map(_ENCODER.encode_to_bytes, items[:place]))
    behind = b"".join(map(_ENCODER.encode_to_bytes, items[place + 1 :]))
    return _head(_LIST, len(items)) + before + _head(_BYTES, size), behind


def body_head(sequence: int, requests: int) -> bytes:
    """What comes before the requests of a frame. Raises ValueError where they are too many."""
    if not 1 <= requests <= MOST_REQUESTS:
        raise ValueError(f"{requests} requests in a frame, which holds 1 to {MOST_REQUESTS}")
    return _head(_LIST, 1 + requests) + _head(0, sequence)


def encode(sequence: int, *requests: Request) -> bytes:
    """The body of a frame."""
    return body_head(sequence, len(requests)) + b"".join(map(encode_request, requests))


@dataclass(frozen=True)
class Answers:
    """What a frame from the node has: the answers to a frame's requests in their order, or what the
    node sends unasked. sizes: bytes of each, without what frames them."""

    sequence: int
    responses: tuple[Response, ...]
    sizes: tuple[int, ...]


def decode(body: bytes) -> Answers | None:
    """None where the body is no response of the protocol."""
    if (found := parts(body)) is None:
        return None
    sequence, every, sizes = found
    try:
        responses = [_response(part) for part in every]
    except Exception:  # whatever comes of numbers that no node sends
        return None
    if None in responses:
        return None
    return Answers(sequence, cast("tuple[Response, ...]", tuple(responses)), sizes)


def parts(body: bytes) -> tuple[int, list[Any], tuple[int, ...]] | None:
    """The number of a frame, and the items of its messages with the bytes of each, as CBOR has
    them. None where the body is no list of such."""
    stream = io.BytesIO(body)
    decoder = cbor2.CBORDecoder(stream)
    count = body[0] - _LIST - 1 if body else 0
    if not 1 <= count <= MOST_REQUESTS:
        return None
    stream.read(1)
    found: list[Any] = []
    ends: list[int] = []
    try:
        sequence = decoder.decode()
        for _ in range(count):
            ends.append(stream.tell())
            found.append(decoder.decode())
    except Exception:  # whatever cbor2 makes of tags and numbers that no node sends
        return None
    ends.append(stream.tell())
    if not _fits(sequence, _UINT32) or stream.read(1):
        return None
    return sequence, found, tuple(end - start for start, end in pairwise(ends))


def _response(part: Any) -> Response | None:
    if type(part) is not list:
        return None
    code, *values = cast("list[Any]", part)  # an empty one is a ValueError
    if not _fits(code, _UINT32) or code not in _RESPONSES:
        return None
    cls, limits = _RESPONSES[code]
    whole = len(values) == len(limits) or (cls is Hello and len(values) == len(limits) - 2)
    if not whole or not all(map(_fits, values, limits)):
        return None
    for i, value in enumerate(values):
        if isinstance(value, str):
            values[i] = printable(value)
    return Updated(Chunk(*values)) if cls is Updated else cls(*values)


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
                _Limit(
                    int if each.type == int | None else each.type,
                    2 ** each.metadata.get("bits", 32),
                    each.metadata.get("size"),
                )
            )
    return found


_RESPONSES: dict[int, tuple[type[Any], list[_Limit]]] = {
    message.CODE: (message, _limits(message)) for message in get_args(Response)
}
