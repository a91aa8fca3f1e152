"""Problems for a node to learn, and sessions with a node."""

import math
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, reject
from numpy.typing import NDArray

import reference as ref
from tinymetafed.link import Answers, Connection, Request, Response, frame
from tinymetafed.link.messages import GLOBAL, LOCAL, Loaded, Trained, encode_request
from tinymetafed.models.layers import OPERATIONS
from tinymetafed.models.model import Model, ModelSettings, Part
from tinymetafed.nodes import program
from tinymetafed.nodes.answers import NodeRefused
from tinymetafed.nodes.broadcast import Broadcast
from tinymetafed.nodes.host import HostTransport, open_host
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.outcome import Outcome
from tinymetafed.nodes.transport import OpenTransport
from tinymetafed.tasks.samples import Samples

TOLERANCE = 1e-5
"""Of a node's way, relative to the length of the reference's: see way."""

Theta = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """A model with weights and samples, also as the reference takes them."""

    model: Model
    theta: Theta
    samples: Samples

    @property
    def layers(self) -> list[ref.Layer]:
        return reference_layers(self.model)

    @property
    def kind(self) -> str:
        return self.model.loss

    @property
    def start(self) -> ref.Vector:
        return self.theta.astype(np.float64)

    @property
    def exact_pairs(self) -> list[tuple[Theta, Theta | int]]:
        targets = [t if t.ndim else int(t) for t in self.samples.targets]
        return list(zip(self.samples.inputs, targets, strict=True))

    def pairs(self, part: slice = slice(None)) -> list[ref.Sample]:
        is_class = self.samples.targets.ndim == 1
        targets = [int(t) if is_class else t.astype(float) for t in self.samples.targets[part]]
        inputs = self.samples.inputs[part].astype(np.float64)
        return list(zip(inputs, targets, strict=True))


