"""An inner step on a Cortex-M4 stays within its cycles, by the model's expected reading.

What is counted is all that a train request costs for a sample more. The emulator executes the same
instructions every time, so these figures vary with the compiler only (GCC 12.2: in brackets). The
bounds are for GCC 12; another may take a tenth more.
"""

import asyncio
import subprocess

import numpy as np
import pytest
from numpy.typing import NDArray

from learning import full
from tinymetafed.energy.profile import Pricing
from tinymetafed.energy.program import Program
from tinymetafed.energy.timing import READINGS, Timing
from tinymetafed.experiment import read
from tinymetafed.model import Model, ModelSettings
from tinymetafed.nodes.backends import private_directory
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.qemu import QemuTransport
from tinymetafed.places import MPS2_IMAGE, PROJECT
from tinymetafed.samples import Samples

M4 = Timing.load("cortex-m4")
PROGRAM = Program.read(MPS2_IMAGE)
RATE = 2.0**-20  # what is active stays active
GCC = subprocess.run(
    ["arm-none-eabi-gcc", "-dumpversion"], capture_output=True, text=True, check=True
).stdout
LEEWAY = 1.0 if GCC.startswith("12.") else 1.1

Theta = NDArray[np.float32]


def positive(model: Model, seed: int = 1) -> Theta:
    """Weights with which every ReLU passes on what it gets, so that all rows move."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(0.01, 0.1, model.parameters).astype(np.float32)
    last = model.parts[-1]
    theta[last.first : last.end] *= rng.choice([-1, 1], last.end - last.first)
    return theta


def step(model: Model, theta: Theta, frozen: int = 0) -> float:
    """Cycles of an inner step on one sample."""
    rng = np.random.default_rng(1)

    def samples(n: int) -> Samples:
        inputs = rng.uniform(0, 1, (n, model.inputs)).astype(np.float32)
        if model.loss == "mse":
            return Samples(inputs, rng.uniform(-1, 1, (n, model.outputs)).astype(np.float32))
        return Samples(inputs, rng.integers(0, model.outputs, n).astype(np.uint32))

    async def session() -> float:
        with private_directory() as directory:
            node = Node(
                "node",
                lambda: QemuTransport.open(directory, "node", program=PROGRAM),
                pricing=Pricing(PROGRAM, [M4]),
            )
            await node.start()
            await node.load(model, accumulate=False, capacity=0)
            await node.set_weights(full(theta))
            cycles = [await request(node, samples(n)) for n in (2, 6)]
            await node.close()
        return (cycles[1] - cycles[0]) / 4

    async def request(node: Node, some: Samples) -> int:
        node.take_usage()
        await node.train(some, rate=RATE, frozen=frozen)
        profile = node.take_usage().profile
        assert profile is not None
        learn, expected = profile.phases.index("learn"), READINGS.index("expected")
        return int(profile.cycles[M4.name][learn, expected])

    return asyncio.run(session())


def dense(inputs: int, loss: str, *units: int, activation: str) -> Model:
    layers = [{"units": n, "activation": activation} for n in units[:-1]]
    settings = {"loss": loss, "layers": [*layers, {"units": units[-1]}]}
    return Model.build(ModelSettings.model_validate(settings), inputs)


CLASSIFIER = dense(196, "softmax_cross_entropy", 64, 5, activation="relu")
SINE = dense(1, "mse", 40, 40, 1, activation="tanh")


CONVOLUTION = Model.build(
    ModelSettings.model_validate(
        {
            "shape": (14, 14, 1),
            "loss": "softmax_cross_entropy",
            "layers": [
                {"type": "conv2d", "filters": 8, "stride": 2, "padding": 1, "activation": "relu"},
                {"type": "conv2d", "filters": 16, "activation": "relu"},
                {"units": 5},
            ],
        }
    ),
    196,
)


@pytest.mark.parametrize(
    ("model", "parameters", "bound"),
    [
        pytest.param(CLASSIFIER, 12_933, 10 * 12_933, id="196-64-5"),  # 111,018
        pytest.param(SINE, 1_761, 25 * 1_761, id="1-40-40-1"),  # 29,514
        pytest.param(CONVOLUTION, 3_253, 540_000, id="convolution"),  # 538,623
    ],
)
def test_a_step_that_moves_everything_stays_within_its_cycles(
    model: Model, parameters: int, bound: float
):
    assert model.parameters == parameters
    assert step(model, positive(model)) <= LEEWAY * bound


def test_a_step_of_the_demo_stays_within_its_cycles():
    model = read(PROJECT / "experiments/demo.toml").built_model
    assert step(model, positive(model), model.frozen(local=True)) <= LEEWAY * 30_000  # 29,307


def test_rows_that_do_not_move_cost_nothing():
    """Where no ReLU passes anything on, only the last layer moves; and none but it where the first
    is frozen."""
    everything = positive(CLASSIFIER)
    nothing = everything.copy()
    first, last = CLASSIFIER.parts
    nothing[first.first : first.end] *= -1
    whole = step(CLASSIFIER, everything)
    moving = 4 * first.weights[0] * first.weights[1]  # load, multiply, add, store
    assert step(CLASSIFIER, nothing) < whole - moving
    assert step(CLASSIFIER, everything, frozen=1 << first.layer) < whole - moving
    assert step(CLASSIFIER, everything, frozen=1 << last.layer) < whole
