"""A node's primitives: load a model, set weights, train, evaluate, make an update."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..energy.profile import Counts, Pricer, Profile, total
from ..errors import TinyMetaFedError
from ..link import Connection, Error, Fault, Hello, chunk, frame, messages
from ..link.messages import UNASKED
from ..models.model import Model
from ..tasks.samples import Samples
from .transport import NodeLost, OpenTransport, PooledTransport, Transport

log = logging.getLogger(__name__)
T = TypeVar("T", bound=messages.Response)

CHUNK_OVERHEAD = 48
"""Bytes of a message's CBOR around the data of a chunk or of samples, at most: seven heads of up to
five bytes, and what the lists take."""


class NodeRefused(TinyMetaFedError):
    """A node's error response."""

    def __init__(self, node: str, request: str, error: Error) -> None:
        memory = f" ({error.needed} bytes needed, {error.available} available)"
        super().__init__(
            f"{node} refused '{request}': {error.message}{memory if error.needed else ''}"
        )
        self.error = error


Traffic = dict[str, int]
"""Bytes by request."""


@dataclass(frozen=True)
class Usage:
    """What a node did over some time.

    Samples reach a real node from its sensors. Their bytes pass the link here because nothing else
    leads into an emulated node, and are counted apart: they are no communication.
    """

    down: Traffic = field(default_factory=dict)  # bytes on the link by request,
    up: Traffic = field(default_factory=dict)  # framing, repetitions included, samples not
    bytes_sensor: int = 0
    profile: Profile | None = None  # None: nothing was counted
    uncounted: bool = False  # some of it was lost, so that the profile would be wrong

    @property
    def bytes_down(self) -> int:
        """Of all requests."""
        return sum(self.down.values())

    @property
    def bytes_up(self) -> int:
        """Of all requests."""
        return sum(self.up.values())

    def __add__(self, other: "Usage") -> "Usage":
        if _UNUSED in (self, other):
            return other if self == _UNUSED else self
        uncounted = self.uncounted or other.uncounted
        return Usage(
            dict(Counter(self.down) + Counter(other.down)),
            dict(Counter(self.up) + Counter(other.up)),
            self.bytes_sensor + other.bytes_sensor,
            None if uncounted else total(p for p in (self.profile, other.profile) if p),
            uncounted,
        )


_UNUSED = Usage()


@dataclass(frozen=True)
class Broadcast:
    """Weights that nodes are to be brought to.

    theta: float32 [parameters]. changed: int64 [parameters], the version in which an entry last
    changed. version: of theta, from 1 on.
    """

    theta: NDArray[np.float32]
    changed: NDArray[np.int64]
    version: int
    _requests: dict[tuple[int, int], list[messages.Weights]] = field(
        default_factory=dict, repr=False
    )

    def requests(self, base: int, capacity: int) -> list[messages.Weights]:
        """What lifts a node from version `base` (0: it holds nothing) in chunks of at most
        `capacity` bytes; at least one. Made once for all nodes that stand there."""
        if (base, capacity) not in self._requests:
            marked = self.changed > base if base else np.ones(len(self.theta), dtype=np.bool_)
            pieces = list(chunk.encode(self.theta, marked, 0, len(self.theta), capacity))
            pieces = pieces or [chunk.Chunk(0, 0, chunk.DENSE, b"")]
            self._requests[base, capacity] = [
                messages.Weights(base, self.version, i == len(pieces), piece)
                for i, piece in enumerate(pieces, 1)
            ]
        return self._requests[base, capacity]