def window_of(arguments: Sequence[int], values: int) -> ref.Window:
    """A window's arguments of firmware/protocol.cddl, over an image of as many values."""
    height, width, size, stride, padding, *_ = arguments
    top, bottom, left, right = padding.to_bytes(4, "little")
    return ref.Window(
        (height, width, values // (height * width)),
        (size & 255, size >> 8),
        (stride & 255, stride >> 8),
        ((top, bottom), (left, right)),
    )


def reference_layers(model: Model) -> list[ref.Layer]:
    kinds = {number: name for name, number in OPERATIONS.items()}
    layers, values = list[ref.Layer](), [model.inputs]
    for layer in model.layers:
        kind, window, outputs, more = kinds[layer.operation], None, values[-1], dict[str, Any]()
        match kind, layer.arguments:
            case "dense", (units,):
                outputs = units
            case "leaky_relu", (bits,):
                more["slope"] = float(np.uint32(bits).view(np.float32))
            case (("add" | "route"), (source,)):
                more["source"], outputs = source, values[source]
            case _, (_, _, _, _, _, *rest) as arguments:
                window = window_of(arguments, values[-1])
                channels = rest[0] if kind == "conv2d" else window.shape[2]
                outputs = window.reach.shape[0] * channels
                more["count_padding"] = kind == "average_pool2d" and bool(rest[0])
        layers.append(ref.Layer(kind, values[-1], outputs, layer.part == LOCAL, window, **more))
        values.append(outputs)
    return layers


def random_samples(rng: np.random.Generator, model: Model, theta: Theta, n: int) -> Samples:
    """Samples that the model is not right about: next to a minimum a gradient is a difference of
    nearly equal numbers, and nothing is to be said of its relative error."""
    layers = reference_layers(model)
    inputs = rng.uniform(-1.5, 1.5, (n, model.inputs)).astype(np.float32)
    outputs = np.array([ref.forward(layers, theta.astype(float), x) for x in inputs])
    if model.loss == "mse":
        error = rng.uniform(0.5, 2, outputs.shape) * rng.choice([-1, 1], outputs.shape)
        return Samples(inputs, (outputs + error).astype(np.float32))
    if model.loss == "binary_cross_entropy":
        return Samples(inputs, (outputs[:, 0] < 0).astype(np.uint32))
    classes = rng.integers(0, model.outputs, n)
    certain = outputs[np.arange(n), classes] - outputs.max(axis=1) == 0
    return Samples(inputs, np.where(certain, outputs.argmin(axis=1), classes).astype(np.uint32))


ACTIVATIONS = st.sampled_from(["relu", "relu6", "leaky_relu", "tanh", "sigmoid", "linear"])


def _ways(most: int) -> st.SearchStrategy[Any]:
    return st.integers(1, most) | st.tuples(st.integers(1, most), st.integers(1, most))


def _window(kind: str, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    side = st.tuples(st.integers(0, 2), st.integers(0, 2))
    padding = st.integers(0, 2) | st.just("same") | st.tuples(side, side)
    lengths = {"size": _ways(4), "stride": _ways(3), "padding": padding}
    return st.fixed_dictionaries({"type": st.just(kind), **lengths, **more})


WINDOWS = st.one_of(
    _window("conv2d", filters=st.integers(1, 6), activation=ACTIVATIONS),
    _window("depthwise_conv2d", activation=ACTIVATIONS),
    _window("max_pool2d"),
    _window("average_pool2d", count_padding=st.booleans()),
    st.just({"type": "global_average_pool2d"}),
    st.fixed_dictionaries({"type": st.just("leaky_relu"), "slope": st.sampled_from([0.01, 0.3])}),
)


@st.composite
def _residual(draw: st.DrawFn, number: int, channels: int) -> list[dict[str, Any]]:
    """A block with a sum over two ways, of which one may have a convolution of its own."""
    conv = {"type": "conv2d", "size": 3, "padding": "same"}
    start, end = f"start {number}", f"end {number}"
    layers = [{"type": "conv2d", "size": 1, "filters": channels, "name": start}]
    if draw(st.booleans()):  # as in ResNet, the projection shortcut
        stride, filters = draw(st.integers(1, 2)), draw(st.integers(1, 3))
        both = {"stride": stride, "filters": filters}
        layers.append(conv | both | {"activation": draw(ACTIVATIONS)})
        layers.append(conv | {"filters": filters, "name": end})
        layers.append({"type": "route", "source": start})
        layers.append({"type": "conv2d", "size": 1, **both})
        layers.append({"type": "add", "source": end})
    else:
        layers.append(conv | {"filters": channels, "activation": draw(ACTIVATIONS)})
        layers.append({"type": "add", "source": start})
    return [*layers, {"type": "relu"}]


@st.composite
def problems(draw: st.DrawFn, samples: st.SearchStrategy[int], local: bool = False) -> Problem:
    """Small models of every kind. Parts are local, and then some are, only if `local`."""
    loss = draw(st.sampled_from(["mse", "softmax_cross_entropy", "binary_cross_entropy"]))
    layers: list[dict[str, Any]] = []
    shape = draw(st.none() | st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5)))
    for i in range(0 if shape is None else draw(st.integers(1, 3))):
        if draw(st.integers(0, 4)) == 0:
            layers += draw(_residual(i, draw(st.integers(1, 3))))
        else:
            layers.append(draw(WINDOWS))
    for units in draw(st.lists(st.integers(1, 8), min_size=int(local), max_size=3)):
        layers.append({"units": units, "activation": draw(ACTIVATIONS)})
    least, most = {"mse": (1, 5), "binary_cross_entropy": (1, 1)}.get(loss, (2, 5))
    last = draw(st.sampled_from(["linear", "tanh"]))
    layers.append({"units": draw(st.integers(least, most)), "activation": last})
    with_parameters = [
        layer for layer in layers if "units" in layer or "conv2d" in layer.get("type", "")
    ]
    if local:
        is_local = [draw(st.booleans()) for _ in with_parameters]
        assume(0 < sum(is_local) < len(is_local))
        for layer, part_local in zip(with_parameters, is_local, strict=True):
            layer["local"] = part_local
    inputs = draw(st.integers(1, 9)) if shape is None else math.prod(shape)
    settings = ModelSettings.model_validate({"layers": layers, "loss": loss, "shape": shape})
    try:
        model = Model.build(settings, inputs)
    except ValueError:  # a window that is larger than what comes in, padding than its window
        reject()
    return seeded(model, draw(st.integers(0, 2**32 - 1)), draw(samples))


