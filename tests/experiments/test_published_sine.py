"""Reptile's published sine example (Nichol & Schulman 2018, openai.com/index/reptile) on a node,
against the same in plain numpy; and what the strategies of experiments/paper.toml come to on it."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from running import execute
from tinymetafed.experiments import comparison
from tinymetafed.experiments.experiment import read
from tinymetafed.federation.client import Client
from tinymetafed.federation.engines import LinkEngine
from tinymetafed.federation.federation import Federation
from tinymetafed.models.model import Model
from tinymetafed.places import PROJECT

Vector = NDArray[np.float64]
Parameters = list[Vector]  # of the three layers, W (outputs, inputs) and b (outputs,) in turn


def unpack(model: Model, theta: NDArray[np.float32]) -> Parameters:
    found: Parameters = []
    for part in model.parts:
        w, b = np.split(theta[part.first : part.end].astype(float), [-part.weights[0]])
        found += [w.reshape(part.weights), b]
    return found


def forward(parameters: Parameters, x: Vector) -> tuple[Vector, Vector, Vector]:
    """Both hidden layers and the output, for x (samples, 1)."""
    w1, b1, w2, b2, w3, b3 = parameters
    first = np.tanh(x @ w1.T + b1)
    second = np.tanh(first @ w2.T + b2)
    return first, second, second @ w3.T + b3


ALL = range(6)
LAST_LAYER = (4, 5)


def sgd(
    parameters: Parameters, x: Vector, y: Vector, rate: float, moving: Collection[int] = ALL
) -> Parameters:
    """One step on the mean of the squared errors, of the parameters that are moving."""
    _, _, w2, _, w3, _ = parameters
    first, second, output = forward(parameters, x)
    by_output = 2 * (output - y) / len(x)
    by_second = by_output @ w3 * (1 - second**2)
    by_first = by_second @ w2 * (1 - first**2)
    gradients = [
        by_first.T @ x, by_first.sum(axis=0), by_second.T @ first, by_second.sum(axis=0),
        by_output.T @ second, by_output.sum(axis=0),
    ]  # fmt: skip
    return [
        p - rate * g if i in moving else p
        for i, (p, g) in enumerate(zip(parameters, gradients, strict=True))
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_node_s_loss_is_that_of_plain_numpy(tmp_path: Path, seed: int):
    """Before and after adaptation, to 1e-4. Of few steps: where the gradient is steep, these are so
    large that any rounding grows from one to the next."""
    rounds, steps = 60, 8
    changes = (f"seed={seed}", f"rounds={rounds}", f"evaluation.steps={steps}")
    settings = read(
        PROJECT / "experiments/sine.toml",
        (*changes, "evaluation.devices=10", "evaluation.unseen=10"),
    )
    store, run = execute(settings, tmp_path)

    federation = Federation(settings, LinkEngine(Client(settings), []))
    theta = unpack(settings.built_model, settings.built_model.initial(seed))
    for done in range(rounds):
        [device] = federation.select(done)[1]
        _, samples = settings.task.device(seed, device, 0, 50)
        x, y = samples.inputs.astype(float), samples.targets.astype(float)
        moved = theta
        for first in range(0, 50, 10):
            moved = sgd(moved, x[first : first + 10], y[first : first + 10], 0.02)
        rate = 0.1 * (1 - done / rounds)
        theta = [p + rate * (m - p) for p, m in zip(theta, moved, strict=True)]

    judged = [row for row in store.evaluations(run.id) if row.round == rounds]
    assert [row.part for row in judged] == ["validation"] * 10 + ["unseen"] * 10
    for row in judged:
        support, query = settings.task.device(seed, row.device, 10, 50, part=row.part)
        x, y = support.inputs.astype(float), support.targets.astype(float)
        adapted = theta
        for _ in range(steps):
            adapted = sgd(adapted, x, y, 0.02)
        for parameters, loss in ((theta, row.loss_before), (adapted, row.loss_after)):
            output = forward(parameters, query.inputs.astype(float))[-1]
            assert loss == pytest.approx(np.mean((output - query.targets) ** 2), abs=1e-4)


# What the strategies make of the ten points when they have 32 steps of adaptation: steps of one
# point, their rate, what moves; by the settings that they have in experiments/paper.toml itself,
# whatever was tuned. Reptile's is above.
ADAPTATION = {
    "FedAvg": [(30, 0.005, ALL)],  # three whole epochs
    "TinyReptile": [(32, 0.005, ALL)],
    "TinyMetaFed": [(10, 0.02, LAST_LAYER), (32, 0.005, ALL)],
}


@pytest.mark.parametrize("strategy", ADAPTATION)
def test_unseen_devices_adapt_as_in_plain_numpy(tmp_path: Path, strategy: str):
    """From the weights that a run has stored, with the settings of the paper's comparison: the same
    ten points and no other, and the loss at all fifty."""
    paper, path = comparison.parse(PROJECT / "experiments/paper.toml")
    task = next(one for one in paper.tasks if one.label == "sine")
    entry = next(one for one in paper.strategies if one.label == strategy)
    untuned = comparison.make(paper, path, task, entry, seed=1)
    tree = untuned.model_dump()
    tree["nodes"]["emulate"], tree["rounds"] = 0, 300
    tree["evaluation"] |= {"devices": 10, "unseen": 10}
    settings = type(untuned).model_validate(tree)
    store, run = execute(settings, tmp_path)
    theta = unpack(settings.built_model, run.weights)
    judged = [row for row in store.evaluations(run.id) if row.round == 300]
    assert [row.part for row in judged] == ["validation"] * 10 + ["unseen"] * 10
    for row in judged:
        support, query = settings.task.device(run.seed, row.device, 10, 50, part=row.part)
        x, y = support.inputs.astype(float), support.targets.astype(float)
        assert len(np.unique(x)) == 10
        assert np.array_equal(np.unique(query.inputs), np.linspace(-5, 5, 50, dtype=np.float32))
        adapted = theta
        for steps, rate, moving in ADAPTATION[strategy]:
            for i in np.arange(steps) % 10:
                adapted = sgd(adapted, x[[i]], y[[i]], rate, moving)
        for parameters, loss in ((theta, row.loss_before), (adapted, row.loss_after)):
            output = forward(parameters, query.inputs.astype(float))[-1]
            assert loss == pytest.approx(np.mean((output - query.targets) ** 2), rel=1e-4, abs=1e-4)
