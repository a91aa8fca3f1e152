"""The node learns what the float64 reference learns, within 1e-5 per inner step.

That is relative to the length of the way: the sum of the Euclidean norms of the reference's inner
steps, frozen parts not counted. Weights that the steps are added to are of the same order, so that
their own rounding is small against it. Relu's kink is kept clear of: on its two sides the gradient
is another.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings
from numpy.typing import NDArray

import reference as ref
from tinymetafed.model import OPERATIONS, Dense, Model, ModelSettings
from tinymetafed.nodes.host import HostTransport
from tinymetafed.nodes.node import Broadcast, Node, NodeRefused
from tinymetafed.samples import Samples

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=60)
TOLERANCE = 1e-5
NO_MODEL, CANNOT_BE, MEMORY, WEIGHTS, RANGE = 2, 3, 4, 5, 6  # enum tmf_error
SAMPLES, ARGUMENT, DIVERGED, ORDER = 8, 9, 10, 11

Theta = NDArray[np.float32]


# ---- problems: a model, weights and samples -------------------------------------------------------


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
    def start(self) -> ref.Vector:
        return self.theta.astype(np.float64)

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
def problems(
    draw: st.DrawFn, samples: st.SearchStrategy[int], local: bool = False, outputs: int = 0
) -> Problem:
    """Small models of every kind. Parts are local, and then some are, only if `local`."""
    loss = draw(st.sampled_from(["mse", "softmax_cross_entropy"]))
    widths = draw(st.lists(st.integers(1, 8), min_size=int(local), max_size=3))
    widths.append(draw(st.integers(2 if loss != "mse" else 1, 5)))
    activations = [draw(st.sampled_from(["relu", "tanh", "linear"])) for _ in widths[:-1]]
    is_local = [draw(st.booleans()) for _ in widths]
    if local:
        assume(0 < sum(is_local) < len(is_local))
    layers = tuple(
        Dense(units=units, activation=activation, local=local and part_local)
        for units, activation, part_local in zip(
            widths, [*activations, "linear"], is_local, strict=True
        )
    )
    model = Model.build(ModelSettings(layers=layers, loss=loss), draw(st.integers(1, 5)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    theta = model.initial(int(rng.integers(2**31))) + rng.normal(0, 0.1, model.parameters)
    theta = theta.astype(np.float32)
    return Problem(model, theta, random_samples(rng, model, theta, draw(samples)))


def clear_of_kinks(layers: ref.Layers, theta: ref.Vector, pairs: ref.Samples) -> bool:
    return all(
        np.abs(entering).min() > 1e-3
        for x, _ in pairs
        for layer, entering in zip(layers, ref.activations(layers, theta, x), strict=False)
        if layer.kind == "relu"
    )


def way(
    problem: Problem, theta: ref.Vector, pairs: ref.Samples, rate: float, mask: ref.Mask,
    batch: int = 1, epochs: int = 1,
) -> float:  # fmt: skip
    """Length of the reference's way in training, which has to be clear of kinks."""
    length = 0.0
    for _ in range(epochs):
        for i in range(0, len(pairs), batch):
            chunk = pairs[i : i + batch]
            assume(clear_of_kinks(problem.layers, theta, chunk))
            after, _ = ref.train(
                problem.layers, theta, problem.model.loss, chunk, rate, mask, len(chunk)
            )
            length += float(np.linalg.norm(after - theta))
            theta = after
    return length


# ---- sessions with a node -------------------------------------------------------------------------


def run(session: Coroutine[Any, Any, None]) -> None:
    asyncio.run(session)


async def open_host() -> HostTransport:
    return HostTransport()


def full(theta: Theta, version: int = 1) -> Broadcast:
    return Broadcast(theta, np.full(len(theta), version), version)


@asynccontextmanager
async def started(
    model: Model, theta: Theta | None = None, *, accumulate: bool = False, capacity: int = 0
) -> AsyncIterator[Node]:
    node = Node("node", open_host)
    await node.start()
    await node.load(model, accumulate=accumulate, capacity=capacity)
    if theta is not None:
        await node.set_weights(full(theta))
    yield node
    await node.close()


async def difference(node: Node, model: Model) -> ref.Vector:
    """Δ of all parameters, those of the local part being zero."""
    delta = await node.update(model.global_runs, model.parameters)
    dense = np.zeros(model.parameters)
    dense[delta.indices] = delta.values
    return dense


async def refused(work: Coroutine[Any, Any, Any]) -> int:
    with pytest.raises(NodeRefused) as caught:
        await work
    return caught.value.error.code


# ---- training ------------------------------------------------------------------------------------


@EXAMPLES
@given(problems(samples=st.just(1)), st.floats(0.1, 1), st.data())
def test_an_inner_step_is_the_reference_s_and_frozen_parts_do_not_move(problem, length, data):
    model, kind = problem.model, problem.model.loss
    frozen = [part for part in model.parts if data.draw(st.booleans())]
    mask = np.ones(model.parameters, bool)
    for part in frozen:
        mask[part.first : part.end] = False
    [sample] = problem.pairs()
    assume(clear_of_kinks(problem.layers, problem.start, [sample]))
    _, gradient = ref.gradient(problem.layers, problem.start, kind, *sample)
    norm = np.linalg.norm(gradient[mask])
    rate = float(np.float32(length * np.linalg.norm(problem.theta) / norm)) if norm else 1.0
    expected, value = ref.inner_step(problem.layers, problem.start, kind, sample, rate, mask)

    async def session() -> None:
        async with started(model, problem.theta) as node:
            bits = sum(1 << part.layer for part in frozen)
            loss = await node.train(problem.samples, rate=rate, frozen=bits)
            delta = await difference(node, model)
        assert not delta[~mask].any()
        error = np.linalg.norm(delta - (expected - problem.start))
        assert error <= TOLERANCE * np.linalg.norm(expected - problem.start)
        assert loss == pytest.approx(value, rel=TOLERANCE)

    run(session())


@EXAMPLES
@given(problems(samples=st.integers(1, 9)), st.integers(1, 5), st.integers(1, 3))
def test_mini_batches_and_epochs_from_the_store_are_the_reference_s(problem, batch, epochs):
    model, pairs, rate = problem.model, problem.pairs(), 0.0625
    mask = np.ones(model.parameters, bool)
    length = way(problem, problem.start, pairs, rate, mask, batch, epochs)
    expected, value = ref.train(
        problem.layers, problem.start, model.loss, pairs, rate, mask, batch, epochs
    )

    async def session() -> None:
        async with started(model, problem.theta, accumulate=batch > 1, capacity=len(pairs)) as node:
            await node.store(problem.samples)
            loss = await node.train(None, rate=rate, batch=batch, epochs=epochs)
            delta = await difference(node, model)
        assert np.linalg.norm(problem.start + delta - expected) <= TOLERANCE * length
        assert loss == pytest.approx(value, rel=TOLERANCE)

    run(session())
