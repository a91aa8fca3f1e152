"""A NaN stays one through whatever the core computes, so that no loss looks like a result: wherever
that of a reference in float64 is NaN, the core's is."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings
from numpy.typing import NDArray

import reference as ref
import sanitizing
from learning import Problem, full, load, problems, seeded
from tinymetafed.link.messages import Evaluate, Predict, Request, Train
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.nodes.answers import DIVERGED, NodeRefused
from tinymetafed.nodes.backends import private_directory
from tinymetafed.nodes.host import open_host
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.qemu import QemuTransport
from tinymetafed.nodes.transport import OpenTransport
from tinymetafed.tasks.samples import Samples

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=150)
PLACES = st.sampled_from(["inputs", "targets", "theta"])
NANS = st.sampled_from([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF])
"""Quiet and signalling, of either sign."""


@st.composite
def spoilt(draw: st.DrawFn) -> Problem:
    """One sample and a model, of which some value is NaN."""
    problem = draw(problems(st.just(1)))
    place = draw(PLACES.filter(lambda one: one != "targets" or problem.kind == "mse"))
    inputs, targets = problem.samples.inputs.copy(), problem.samples.targets.copy()
    theta = problem.theta.copy()
    array = {"inputs": inputs, "targets": targets, "theta": theta}[place]
    where = draw(st.integers(0, array.size - 1))
    # A weight beyond the image's edge is multiplied with nothing, where the reference has a zero.
    assume(place != "theta" or not _may_lie_in_padding(problem, where))
    array.reshape(-1).view("u4")[where] = draw(NANS)
    return replace(problem, theta=theta, samples=Samples(inputs, targets))


def _may_lie_in_padding(problem: Problem, place: int) -> bool:
    return any(
        part.start <= place < part.stop and layer.kind == "depthwise_conv2d"
        for layer, part in zip(problem.layers, ref.layer_slices(problem.layers), strict=True)
    )


def forward(core: SimpleNamespace, problem: Problem) -> NDArray[np.float32]:
    """The core's outputs for the only sample."""
    table = np.zeros((len(problem.model.layers), 8), np.uint32)
    for row, layer in zip(table, problem.model.layers, strict=True):
        row[:2] = layer.operation, len(layer.arguments)
        row[2 : 2 + len(layer.arguments)] = layer.arguments
    y = np.zeros(problem.model.outputs, np.float32)
    pointer = core.ffi.from_buffer
    count = core.lib.tmf_probe_forward(
        pointer("uint32_t[]", table), len(table), problem.model.inputs,
        pointer("float[]", problem.theta), pointer("float[]", problem.samples.inputs),
        pointer("float[]", y),
    )  # fmt: skip
    assert count == len(y)
    return y


def expected(problem: Problem) -> tuple[NDArray[np.float64], float]:
    """Outputs and loss of the only sample by the reference."""
    with np.errstate(invalid="ignore"):
        [(x, target)] = problem.pairs()
        outputs = ref.forward(problem.layers, problem.start, x)
        return outputs, ref.loss(problem.kind, outputs, target)


async def codes(open_transport: OpenTransport, problems: list[Problem]) -> list[list[int | None]]:
    """The codes of a node's errors as it trains on each problem's sample, judges it, and predicts;
    None where there is none. Sent as they are: an orchestrator refuses samples with a NaN."""
    node, found = Node("node", open_transport), list[list[int | None]]()
    await node.start()
    for problem in problems:
        await load(node, problem.model)
        inputs = problem.samples.inputs.tobytes()
        sample = inputs + problem.samples.targets.tobytes()
        work: list[Request] = [Train(0.0, 0, 1, 1, sample), Evaluate(sample), Predict(inputs)]
        found.append([])
        for request in work:
            await node.set_weights(full(problem.theta))
            found[-1].append(await _code(node, request))
    await node.close()
    return found


async def _code(node: Node, request: Request) -> int | None:
    try:
        await node._request(type(request).__name__.lower(), request)
    except NodeRefused as refused:
        return refused.error.code
    return None


# ---- on the host ---------------------------------------------------------------------------------


@EXAMPLES
@given(spoilt())
def test_outputs_are_nan_where_those_of_the_reference_are(core: SimpleNamespace, problem: Problem):
    assert np.isnan(forward(core, problem)).tolist() == np.isnan(expected(problem)[0]).tolist()


