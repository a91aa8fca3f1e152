"""The node's weights after training are those of sums in their stated order, bit for bit: on the
host and on the emulated processor."""

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

import exact
from learning import Problem, difference, full, load, problems, seeded, train
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.nodes.backends import private_directory
from tinymetafed.nodes.host import open_host
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.qemu import QemuTransport
from tinymetafed.nodes.transport import OpenTransport

RATE = 0.0625

Work = tuple[Problem, int, int]  # frozen parts as a mask, samples in a mini-batch


async def trained(open_transport: OpenTransport, *work: Work) -> list[bytes]:
    """The bits of what training does to the weights."""
    node, found = Node("node", open_transport), list[bytes]()
    await node.start()
    for problem, frozen, batch in work:
        await load(node, problem.model, accumulate=batch > 1)
        await node.set_weights(full(problem.theta))
        await train(node, problem.samples, rate=RATE, frozen=frozen, batch=batch)
        found.append((await difference(node, problem.model)).astype(np.float32).tobytes())
    await node.close()
    return found


def stated(core: SimpleNamespace, problem: Problem, frozen: int, batch: int) -> bytes:
    """The same by tests/exact.py."""
    trainer = exact.Trainer(core, problem.layers, problem.theta, problem.kind)
    trainer.train(problem.exact_pairs, RATE, frozen, batch)
    return (trainer.theta - problem.theta).tobytes()


@settings(deadline=None, derandomize=True, max_examples=200)
@given(problems(samples=st.integers(1, 5)), st.integers(0, 2**8 - 1), st.integers(1, 3))
def test_the_host_adds_in_the_stated_order(
    core: SimpleNamespace, problem: Problem, frozen: int, batch: int
):
    [found] = asyncio.run(trained(open_host, (problem, frozen, batch)))
    assert found == stated(core, problem, frozen, batch)


HIDDEN = {"units": 18, "activation": "relu"}
CONV2D = {"type": "conv2d", "filters": 6, "padding": 1, "activation": "relu"}
POOL = {"type": "max_pool2d"}
DEPTHWISE = {"type": "depthwise_conv2d", "size": 2, "activation": "tanh"}
MODELS: list[tuple[int, dict[str, Any]]] = [
    (16, {"layers": [{"units": 8, "activation": "relu"}, {"units": 4}]}),
    (13, {"layers": [HIDDEN, {"units": 11, "activation": "tanh"}, {"units": 3}]}),
    (49, {"shape": (7, 7, 1), "layers": [CONV2D | {"stride": 2}, CONV2D, {"units": 3}]}),
    (75, {"shape": (5, 5, 3), "layers": [CONV2D, POOL, DEPTHWISE, {"units": 2}]}),
    (48, {"shape": (4, 4, 3), "layers": [DEPTHWISE, {"type": "average_pool2d"}, {"units": 2}]}),
    (72, {"shape": (6, 6, 2), "layers": [
        POOL | {"stride": 1}, CONV2D | {"activation": "linear"}, POOL | {"stride": 1, "size": 3},
        DEPTHWISE | {"padding": 1, "stride": 2}, {"units": 2, "activation": "tanh"},
    ]}),
    (60, {"shape": (1, 20, 3), "layers": [
        {"type": "conv2d", "size": (1, 5), "stride": (1, 2), "padding": "same", "filters": 6},
        {"type": "leaky_relu"}, {"type": "max_pool2d", "size": (1, 2), "stride": (1, 2)},
        {"type": "conv2d", "size": 1, "filters": 5, "activation": "relu6"},
        {"type": "global_average_pool2d"}, {"units": 2, "activation": "sigmoid"},
    ]}),
    (50, {"shape": (5, 5, 2), "layers": [
        CONV2D | {"name": "sum"}, CONV2D, {"type": "add", "source": "sum"}, {"type": "relu"},
        CONV2D | {"padding": "same", "stride": 2, "name": "way"},
        {"type": "route", "source": "sum"},
        {"type": "conv2d", "size": 1, "stride": 2, "filters": 6}, {"type": "add", "source": "way"},
        {"type": "average_pool2d", "size": 3, "padding": 1, "count_padding": True}, {"units": 2},
    ]}),
]  # fmt: skip
"""Inputs and settings: blocks of four by four weights, what is left at their edges, windows."""


def test_the_emulated_processor_adds_in_the_stated_order(core: SimpleNamespace):
    work: list[Work] = []
    losses = ("mse", "softmax_cross_entropy")
    for i, ((inputs, described), loss) in enumerate(itertools.product(MODELS, losses)):
        model = Model.build(ModelSettings.model_validate(described | {"loss": loss}), inputs)
        problem = seeded(model, i, samples=5)
        # Everything moves; the first part is frozen; the last is; in mini-batches.
        first, last = 1 << model.parts[0].layer, 1 << model.parts[-1].layer
        work += [(problem, 0, 1), (problem, first, 1), (problem, last, 1), (problem, 0, 2)]

    async def on_qemu() -> list[bytes]:
        with private_directory() as directory:
            return await trained(lambda: QemuTransport.open(directory, "node"), *work)

    for one, found in zip(work, asyncio.run(on_qemu()), strict=True):
        assert found == stated(core, *one), one[0].model
