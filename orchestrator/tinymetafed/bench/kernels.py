"""Cycles of an inner step on a Cortex-M4, and the memory that training takes.

Counted on QEMU and priced by emulation/timing: the same on every machine with the same compiler.
"""

import asyncio
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..energy.profile import Pricing, Profile
from ..energy.program import Program
from ..energy.timing import READINGS, Timing
from ..experiments.plan import footprint
from ..models.model import Model, ModelSettings
from ..nodes.backends import private_directory
from ..nodes.broadcast import Broadcast
from ..nodes.node import Node
from ..nodes.program import Train
from ..nodes.qemu import QemuTransport
from ..places import MPS2_IMAGE
from ..tasks.samples import Samples

CORE = "cortex-m4"
RATE = 2.0**-20  # what is active stays active

Theta = NDArray[np.float32]


def model(loss: str, shape: tuple[int, int, int], *layers: dict[str, object]) -> Model:
    """Of these layers, as in an experiment file."""
    settings = {"loss": loss, "shape": shape, "layers": layers}
    return Model.build(ModelSettings.model_validate(settings), int(np.prod(shape)))


RELU = {"activation": "relu"}
TANH = {"activation": "tanh"}
MODELS = {
    "196-64-5": model(
        "softmax_cross_entropy", (1, 1, 196), {"units": 64, **RELU}, {"units": 5}
    ),
    "1-40-40-1": model(
        "mse", (1, 1, 1), {"units": 40, **TANH}, {"units": 40, **TANH}, {"units": 1}
    ),
    "conv 14×14": model(
        "softmax_cross_entropy", (14, 14, 1),
        {"type": "conv2d", "filters": 8, "stride": 2, "padding": 1, **RELU},
        {"type": "conv2d", "filters": 16, **RELU}, {"units": 5},
    ),
}  # fmt: skip
"""By what they are called. The first has ReLU, the second tanh after its dense layers; the third
3 × 3 convolutions of 8 filters at a stride of 2, and of 16, with ReLU, and a dense layer."""


IMAGE = (8, 8, 16)
VALUES = 8 * 8 * 16
FILTERS: dict[str, object] = {"type": "conv2d", "filters": 16, "padding": "same"}
POOL: dict[str, object] = {"size": 3, "stride": 1, "padding": "same"}  # as many come out as in
LAYERS: dict[str, tuple[int, tuple[int, int, int], dict[str, object]]] = {
    "dense, 128 to 128": (128 * 128, (1, 1, 128), {"units": 128}),
    "conv2d, 3 × 3": (9 * 16 * VALUES, IMAGE, FILTERS),
    "conv2d, 10 × 4": (40 * 16 * VALUES, IMAGE, {"size": (10, 4), **FILTERS}),
    "conv2d, 1 × 9": (9 * 16 * VALUES, IMAGE, {"size": (1, 9), **FILTERS}),
    "conv2d, 1 × 1 (pointwise)": (16 * VALUES, IMAGE, {"size": 1, **FILTERS}),
    "depthwise_conv2d, 3 × 3": (
        9 * VALUES, IMAGE, {"type": "depthwise_conv2d", "padding": "same"}
    ),
    "add": (VALUES, IMAGE, {"type": "add", "source": "before"}),
    "max_pool2d, 3 × 3": (9 * VALUES, IMAGE, {"type": "max_pool2d", **POOL}),
    "average_pool2d, 3 × 3": (9 * VALUES, IMAGE, {"type": "average_pool2d", **POOL}),
}  # fmt: skip
"""A layer: its multiply-accumulates on a sample, of a sum its additions, of a pool the values under
its windows; what comes in, 8 × 8 pixels of 16 channels but for the dense one; and itself, with 16
filters."""


@dataclass(frozen=True)
class LayerCost:
    """Expected cycles of a layer, for each of `count`, see LAYERS.

    forward: of judging. backward: what an inner step has besides: the derivative for the layer
    before, and its own weights' moves.
    """

    name: str
    count: int
    forward: float
    backward: float