def seeded(model: Model, seed: int, samples: int) -> Problem:
    """The model with random weights and samples."""
    rng = np.random.default_rng(seed)
    theta = model.initial(int(rng.integers(2**31))) + rng.normal(0, 0.1, model.parameters)
    theta = theta.astype(np.float32)
    return Problem(model, theta, random_samples(rng, model, theta, samples))


KINKS = {"relu": (0.0,), "leaky_relu": (0.0,), "relu6": (0.0, 6.0)}


def clear_of_kinks(layers: ref.Layers, theta: ref.Vector, pairs: ref.Samples) -> bool:
    return all(
        np.abs(entering - kink).min() > 1e-3
        for x, _ in pairs
        for layer, entering in zip(layers, ref.activations(layers, theta, x), strict=False)
        for kink in KINKS.get(layer.kind, ())
    )


def rate_for(problem: Problem, pairs: ref.Samples, mask: ref.Mask, share: float = 0.05) -> float:
    """The rate, a float32, at which a step on `pairs` is `share` of the weights' norm. The gradient
    of the part that moves has to be some part of the whole one, or it is nothing but rounding."""
    gradients = [ref.gradient(problem.layers, problem.start, problem.kind, *pair) for pair in pairs]
    mean = np.mean([gradient for _, gradient in gradients], axis=0)
    assume(norm(mean[mask]) > norm(mean) / 16)
    return float(np.float32(share * norm(problem.start) / norm(mean[mask])))


def way(
    problem: Problem, theta: ref.Vector, pairs: ref.Samples, rate: float, mask: ref.Mask,
    batch: int = 1, epochs: int = 1,
) -> float:  # fmt: skip
    """Length of the reference's way in training, which has to be stable and clear of kinks."""
    steps = []
    for _ in range(epochs):
        for i in range(0, len(pairs), batch):
            chunk = pairs[i : i + batch]
            assume(clear_of_kinks(problem.layers, theta, chunk))
            after, _ = ref.train(problem.layers, theta, problem.kind, chunk, rate, mask, len(chunk))
            steps.append(norm(after - theta))
            theta = after
    assume(sum(steps) <= 0.1 * len(steps) * norm(problem.start))
    return sum(steps)


def norm(vector: ref.Vector) -> float:
    return float(np.linalg.norm(vector))


def mask_of(model: Model, parts: Sequence[Part]) -> ref.Mask:
    mask = np.zeros(model.parameters, dtype=bool)
    for part in parts:
        mask[part.first : part.end] = True
    return mask


def frame_of(connection: Connection, *requests: Request, counted: bool = True) -> bytes:
    """The frame of the requests."""
    return connection.send([encode_request(one) for one in requests], counted=counted)


def responses(events: list[Answers]) -> list[Response]:
    """Of all answers, one after the other."""
    return [response for answers in events for response in answers.responses]


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of work that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