@dataclass(frozen=True)
class Evaluation:
    """Mean loss over the samples, and the share of right classes (0 where there are none)."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Delta:
    """The entries of an update that a node sent.

    indices: int64 [k], ascending. values: float32 [k]. samples: that it learnt from, where the
    strategy weighs by them.
    """

    indices: NDArray[np.int64]
    values: NDArray[np.float32]
    samples: int = 1

    @classmethod
    def nothing(cls) -> "Delta":
        """Of a node that sends none."""
        return cls(np.empty(0, np.int64), np.empty(0, np.float32))


Residual = NDArray[np.float32]
"""What a node keeps of its updates since it was not sent: float32 [parameters]."""
_UNKNOWN: Residual = np.empty(0, np.float32)


_NOTHING = nullcontext()


@dataclass(frozen=True)
class NodeState:
    """What a node is between two pieces of work, but for the weights that it holds and its
    residual: others of the same model take its place by it.

    version: of these weights. untouched: nothing has moved the working weights since. sequence: of
    the last request. usage: see take_usage.
    """

    version: int
    untouched: bool
    sequence: int
    usage: Usage


def _unwatched(request: messages.Request) -> AbstractAsyncContextManager[None]:
    del request
    return _NOTHING


@dataclass
class Node:
    """One node over any backend.

    Attributes:
        name: what messages call it.
        open_transport: starts it.
        timeout: seconds until a request is sent again.
        attempts: how often a request is sent before the node counts as lost.
        pricing: of its program, where its backend counts.
        watch: entered around each request, where its backend looks at some of them.
        version: of the weights that the node holds; 0 for none.
    """

    name: str
    open_transport: OpenTransport
    timeout: float = 20.0
    attempts: int = 3
    pricing: Pricer | None = None
    watch: Callable[[messages.Request], AbstractAsyncContextManager[None]] = _unwatched
    version: int = 0

    _transport: Transport | None = None
    _pooled: PooledTransport | None = None  # the same, where it is one
    _connection: Connection = field(default_factory=Connection)
    _load: messages.Load | None = None
    _loaded: bytes = b""  # its frame
    _held: Broadcast | None = None
    _untouched: bool = False  # working weights are those that are held
    _resting: bool = False
    _residual: Residual | None = None  # that the node has; None: all of it is zero
    _down: Traffic = field(default_factory=dict)  # since take_usage, as in Usage
    _up: Traffic = field(default_factory=dict)
    _sensor: int = 0
    _carried: Usage | None = None
    _before: Counts | None = None  # when take_usage last looked, of this transport
    _asked: bool = False  # anything, since then
    _uncounted: bool = False  # a transport was closed since then

    async def start(self) -> Hello:
        """Boots the node and waits for its hello. Raises TinyMetaFedError."""
        await self.close()
        self._connection = Connection()
        self._transport = await self.open_transport()
        self._pooled = self._transport if isinstance(self._transport, PooledTransport) else None
        try:  # it says hello by itself, unless it booted before anybody listened
            async with asyncio.timeout(self.timeout / 4):
                hello = await self._answer(self._transport, Hello, "hello")
        except TimeoutError:
            hello = await self.greet()
        if hello.protocol != messages.PROTOCOL:
            raise TinyMetaFedError(
                f"{self.name} speaks version {hello.protocol} of the protocol, the orchestrator "
                f"{messages.PROTOCOL}; build both from the same source ('make firmware')"
            )
        if self._connection.capacity < CHUNK_OVERHEAD + chunk.ENTRY_SIZE:
            raise TinyMetaFedError(
                f"{self.name} has a receive buffer of {hello.receive_buffer} bytes, which is too "
                "small for one parameter"
            )
        return hello

    @property
    def transport(self) -> Transport | None:
        """The way to the running node."""
        return self._transport

    @property
    def hello(self) -> Hello | None:
        """Who the node says that it is; None before its start."""
        return self._connection.hello

    async def restart(self) -> None:
        """Boots the node anew, with the model that it had."""
        await self.start()
        if self._load is not None:
            await self._request(self._load, messages.Loaded)

    def state(self) -> NodeState:
        """Of a node that rests; take_usage is called by that."""
        return NodeState(
            self.version, self._untouched, self._connection.sequence, self.take_usage()
        )

    def become(self, state: NodeState, broadcast: Broadcast) -> None:
        """Takes the place of another node, or comes back, before it works with `broadcast`. What
        of its weights is not in there anyway, the broadcast replaces."""
        self.take_usage()
        self.rest()  # so that its residual is unknown
        self.version, self._untouched = state.version, state.untouched
        self._held = broadcast if state.version else None
        self._connection.sequence = state.sequence
        self._carried = state.usage

    def rest(self) -> None:
        """The node keeps its model and the weights that it holds, but nothing else, until it is
        asked for something again. Where many share the memory of few, this gives it back."""
        if self._pooled is not None and self._load is not None:
            self._pooled.rest()
            self._resting = True
            if self._load.keeps:
                self._residual = _UNKNOWN

    async def close(self) -> None:
        """Ends the node."""
        self.version, self._held, self._untouched, self._resting = 0, None, False, False
        self._residual = None
        if self._transport is not None:
            transport, self._transport, self._pooled = self._transport, None, None
            self._uncounted = self.pricing is not None
            self._before = None
            await transport.close()

    def take_usage(self) -> Usage:
        """What the node did since the last call."""
        profile = self._take_profile()
        uncounted = profile is None and self.pricing is not None
        usage = Usage(self._down, self._up, self._sensor, profile, uncounted)
        if self._carried is not None:
            usage, self._carried = self._carried + usage, None
        self._down, self._up, self._sensor = {}, {}, 0
        self._asked = self._uncounted = False
        return usage

    def carry(self, usage: Usage) -> None:
        """Counts what another node did in this one's place."""
        self._carried = usage if self._carried is None else self._carried + usage

    def _take_profile(self) -> Profile | None:
        """What the node executed since the last look; None, and a warning, where that is unknown: a
        count that would be wrong is not summed."""
        counts = self._transport.counts() if self._transport else None
        if counts is None or self.pricing is None:
            return None
        before, self._before = self._before, counts
        delta = counts if before is None else counts.since(before)
        if self._uncounted:
            problem = "it was started again"
        elif delta is None:
            problem = "its counters went back"
        elif self._asked and not delta.moved:
            problem = "its counters stand still although it answers"
        elif delta.lost:
            problem = "it executed more blocks of code than can be counted"
        else:
            return self.pricing.profile(delta)
        log.warning("%s: %s; what it executed is not counted", self.name, problem)
        return None

    @contextmanager
    def not_counted(self) -> Iterator[None]:
        """What the node does meanwhile is no part of what the next take_usage returns."""
        usage = self.take_usage()
        try:
            yield
        finally:
            self.take_usage()
            self._carried = usage

    async def greet(self) -> Hello:
        """Asks the node who it is. Raises NodeLost where it does not answer."""
        return await self._request(messages.HelloRequest(), Hello)

    async def renumber(self) -> None:
        """Has requests numbered from the same number on, whatever came before: the few instructions
        that a message takes depend on its bytes. Not counted."""
        with self.not_counted():
            self._connection.sequence = UNASKED
            await self.greet()  # answered under any number

    async def load(
        self, model: Model, *, accumulate: bool, capacity: int, keeps: bool = False
    ) -> messages.Loaded:
        """Describes the model. Raises NodeRefused where it does not fit."""
        self.version, self._held, self._untouched, self._residual = 0, None, False, None
        self._load = model.description(accumulate=accumulate, capacity=capacity, keeps=keeps)
        self._loaded = frame.encode(messages.encode(1, self._load))
        return await self._request(self._load, messages.Loaded)

    async def set_weights(self, broadcast: Broadcast) -> None:
        """Brings the node's weights to the broadcast's version and starts its working weights from
        them. Only what changed since the node's own version is sent; nothing where the node stands
        there already."""
        if self._untouched and self.version == broadcast.version:
            return
        # From older to newer only what changed; back to an older version, everything.
        base = self.version if self.version <= broadcast.version else 0
        self._wake()
        self.version, self._held = 0, None  # until the last piece has arrived
        for request in broadcast.requests(base, self._connection.capacity - CHUNK_OVERHEAD):
            await self._request(request, messages.Done)
        self.version, self._held, self._untouched = broadcast.version, broadcast, True

    async def hold(self, theta: NDArray[np.float32], version: int) -> None:
        """Brings the node to weights of a version that it had; 0 for none. Of these, what has not
        changed since is in θ, float32 [parameters]; the rest the next broadcast replaces. No part
        of a federation's work: not counted."""
        with self.not_counted():
            if version:
                changed = np.full(len(theta), version)
                await self.set_weights(Broadcast(theta, changed, version))
        if not version:
            self.version, self._held, self._untouched = 0, None, False

    async def train(
        self, samples: Samples | None, *, rate: float, frozen: int = 0, batch: int = 1,
        epochs: int = 1,
    ) -> float:  # fmt: skip
        """SGD on the samples in their order, used once and dropped; on the stored ones with None.

        Returns the mean loss over the samples, each before its step.
        """
        self._untouched = False
        if samples is None:
            request = messages.Train(rate, frozen, batch, epochs, None)
            return (await self._request(request, messages.Trained)).loss
        if epochs > 1:
            raise ValueError("samples that are dropped after use make one epoch: store them first")
        total = 0.0
        for piece in self._pieces(samples, batch):
            request = messages.Train(rate, frozen, batch, 1, piece.packed)
            total += (await self._request(request, messages.Trained)).loss * len(piece)
        return total / len(samples)

    async def store(self, samples: Samples) -> None:
        """Puts the samples into the node's memory, in place of those there."""
        append = False
        for piece in self._pieces(samples):
            await self._request(messages.Store(append, piece.packed), messages.Done)
            append = True

    async def evaluate(self, samples: Samples) -> Evaluation:
        """Judges the working weights."""
        loss = correct = 0.0
        for piece in self._pieces(samples):
            result = await self._request(messages.Evaluate(piece.packed), messages.Evaluated)
            loss += result.loss
            correct += result.correct
        return Evaluation(loss / len(samples), correct / len(samples))

    async def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """inputs: float32 [n, inputs]; returns the model's outputs, float32 [n, outputs]."""
        inputs = inputs.astype("<f4")
        size = max(1, inputs[:1].nbytes)
        room = max(1, (self._connection.capacity - CHUNK_OVERHEAD) // size)
        found: list[NDArray[np.float32]] = []
        for first in range(0, len(inputs), room):
            piece = inputs[first : first + room]
            request = messages.Predict(piece.tobytes())
            values = (await self._request(request, messages.Outputs)).values
            found.append(np.frombuffer(values, "<f4").astype(np.float32).reshape(len(piece), -1))
        return np.concatenate(found)

    async def update(
        self, runs: list[tuple[int, int]], keep: int, values: str = "float32"
    ) -> Delta:
        """The `keep` entries of largest magnitude of what training did to the global part, which
        lies in `runs` of (first, end), with the residual added where the node keeps one. values:
        how they are sent, a key of chunk.VALUES."""
        self._untouched = False
        if self._load is not None and self._load.keeps:
            self._residual = _UNKNOWN
        selected = await self._request(
            messages.Select(keep, chunk.VALUES[values]), messages.Selected
        )
        indices: list[NDArray[np.int64]] = []
        found: list[NDArray[np.float32]] = []
        left = selected.entries
        for first, end in runs:
            while first < end and left > 0:
                where, what, count = await self._piece(messages.Update(first, end))
                if len(what) == count:  # dense: zeros stand for what is not marked
                    sent = what != 0
                    where, what = where[sent], what[sent]
                indices.append(where)
                found.append(what)
                left -= len(what)
                first += count
        if left != 0:
            raise NodeLost(f"{self.name} sent another number of entries than it had marked")
        if not indices:
            return Delta.nothing()
        if len(indices) == 1:
            return Delta(indices[0], found[0])
        return Delta(np.concatenate(indices), np.concatenate(found))

    async def _piece(
        self, request: messages.Update | messages.Residual
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
        """What the node has from `first` on: indices, values, and entries that these are of."""
        piece = (await self._request(request, messages.Updated)).chunk
        room = request.end - request.first
        if piece.count == 0 or piece.first != request.first or piece.count > room:
            raise NodeLost(f"{self.name} sent another part of its update than asked for")
        try:
            return *chunk.decode(piece), piece.count
        except chunk.ChunkError as error:
            raise NodeLost(f"{self.name} sent a part of its update: {error}") from None

    async def get_residual(self, model: Model) -> Residual:
        """What the node keeps of its updates. A look into the node, as no server would have it: not
        counted."""
        pieces: list[NDArray[np.float32]] = []
        first = 0
        with self.not_counted():
            while first < model.parameters:
                request = messages.Residual(first, model.parameters)
                _, values, count = await self._piece(request)
                if len(values) != count:
                    raise NodeLost(f"{self.name} left out a part of its residual")
                pieces.append(values)
                first += count
        self._residual = np.concatenate(pieces)
        return self._residual

    async def set_residual(self, model: Model, residual: Residual | None) -> None:
        """Brings the node to a residual that it had, None standing for zeros; nothing is sent where
        it has it. Not counted, as above."""
        if residual is self._residual:
            return
        self._residual = _UNKNOWN  # until the last piece has arrived
        values = np.zeros(model.parameters, np.float32) if residual is None else residual
        every, capacity = np.ones(len(values), np.bool_), self._connection.capacity - CHUNK_OVERHEAD
        with self.not_counted():
            for piece in chunk.encode(values, every, 0, len(values), capacity):
                await self._request(messages.Restore(piece), messages.Done)
        self._residual = residual

    def _pieces(self, samples: Samples, batch: int = 1) -> Iterator[Samples]:
        """As many samples at a time as a request holds, in whole mini-batches. Raises ValueError
        where there are none."""
        if len(samples) == 0 or batch < 1:
            raise ValueError(f"{len(samples)} samples in mini-batches of {batch}")
        room = (self._connection.capacity - CHUNK_OVERHEAD) // samples.size
        if room < batch:
            raise TinyMetaFedError(
                f"{self.name}: {batch} samples of {samples.size} bytes do not fit into its receive "
                f"buffer of {self._connection.receive_buffer} bytes; store them on the node or use "
                "smaller mini-batches"
            )
        step = room // batch * batch
        if len(samples) <= step:
            yield samples
            return
        for first in range(0, len(samples), step):
            yield samples[first : first + step]

    async def _request(self, request: messages.Request, expected: type[T]) -> T:
        name = _name(type(request))
        samples = len(getattr(request, "samples", None) or b"")
        data = self._connection.send(request)
        transport = self._transport
        if transport is None:
            raise NodeLost(f"{self.name} is not running")
        self._asked = True
        self._wake()
        async with self.watch(request):
            for _ in range(self.attempts):
                self._sensor += samples
                self._down[name] = self._down.get(name, 0) + len(data) - samples
                try:
                    # A node in this process answers while it is written to.
                    async with _NOTHING if transport.immediate else asyncio.timeout(self.timeout):
                        await transport.write(data)
                        return await self._answer(transport, expected, name)
                except TimeoutError:
                    data = self._connection.resend()
        raise NodeLost(
            f"{self.name} did not answer '{name}', sent {self.attempts} times, "
            f"within {self.timeout:g} s each; {transport.said()}"
        )

    def _wake(self) -> None:
        if self._resting and self._pooled is not None:
            theta = self._held.theta if self._held else None
            self._pooled.wake(self._loaded, theta, self.version)
            self._resting = False

    async def _answer(self, transport: Transport, expected: type[T], name: str) -> T:
        while True:
            data = await transport.read()
            self._up[name] = self._up.get(name, 0) + len(data)
            for event in self._connection.receive(data):
                if isinstance(event, expected):
                    return event
                raise self._unexpected(event, name)

    def _unexpected(self, event: messages.Response, name: str) -> TinyMetaFedError:
        match event:
            case Error():
                return NodeRefused(self.name, name, event)
            case Fault():
                return NodeLost(
                    f"{self.name}: HardFault at pc {event.pc:#010x}, lr {event.lr:#010x}, "
                    f"CFSR {event.cfsr:#010x}, HFSR {event.hfsr:#010x}, "
                    f"address {event.address:#010x}"
                )
            case Hello():
                return NodeLost(f"{self.name} has restarted by itself")
            case _:
                answer = _name(type(event))
                return NodeLost(f"{self.name} answered '{name}' with {answer}")


@cache
def _name(message: type[messages.Request | messages.Response]) -> str:
    return message.__name__.removesuffix("Request").lower()
