"""Problems for a node to learn, and sessions with a node."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis import assume
from numpy.typing import NDArray

import reference as ref
from tinymetafed.model import OPERATIONS, Dense, Model, ModelSettings
from tinymetafed.nodes.host import HostTransport
from tinymetafed.nodes.node import Broadcast, Node
from tinymetafed.nodes.transport import OpenTransport
from tinymetafed.samples import Samples

Theta = NDArray[np.float32]


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


def reference_layers(model: Model) -> list[ref.Layer]:
    kinds = {number: name for name, number in OPERATIONS.items()}
    layers, values = [], model.inputs
    for layer in model.layers:
        outputs = layer.arguments[0] if layer.arguments else values
        layers.append(ref.Layer(kinds[layer.operation], values, outputs, layer.local))
        values = outputs
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
    classes = rng.integers(0, model.outputs, n)
    certain = outputs[np.arange(n), classes] - outputs.max(axis=1) == 0
    return Samples(inputs, np.where(certain, outputs.argmin(axis=1), classes).astype(np.uint32))


@st.composite
def problems(draw: st.DrawFn, samples: st.SearchStrategy[int], local: bool = False) -> Problem:
    """Small models of every kind. Parts are local, and then some are, only if `local`."""
    loss: Any = draw(st.sampled_from(["mse", "softmax_cross_entropy"]))
    widths = draw(st.lists(st.integers(1, 8), min_size=int(local), max_size=3))
    widths.append(draw(st.integers(2 if loss != "mse" else 1, 5)))
    kinds = st.sampled_from(["relu", "tanh", "linear"])
    activations: list[Any] = [*(draw(kinds) for _ in widths[:-1]), "linear"]
    is_local = [draw(st.booleans()) for _ in widths]
    if local:
        assume(0 < sum(is_local) < len(is_local))
    layers = tuple(
        Dense(units=units, activation=activation, local=local and part_local)
        for units, activation, part_local in zip(widths, activations, is_local, strict=True)
    )
    model = Model.build(ModelSettings(layers=layers, loss=loss), draw(st.integers(1, 5)))
    return seeded(model, draw(st.integers(0, 2**32 - 1)), draw(samples))


def seeded(model: Model, seed: int, samples: int) -> Problem:
    """The model with random weights and samples."""
    rng = np.random.default_rng(seed)
    theta = model.initial(int(rng.integers(2**31))) + rng.normal(0, 0.1, model.parameters)
    theta = theta.astype(np.float32)
    return Problem(model, theta, random_samples(rng, model, theta, samples))


def clear_of_kinks(layers: ref.Layers, theta: ref.Vector, pairs: ref.Samples) -> bool:
    return all(
        np.abs(entering).min() > 1e-3
        for x, _ in pairs
        for layer, entering in zip(layers, ref.activations(layers, theta, x), strict=False)
        if layer.kind == "relu"
    )


# ---- sessions with a node ------------------------------------------------------------------------


async def open_host() -> HostTransport:
    return HostTransport()


def full(theta: Theta) -> Broadcast:
    return Broadcast(theta, np.ones(len(theta), np.int64), 1)


@asynccontextmanager
async def started(
    model: Model,
    theta: Theta | None = None,
    *,
    accumulate: bool = False,
    capacity: int = 0,
    transport: OpenTransport = open_host,
) -> AsyncIterator[Node]:
    node = Node("node", transport, timeout=0)  # on the host an answer is there or never comes
    await node.start()
    await node.load(model, accumulate=accumulate, capacity=capacity)
    if theta is not None:
        await node.set_weights(full(theta))
    yield node
    await node.close()


async def difference(node: Node, model: Model, keep: int | None = None) -> ref.Vector:
    """Δ of all parameters; the local part is asked for as well."""
    keep = model.parameters if keep is None else keep
    delta = await node.update([(0, model.parameters)], keep)
    dense = np.zeros(model.parameters)
    dense[delta.indices] = delta.values
    return dense
