"""An inner step on a Cortex-M4 stays within its cycles, by the model's expected reading.

What is counted is all that a train request costs for a sample more. The emulator executes the same
instructions every time, so these figures vary with the compiler only (GCC 12.2: in brackets). The
bounds are for GCC 12; another may take a tenth more.
"""

import subprocess

import pytest

from tinymetafed.bench import kernels
from tinymetafed.bench.kernels import Theta, positive
from tinymetafed.energy.timing import READINGS
from tinymetafed.experiments.experiment import read
from tinymetafed.models.model import Model
from tinymetafed.places import PROJECT

GCC = subprocess.run(
    ["arm-none-eabi-gcc", "-dumpversion"], capture_output=True, text=True, check=True
).stdout
LEEWAY = 1.0 if GCC.startswith("12.") else 1.1

CLASSIFIER, SINE, CONVOLUTION = (
    kernels.MODELS[name] for name in ("196-64-5", "1-40-40-1", "conv 14×14")
)


def step(model: Model, theta: Theta, frozen: int = 0) -> float:
    """Cycles of an inner step on one sample, by the expected reading."""
    return kernels.step(model, theta, frozen)[0][READINGS.index("expected")]


@pytest.mark.parametrize(
    ("model", "parameters", "bound"),
    [
        pytest.param(CLASSIFIER, 12_933, 8.1 * 12_933, id="196-64-5"),  # 104,229
        pytest.param(SINE, 1_761, 17 * 1_761, id="1-40-40-1"),  # 28,482
        pytest.param(CONVOLUTION, 3_253, 485_000, id="convolution"),  # 479,719
    ],
)
def test_a_step_that_moves_everything_stays_within_its_cycles(
    model: Model, parameters: int, bound: float
):
    assert model.parameters == parameters
    assert step(model, positive(model)) <= LEEWAY * bound


def test_a_step_of_the_demo_stays_within_its_cycles():
    model = read(PROJECT / "experiments/demo.toml").built_model
    assert step(model, positive(model), model.frozen(local=True)) <= LEEWAY * 29_000  # 28,298


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
