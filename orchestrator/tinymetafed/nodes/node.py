"""A node over any backend: it boots, is told of its model, and carries out programs."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..energy.profile import Pricer
from ..errors import TinyMetaFedError
from ..link import Answers, Connection, Hello, Response, chunk, messages
from ..models.model import Model
from ..tasks.samples import Samples, as_inputs, check
from . import fault
from .answers import NodeRefused, checked, not_finite
from .broadcast import CHUNK_OVERHEAD, Broadcast
from .events import NodeEvent
from .meter import Meter, take_together
from .noise import Noise
from .outcome import Collected, Evaluation, Outcome, entries_of, evaluation
from .packing import WEIGHTS, Frame, Piece, Room, pack
from .program import Evaluate, Program
from .recording import Tap
from .transport import LinkTooNoisy, NodeHung, NodeLost, OpenTransport, Transport
from .usage import Usage

CLOCK = 64e6
"""Cycles a second by which a node's own time is reckoned: the nRF52840's."""
GOES_ROUND = 2**32 / 200e6
"""Seconds in which a counter of 32 bits may go round, on boards with up to 200 MHz."""
BOOT_PATIENCE = 10.0
"""Seconds of its own time that a node may compute before it says hello."""
GRACE = 0.2
"""Seconds for the answer of a node that had just ended its work when it was looked at."""
Vector = NDArray[np.float32]
"""What a node keeps from round to round: float32 [parameters]."""
_UNKNOWN: Vector = np.empty(0, np.float32)
_NOTHING = nullcontext()


class _Unheard(TimeoutError):
    """Noise on the link has taken a frame, so that nobody has to wait for an answer."""


def _unwatched(requests: Sequence[str]) -> AbstractAsyncContextManager[None]:
    del requests
    return _NOTHING


@dataclass
class Node:
    """One node over any backend.

    Attributes:
        name: what messages call it.
        open_transport: starts it.
        timeout: seconds without an answer until the node is looked at, and a frame is sent again
            where it is not computing.
        patience: seconds of its own time, at CLOCK and an instruction a cycle, that a node may
            compute for a frame, where its backend counts.
        attempts: how often a frame is sent before the node counts as lost.
        pricing: of its program, where its backend counts.
        watch: entered around each frame, with the names of its requests, where the node's backend
            looks at some of them.
        switch: has what it executes counted or not, where its backend can tell it to; without it
            is counted where that can be at all.
        noise: on its link; None where there is none.
        tap: is shown every frame; None where nobody looks.
        version: of the weights that the node holds; 0 for none.
        image: what it runs, where its backend runs one: for the places of its faults.
        measures: it is asked for its cycles.
    """

    name: str
    open_transport: OpenTransport
    timeout: float = 20.0
    attempts: int = 3
    patience: float = 3600.0
    pricing: Pricer | None = None
    watch: Callable[[Sequence[str]], AbstractAsyncContextManager[None]] = _unwatched
    switch: Callable[[bool], Awaitable[None]] | None = None
    noise: Noise | None = None
    tap: Tap | None = None
    version: int = 0
    image: Path | None = None
    measures: bool = False

    _events: list[NodeEvent] = field(default_factory=list[NodeEvent])
    _device: int | None = None
    _transport: Transport | None = None
    _connection: Connection = field(default_factory=Connection)
    _model: Model | None = None
    _load: messages.Load | None = None
    _kept: Vector | None = None  # that the node has; None: all of it is zero
    _cycles: dict[str, int] | None = None  # that it told last
    _longest: float = 0.0  # seconds of a frame's exchange, since then
    _measured: bool = False  # what is asked is no part of a round
    _meter: Meter = field(init=False)

    def __post_init__(self) -> None:
        self._meter = Meter(self.name, self.pricing)

    async def start(self) -> Hello:
        """Boots the node and waits for its hello. Raises TinyMetaFedError."""
        await self.close()
        before, sequence = self._connection.hello, self._connection.sequence
        self._connection = Connection()
        self._connection.sequence = sequence
        if self.noise is not None:
            self.noise.booted()
        if self.tap is not None:
            self.tap.booted()
        self._transport = await self.open_transport()
        try:  # it says hello by itself, unless it booted before anybody listened
            answers = await self._awaited(self._transport, ["hello"], self.timeout / 4)
            (hello,) = checked(self.name, ["hello"], answers, self.image)
        except TimeoutError:
            hello = await self.greet()
        assert isinstance(hello, Hello)
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
        if before is not None and hello.build != before.build:
            raise TinyMetaFedError(
                f"{self.name} has another build of the firmware than before ({hello.build.hex()}, "
                f"before {before.build.hex()}): its image was built anew meanwhile; begin the run "
                "again, or resume it with the image that it had"
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

    @property
    def capacity(self) -> int:
        """Bytes of a frame's body that the node takes, at most."""
        return self._connection.capacity

    @property
    def sequence(self) -> int:
        """The number of the last frame of a round; see Connection. It may be set where the node
        takes the place of one that had been asked more."""
        return self._connection.sequence

    @sequence.setter
    def sequence(self, number: int) -> None:
        self._connection.sequence = number

    async def restart(self) -> None:
        """Boots the node anew, with the model that it had."""
        await self.start()
        if self._load is not None:
            await self._describe(self._load)

    async def close(self) -> None:
        """Ends the node."""
        self.version, self._kept, self._cycles = 0, None, None
        if self._transport is not None:
            transport, self._transport = self._transport, None
            self._meter.ended()
            await transport.close()

    # ---- what it did ----

    def take_usage(self) -> Usage:
        """What the node did since the last call."""
        return take_usages([self])[0]

    def forget(self) -> None:
        """What the node did since the last call of take_usage is not counted. It is closed."""
        self._meter.forget()

    def note(self, event: NodeEvent) -> None:
        """Notes an event, under the device that the node plays."""
        self._events.append(replace(event, device=self._device))

    @contextmanager
    def playing(self, device: int) -> Iterator[None]:
        """The device whose task the node plays meanwhile, for its events."""
        before, self._device = self._device, device
        try:
            yield
        finally:
            self._device = before

    def take_events(self) -> list[NodeEvent]:
        """What was noted since the last call."""
        events, self._events = self._events, []
        return events

    def carry(self, usage: Usage) -> None:
        """Counts what another node did in this one's place."""
        self._meter.carry(usage)

    @contextmanager
    def not_counted(self) -> Iterator[None]:
        """What the node does meanwhile is a measurement: no part of what the next take_usage
        returns, nor of the numbers of a round's frames."""
        usage, measured = self.take_usage(), self._measured
        self._measured = True
        try:
            yield
        finally:
            self._measured = measured
            self.take_usage()
            self.carry(usage)

    # ---- what it is asked for ----

    async def greet(self) -> Hello:
        """Asks the node who it is. Raises NodeLost where it does not answer."""
        response = await self._request("hello", messages.HelloRequest())
        assert isinstance(response, Hello)
        return response

    async def load(self, model: Model, description: messages.Load) -> messages.Loaded:
        """Describes the model. Raises NodeRefused where it does not fit."""
        self.version, self._kept = 0, None
        self._model, self._load = model, description
        return await self._describe(description)

    async def _describe(self, description: messages.Load) -> messages.Loaded:
        """The model, and the frozen parameters, unless the node's image has them."""
        model = self._model
        assert model is not None
        assert self.hello is not None
        has = len(model.backbone) > 0 and self.hello.backbone == model.frozen_weights
        if has:
            description = replace(description, in_flash=model.frozen_weights[1])
        response = await self._request("load", description)
        assert isinstance(response, messages.Loaded)
        if response.parameters != model.parameters:
            raise TinyMetaFedError(
                f"{self.name} counts {response.parameters} parameters of the model, the "
                f"orchestrator {model.parameters}; build both from the same source "
                "('make firmware')"
            )
        if not has:
            await self._send_backbone(model.backbone)
        return response

    async def _send_backbone(self, backbone: NDArray[np.float32]) -> None:
        every = np.ones(len(backbone), np.bool_)
        room = self.capacity - CHUNK_OVERHEAD
        for piece in chunk.encode(backbone, every, 0, len(backbone), room):
            await self._request("backbone", messages.Backbone(piece))

    async def run(
        self,
        program: Program,
        support: Samples | None = None,
        query: Samples | None = None,
        broadcast: Broadcast | None = None,
    ) -> Outcome:
        """Carries out the program on these samples; where there is a broadcast, on its weights, of
        which only what has changed since the node's own version is sent.

        Raises NodeRefused, NodeLost, SamplesError, and what packing.pack raises.
        """
        assert self._model is not None
        samples = {"support": support, "query": query}
        check([one for one in samples.values() if one is not None], self._model)
        packed = {source: one.packed for source, one in samples.items() if one is not None}
        size = next((one.size for one in samples.values() if one is not None), 1)
        weights: Sequence[bytes] = ()
        if broadcast is not None:
            weights = broadcast.requests(self.version, self.capacity)
            self.version = 0  # until the last piece has arrived
        room = Room(
            len(support) if support else 0, len(query) if query else 0, size,
            self._model.global_runs, self.capacity,
        )  # fmt: skip
        if self._load is not None and self._load.room:
            self._kept = _UNKNOWN
        found: list[list[Response]] = [[] for _ in program]
        update = Collected(self.name, room.runs)
        for frame in pack(program, room, weights):
            await self._do(frame, packed, size, found, update, broadcast)
        if broadcast is not None:
            self.version = broadcast.version
        while frame := update.rest():
            await self._do(frame, packed, size, found, update, broadcast)
        return Outcome(tuple(map(tuple, found)), *update.entries())

    async def _do(
        self,
        frame: Frame,
        packed: dict[str, bytes],
        size: int,
        found: list[list[Response]],
        update: Collected,
        broadcast: Broadcast | None,
    ) -> None:
        """One frame of a program."""
        requests: list[bytes] = []
        sensor = 0
        for piece in frame:
            samples = [packed[source][a:b] for source, a, b in piece.ranges(size)]
            sensor += sum(map(len, samples))
            requests.append(b"".join((piece.before, *samples, piece.behind)))
        try:
            responses = await self._exchange(frame, requests, sensor)
            for piece, response in zip(frame, responses, strict=True):
                if piece.place != WEIGHTS and piece.name != "part":
                    found[piece.place].append(response)
                    update.take(piece, response)
        except NodeRefused as refused:
            if broadcast is not None and refused.request != "weights":
                self.version = broadcast.version
            raise

    async def set_counting(self, *, on: bool) -> None:
        """Whether what it executes from now on is counted, where its backend has a switch."""
        if self.switch is not None:
            await self.switch(on)
            if on:
                self._meter.look(self._transport)  # what came before is of no round

    async def set_weights(self, broadcast: Broadcast) -> None:
        """Brings the node's weights to the broadcast's version and starts its working weights from
        them."""
        await self.run((), broadcast=broadcast)

    async def hold(self, theta: NDArray[np.float32], version: int) -> None:
        """Brings the node to weights of a version that it had; 0 for none. Of these, what has not
        changed since is in θ, float32 [parameters]; the rest the next broadcast replaces. No part
        of a federation's work: not counted."""
        with self.not_counted():
            if version:
                changed = np.full(len(theta), version)
                await self.set_weights(Broadcast(theta, changed, version))
        self.version = version

    async def evaluate(self, samples: Samples) -> Evaluation:
        """Judges the working weights."""
        return evaluation(await self.run((Evaluate("query"),), query=samples), 0)

    @property
    def can_predict(self) -> bool:
        """Whether the outputs for a sample fit into an answer."""
        assert self._model is not None
        return 4 * self._model.outputs <= self.capacity - CHUNK_OVERHEAD

    async def predict(self, inputs: ArrayLike) -> NDArray[np.float32]:
        """inputs: float32 [n, inputs], or what is converted to these, see Samples; returns the
        model's outputs, float32 [n, outputs]. Raises SamplesError, NodeRefused, NodeLost."""
        assert self._model is not None
        inputs = as_inputs(inputs, self._model).astype("<f4")
        size = max(1, inputs[:1].nbytes)
        largest = max(size, 4 * self._model.outputs)  # both ways have to fit
        room = max(1, (self.capacity - CHUNK_OVERHEAD) // largest)
        found: list[NDArray[np.float32]] = []
        for first in range(0, len(inputs), room):
            piece = inputs[first : first + room]
            request = messages.Predict(piece.tobytes())
            if size > self.capacity - CHUNK_OVERHEAD:
                await self._send_in_parts(piece.tobytes())
                request = messages.Predict(b"")
            response = await self._request("predict", request)
            assert isinstance(response, messages.Outputs)
            if len(response.values) != 4 * len(piece) * self._model.outputs:
                raise NodeLost(f"{self.name} sent another number of outputs than it was asked for")
            values = np.frombuffer(response.values, "<f4").astype(np.float32)
            if not np.isfinite(values).all():
                raise not_finite(self.name, "predict")
            found.append(values.reshape(len(piece), -1))
        return np.concatenate(found)

    async def _send_in_parts(self, sample: bytes) -> None:
        """What does not fit into a frame."""
        for first in range(0, len(sample), self.capacity - CHUNK_OVERHEAD):
            part = sample[first:][: self.capacity - CHUNK_OVERHEAD]
            await self._request("part", messages.Part(first, part))

    async def get_kept(self) -> Vector:
        """What the node keeps from round to round. A look into the node, as no server would have
        it: not counted."""
        assert self._model is not None
        pieces: list[NDArray[np.float32]] = []
        first = 0
        with self.not_counted():
            while first < self._model.parameters:
                request = messages.Residual(first, self._model.parameters)
                response = await self._request("residual", request)
                _, values, count = entries_of(self.name, response, first, request.end)
                if len(values) != count or count == 0:
                    raise NodeLost(f"{self.name} left out a part of what it keeps")
                pieces.append(values)
                first += count
        self._kept = np.concatenate(pieces)
        return self._kept

    async def set_kept(self, kept: Vector | None) -> None:
        """Brings the node to what it had kept, None standing for zeros; nothing is sent where it
        has it. Not counted, as above."""
        if kept is self._kept:
            return
        assert self._model is not None
        self._kept = _UNKNOWN  # until the last piece has arrived
        values = np.zeros(self._model.parameters, np.float32) if kept is None else kept
        every, capacity = np.ones(len(values), np.bool_), self.capacity - CHUNK_OVERHEAD
        with self.not_counted():
            for piece in chunk.encode(values, every, 0, len(values), capacity):
                await self._request("restore", messages.Restore(piece))
        self._kept = kept

    async def take_cycles(self) -> dict[str, int] | None:
        """Cycles by phase since the last call, by the node's own counter; what asks for them is not
        counted. None where they are not known: nobody wants them, the counter stands still, the
        node has started since, or a frame took so long that the counter may have gone round."""
        if not self.measures:
            return None
        with self.not_counted():
            response = await self._request("cycles", messages.Cycles())
        assert isinstance(response, messages.Outputs)
        before, self._cycles = self._cycles, messages.cycles_by_phase(response)
        longest, self._longest = self._longest, 0.0
        if before is None or self._cycles is None:
            return None
        if longest > GOES_ROUND and self.pricing is None:  # an emulator's time is another
            return None
        return {phase: n - before[phase] for phase, n in self._cycles.items()}

    async def _request(self, name: str, request: messages.Request) -> Response:
        """One request in a frame of its own, and its answer."""
        encoded = messages.encode_request(request)
        (response,) = await self._exchange((Piece(name, 0, encoded),), [encoded], 0)
        return response

    # ---- frames ----

    async def _exchange(
        self, frame: Frame, requests: Sequence[bytes], sensor: int
    ) -> tuple[Response, ...]:
        """Sends a frame and returns the answers to its requests. sensor: bytes of samples in it."""
        transport = self._transport
        if transport is None:
            raise NodeLost(f"{self.name} is not running")
        names = [piece.name for piece in frame]
        # What boots a node has numbers apart, so that a round's frames have the same in each run.
        counted = not self._measured and names[0] not in ("hello", "load", "backbone")
        try:
            data = self._connection.send(requests, counted=counted)
        except ValueError as error:
            raise TinyMetaFedError(
                f"{self.name} cannot be sent '{names[0]}': {error}, as its hello says"
            ) from None
        unheard = False
        began = time.monotonic()
        async with self.watch(names):
            for attempt in range(self.attempts):
                self._meter.sent(frame, len(data), sensor)
                if attempt:
                    text = f"'{names[0]}' was sent again, {attempt} of {self.attempts - 1} times"
                    self.note(NodeEvent("repetition", text))
                try:
                    answers = await self._sent(transport, data, names)
                    self._longest = max(self._longest, time.monotonic() - began)
                    return checked(self.name, names, answers, self.image)
                except TimeoutError as error:
                    unheard |= isinstance(error, _Unheard)
                    text = f"no answer to '{names[0]}' within {self.timeout:g} s"
                    self.note(NodeEvent("timeout", text))
                    data = self._connection.resend()
        text = f"{self.name} did not answer '{names[0]}', sent {self.attempts} times, within "
        text += f"{self.timeout:g} s each; "
        if unheard:
            raise LinkTooNoisy(f"{text}there is noise on its link (faults.links)")
        raise NodeLost(text + transport.said())

    @property
    def _disturbing(self) -> Noise | None:
        """The noise, but in a measurement: no link carries what is not counted."""
        return None if self._measured else self.noise

    async def _sent(self, transport: Transport, data: bytes, names: Sequence[str]) -> Answers:
        """Sends a frame and waits for the next. Raises TimeoutError where none comes although the
        node does not compute."""
        noise = self._disturbing
        arriving = [data] if noise is None else noise.down(data)
        if self.tap is not None:
            self.tap.down(data, arriving)
        if noise is None:
            return await self._carried(transport, data, names)
        if not noise.heard:
            for piece in arriving:
                await transport.write(piece)
            while arriving and await transport.computing():  # it has to see that this is no frame
                pass
            raise _Unheard
        answers: Answers | None = None
        for piece in arriving:  # a copy is answered again, and the first answer that comes is taken
            with suppress(_Unheard):
                again = await self._carried(transport, piece, names)
                answers = answers or again
        if answers is None:
            raise _Unheard
        return answers

    async def _carried(self, transport: Transport, data: bytes, names: Sequence[str]) -> Answers:
        """As _sent, of a frame that arrives."""
        if transport.immediate:  # a node in this process answers while it is written to
            await transport.write(data)
            return await self._answers(transport, *names)
        async with asyncio.timeout(self.timeout):
            await transport.write(data)
        return await self._awaited(transport, names, self.timeout)

    async def _awaited(self, transport: Transport, names: Sequence[str], seconds: float) -> Answers:
        """The next frame. Raises TimeoutError where none comes within so many seconds although the
        node does not compute."""
        while True:
            try:
                async with asyncio.timeout(seconds):
                    return await self._answers(transport, *names)
            except _Unheard:
                raise
            except TimeoutError:
                spent = await self._spent(transport, names)
                if spent is None or spent > self._limit(names):
                    break
        try:
            async with asyncio.timeout(min(GRACE, self.timeout)):  # it may have answered meanwhile
                return await self._answers(transport, *names)
        except TimeoutError:
            if spent is None:
                raise
        raise await self._hung(transport, names, spent)

    def _limit(self, names: Sequence[str]) -> float:
        """Seconds of its own time that a node may compute for."""
        return min(BOOT_PATIENCE, self.patience) if names[0] == "hello" else self.patience

    async def _spent(self, transport: Transport, names: Sequence[str]) -> float | None:
        """Seconds of its own time that a node that computes has done so, 0 where nobody knows. A
        busy bench, or a slow emulator, takes nothing of it. None where it does not compute, or is
        asked for no more than a hello and nobody knows for how long."""
        if not await transport.computing():
            return None
        computed = await self._computed(transport)
        if computed is None:
            return None if names[0] == "hello" else 0.0
        return computed / CLOCK

    async def _hung(self, transport: Transport, names: Sequence[str], seconds: float) -> "NodeHung":
        """The error of a node that has computed for too long."""
        booting = names[0] == "hello"
        limit = f"without an answer to '{names[0]}', and "
        limit += (
            f"{BOOT_PATIENCE:g} s are the most for a boot"
            if booting and self.patience > BOOT_PATIENCE
            else f"nodes.patience is {self.patience:g} s; raise it, or have the node do less"
        )
        event = fault.of_hang(seconds, limit, await transport.stand(), self.image)
        self.note(event)
        return NodeHung(f"{self.name}: {event.text}")

    async def _computed(self, transport: Transport) -> int | None:
        """Instructions since the last `take_usage`, or what the transport knows in place of these;
        None where nothing is known."""
        executed = await transport.executed()
        if executed is not None or transport.counts() is None:
            return executed
        return self._meter.instructions(transport)

    async def _answers(self, transport: Transport, *names: str) -> Answers:
        """The next frame that the node sends. names: of the requests that it answers."""
        while True:
            data = await transport.read()
            self._meter.came(data)
            noise = self._disturbing
            arrived = data if noise is None else noise.up(data)
            if self.tap is not None:
                self.tap.up(data, arrived)
            for answers in self._connection.receive(arrived):
                self._meter.answered(names, answers.sizes)
                return answers
            if noise is not None and data.strip(b"\0") and data.endswith(b"\0"):
                raise _Unheard  # that was the answer


def take_usages(nodes: Sequence[Node]) -> list[Usage]:
    """What each of the nodes did since it was last asked, which costs less than one by one."""
    return take_together([(node._meter, node._transport) for node in nodes])