class BareNode:
    """A host node without an orchestrator's part of the work: frames in, frames out.

    Attributes:
        connection: of the frames that `ask` sends.
        hello: what it said when it booted.
    """

    def __init__(self) -> None:
        self._transport = HostTransport()
        self.connection = Connection()
        [self.hello] = responses(self.connection.receive(self.exchange(b"")))

    def exchange(self, data: bytes) -> bytes:
        """All that it sends when it is sent the data."""
        at_once(self._transport.write(data))
        found = b""
        with suppress(TimeoutError):
            while True:
                found += at_once(self._transport.read())
        return found

    def body(self, body: bytes) -> bytes | None:
        """The body of its answer to a frame with this body; None where it does not answer."""
        [*found] = frame.FrameReceiver().receive(self.exchange(frame.encode(body)))
        assert len(found) <= 1
        return found[0] if found else None

    def ask(self, *requests: Request) -> tuple[Response, ...]:
        """Its answers to the requests in a frame, and that it answered in one."""
        [answers] = self.connection.receive(self.exchange(frame_of(self.connection, *requests)))
        return answers.responses

    def ask_each(self, requests: Iterable[Request]) -> list[Response]:
        """Its answers to the requests in a frame each."""
        return [response for one in requests for response in self.ask(one)]

    def close(self) -> None:
        at_once(self._transport.close())


# ---- sessions with a node ------------------------------------------------------------------------


def full(theta: Theta) -> Broadcast:
    return Broadcast(theta, np.ones(len(theta), np.int64), 1)


@asynccontextmanager
async def started(
    model: Model,
    theta: Theta | None = None,
    *,
    accumulate: bool = False,
    capacity: int = 0,
    room: int = 0,
    transport: OpenTransport = open_host,
) -> AsyncIterator[Node]:
    node = Node("node", transport, timeout=0)  # on the host an answer is there or never comes
    await node.start()
    await load(node, model, accumulate=accumulate, capacity=capacity, room=room)
    if theta is not None:
        await node.set_weights(full(theta))
    yield node
    await node.close()


async def load(
    node: Node, model: Model, *, accumulate: bool = False, capacity: int = 0, room: int = 0
) -> Loaded:
    """room: bits of messages.Load.room."""
    description = model.description(accumulate=accumulate, capacity=capacity, room=room)
    return await node.load(model, description)


async def refused(work: Awaitable[object]) -> int:
    with pytest.raises(NodeRefused) as caught:
        await work
    return caught.value.error.code


async def store(node: Node, samples: Samples) -> None:
    """Into the node's memory, in place of what is there."""
    await node.run((program.Store("query"),), query=samples)


async def train(node: Node, samples: Samples | None, *, rate: float, **options: Any) -> float:
    """On the samples, or where None on the stored ones. options: of program.Train. Returns the mean
    loss over all samples, each before the step that it takes part in."""
    step = program.Train("stored" if samples is None else "query", rate=rate, **options)
    outcome = await node.run((step,), query=samples)
    return mean_loss(outcome, step, None if samples is None else len(samples))


def mean_loss(outcome: Outcome, step: program.Train, samples: int | None) -> float:
    """Of a program's only primitive, which trained on so many samples once each, or on stored ones
    where None."""
    trained = [one for one in outcome.responses[0] if isinstance(one, Trained)]
    assert len(trained) == len(outcome.responses[0])
    if samples is None:
        [one] = trained
        return one.loss
    total, left = 0.0, samples
    for one in trained:
        count = min(left, one.steps * step.batch)
        assert one.steps == -(-count // step.batch)
        total += count * one.loss
        left -= count
    assert left == 0
    return total / samples


async def update(node: Node, keep: int, values: str = "float32") -> Outcome:
    """The largest entries of what was learnt."""
    return await node.run((program.Select(keep, values), program.Send()))


async def difference(
    node: Node, model: Model, keep: int | None = None, values: str = "float32"
) -> ref.Vector:
    """Δ of all parameters; the local part is asked for as well."""
    keep = model.parameters if keep is None else keep
    told, node._model = node._model, without_local(model)
    try:
        delta = await update(node, keep, values)
    finally:
        node._model = told
    dense = np.zeros(model.parameters)
    dense[delta.indices] = delta.values
    return dense


def without_local(model: Model) -> Model:
    """As if all of it were shared."""
    return replace(model, parts=tuple(replace(part, part=GLOBAL) for part in model.parts))