def layer(name: str) -> LayerCost:
    """By the difference to the same model without it. Raises TinyMetaFedError where no node can be
    emulated."""
    count, shape, own = LAYERS[name]
    # A layer with weights is below, so that a derivative has to come through.
    before = {"type": "depthwise_conv2d", "size": 1, "name": "before", **RELU}
    cycles: list[tuple[float, float]] = []
    for layers in ([before, own], [before]):
        built = model("mse", shape, *layers)
        trained, judged, _ = step(built, positive(built))
        cycles.append((judged, trained[READINGS.index("expected")] - judged))
    forward, backward = (
        (with_it - without) / count for with_it, without in zip(*cycles, strict=True)
    )
    return LayerCost(name, count, forward, backward)


@dataclass(frozen=True)
class Kernel:
    """An inner step, all weights moving.

    cycles: shortest, expected, longest reading. forward: of judging a sample, expected. memory:
    bytes for training beyond the weights held and the working weights.
    """

    name: str
    parameters: int
    cycles: tuple[float, ...]
    forward: float
    memory: int


def positive(model: Model, seed: int = 1) -> Theta:
    """Weights with which every ReLU passes on what it gets, so that all rows move."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(0.01, 0.1, model.parameters).astype(np.float32)
    last = model.parts[-1]
    theta[last.first : last.end] *= rng.choice([-1, 1], last.end - last.first)
    return theta


def measure(name: str, model: Model) -> Kernel:
    """Raises TinyMetaFedError where no node can be emulated."""
    cycles, forward, needed = step(model, positive(model))
    return Kernel(name, model.parameters, cycles, forward, needed - 8 * model.parameters)


def step(model: Model, theta: Theta, frozen: int = 0) -> tuple[tuple[float, ...], float, int]:
    """Cycles of an inner step on one sample, by reading; expected ones of judging one; bytes that
    the model and its training take.

    What is counted is all that a request costs for a sample more.
    """
    rng = np.random.default_rng(1)
    timing = Timing.load(CORE)
    program = Program.read(MPS2_IMAGE)

    def samples(n: int) -> Samples:
        inputs = rng.uniform(0, 1, (n, model.inputs)).astype(np.float32)
        if model.loss == "mse":
            return Samples(inputs, rng.uniform(-1, 1, (n, model.outputs)).astype(np.float32))
        return Samples(inputs, rng.integers(0, model.classes, n).astype(np.uint32))

    async def session() -> tuple[tuple[float, ...], float, int]:
        with private_directory() as directory:
            node = Node(
                "node",
                lambda: QemuTransport.open(directory, "node", program=program),
                pricing=Pricing(program, [timing]),
            )
            await node.start()
            try:
                load = model.description(accumulate=False, capacity=0)
                loaded = await node.load(model, load)
                version = np.ones(model.parameters, np.int64)
                await node.set_weights(Broadcast(theta, version, 1))
                train, judge = [], []
                for n in (2, 6):
                    some = samples(n)
                    node.take_usage()
                    await node.run((Train("query", rate=RATE, frozen=frozen),), query=some)
                    train.append(_phase(node.take_usage().profile, "learn"))
                    await node.evaluate(some)
                    judge.append(_phase(node.take_usage().profile, "evaluate"))
            finally:
                await node.close()
        expected = READINGS.index("expected")
        more = (train[1] - train[0]) / 4
        return tuple(more.tolist()), float((judge[1] - judge[0])[expected] / 4), loaded.needed

    def _phase(profile: Profile | None, name: str) -> NDArray[np.int64]:
        assert profile is not None
        return profile.cycles[timing.name][profile.phases.index(name)]

    return asyncio.run(session())


def image() -> tuple[int, int]:
    """Bytes of flash and of RAM of the node's image, the model's memory in the latter."""
    return footprint(MPS2_IMAGE)