@EXAMPLES
@given(spoilt())
def test_a_loss_that_is_nan_is_an_error(problem: Problem):
    outputs, loss = expected(problem)
    [found] = asyncio.run(codes(open_host, [problem]))
    wrong = DIVERGED if np.isnan(loss) else None
    assert found == [wrong, wrong, DIVERGED if np.isnan(outputs).any() else None]


def test_a_small_network_does_not_lose_it():
    """2 inputs, 4 ReLU and an output, on the sample (NaN, 1)."""
    layers = [{"units": 4, "activation": "relu"}, {"units": 1}]
    model = Model.build(ModelSettings.model_validate({"layers": layers, "loss": "mse"}), 2)
    samples = Samples(np.array([[np.nan, 1]], np.float32), np.zeros((1, 1), np.float32))
    problem = replace(seeded(model, 1, samples=1), samples=samples)
    assert asyncio.run(codes(open_host, [problem])) == [[DIVERGED] * 3]


@pytest.mark.parametrize("kind", ["max_pool2d", "average_pool2d"])
@pytest.mark.parametrize("place", range(4))
def test_a_window_does_not_lose_it(core: SimpleNamespace, kind: str, place: int):
    """Wherever in the window it is, and whatever is beside it."""
    layers = [{"type": kind, "size": 2}, {"units": 1}]
    described = {"layers": layers, "loss": "mse", "shape": (2, 2, 1)}
    problem = seeded(Model.build(ModelSettings.model_validate(described), 4), 1, samples=1)
    for others in ([1, 2, 3], [3, 2, 1], [0, -0.0, 0], [np.inf, 1, -np.inf], [-np.inf] * 3):
        x = np.insert(np.array(others, np.float32), place, np.nan)[np.newaxis]
        spoilt = replace(problem, samples=Samples(x, problem.samples.targets))
        assert np.isnan(forward(core, spoilt)).all()


def test_a_mean_loss_that_is_not_finite_is_an_error():
    """Though that of each sample is: of two, 2.5e38 and 2.5e38, the sum is not."""
    model = Model.build(ModelSettings.model_validate({"layers": [{"units": 1}], "loss": "mse"}), 1)
    targets = np.full((2, 1), 1.58e19, np.float32)
    samples = Samples(np.zeros((2, 1), np.float32), targets)

    async def session() -> int | None:
        node = Node("node", open_host)
        await node.start()
        await load(node, model)
        await node.set_weights(full(np.zeros(2, np.float32)))
        code = await _code(node, Train(0.0, 0, 1, 1, samples.packed))
        await node.close()
        return code

    assert asyncio.run(session()) == DIVERGED


def test_with_the_sanitizers():
    sanitizing.check(__file__, "not sanitizers and not emulated")


# ---- on the emulated processor -------------------------------------------------------------------

CONV2D = {"type": "conv2d", "filters": 6, "padding": 1, "activation": "relu"}
POOLED: dict[str, Any] = {
    "shape": (6, 6, 2),
    "layers": [
        CONV2D, {"type": "max_pool2d"}, CONV2D | {"type": "depthwise_conv2d"},
        {"type": "average_pool2d"}, {"units": 9, "activation": "tanh"}, {"units": 3},
    ],
}  # fmt: skip
del POOLED["layers"][2]["filters"]


def test_the_emulated_processor_does_not_lose_it():
    """NaN of either kind and sign, in the first, a middle and the last value of a sample, and in a
    weight of each layer; and what is finite is none."""
    work: list[Problem] = []
    for loss in ("mse", "softmax_cross_entropy"):
        model = Model.build(ModelSettings.model_validate(POOLED | {"loss": loss}), 72)
        problem = seeded(model, 1, samples=1)
        work.append(problem)
        for bits in (0x7FC00000, 0xFFC00000, 0x7F800001):
            for place in (0, 31, 71):
                inputs = problem.samples.inputs.copy()
                inputs.view("u4")[0, place] = bits
                work.append(replace(problem, samples=Samples(inputs, problem.samples.targets)))
            for part in model.parts:
                theta = problem.theta.copy()
                theta.view("u4")[(part.first + part.end) // 2] = bits
                work.append(replace(problem, theta=theta))

    async def session() -> list[list[int | None]]:
        with private_directory() as directory:
            return await codes(lambda: QemuTransport.open(directory, "node"), work)

    on_qemu = asyncio.run(session())
    assert on_qemu == asyncio.run(codes(open_host, work))
    found = [[code] * 3 for _, loss in map(expected, work) for code in [DIVERGED * np.isnan(loss)]]
    assert on_qemu == [[int(code) or None for code in one] for one in found]
