"""Derivatives through every kind of layer above every other, the reference's and the node's, are
those of the definition (tests/definition.py), which has no backward pass."""

import asyncio
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import definition
import reference as ref
from learning import Problem, clear_of_kinks, difference, full, problems, seeded, started, train
from tinymetafed.models.model import Model, ModelSettings

TOLERANCE = 1e-5  # of the node's step, which is in single precision

CONV2D, DEPTHWISE = {"type": "conv2d"}, {"type": "depthwise_conv2d"}
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "conv2d": (
        CONV2D | {"filters": 3, "size": 2},
        CONV2D | {"filters": 5, "size": 3, "stride": 2, "padding": 1},
    ),
    "depthwise": (DEPTHWISE | {"size": 2}, DEPTHWISE | {"size": 3, "stride": 2, "padding": 2}),
    "max pool": ({"type": "max_pool2d"}, {"type": "max_pool2d", "size": 3, "stride": 1}),
    "average pool": (
        {"type": "average_pool2d", "size": (1, 2), "stride": (2, 1)},
        {"type": "average_pool2d", "size": 3, "stride": 1, "padding": "same"},
    ),
    "rectangle": (
        CONV2D | {"filters": 3, "size": (1, 4), "padding": ((0, 0), (3, 0))},
        DEPTHWISE | {"size": (3, 1), "stride": (1, 2), "padding": "same"},
    ),
}
ACTIVATIONS = ("relu", "tanh", "linear", "sigmoid", "leaky_relu", "relu6")


def combinations() -> list[Any]:
    """Two layers with windows, or one or none, on an image of 7 × 6 pixels and 2 channels, then two
    dense ones: with both losses, and by turns in both forms and with every activation."""
    found: list[Any] = []
    turns = itertools.count()
    for lower, upper, loss in itertools.product(FORMS, FORMS, ("mse", "softmax_cross_entropy")):
        layers: list[dict[str, Any]] = [CONV2D | {"filters": 2, "size": 1}]
        layers += [FORMS[kind][next(turns) % 2] for kind in (lower, upper)]
        layers += [{"units": 5}, {"units": 3}]
        described = [
            layer
            if "pool" in layer.get("type", "")
            else layer | {"activation": ACTIVATIONS[turn % 6]}
            for layer, turn in zip(layers, turns, strict=False)
            if layer
        ]
        found.append(pytest.param(described, loss, id=f"{upper} above {lower}, {loss}"))
    stem = {"type": "conv2d", "size": 1, "filters": 2, "name": "stem"}
    residual: list[dict[str, Any]] = [
        stem, {"type": "conv2d", "filters": 2, "padding": "same", "activation": "tanh"},
        {"type": "add", "source": "stem"}, {"type": "relu", "name": "sum"},
        {"type": "conv2d", "filters": 3, "padding": "same", "stride": 2, "name": "way"},
        {"type": "route", "source": "sum"},
        {"type": "conv2d", "filters": 3, "size": 1, "stride": 2},
        {"type": "add", "source": "way"}, {"type": "add", "source": "way"},
        {"type": "global_average_pool2d"},
    ]  # fmt: skip
    for loss, units in (("mse", 2), ("softmax_cross_entropy", 3), ("binary_cross_entropy", 1)):
        found.append(pytest.param([*residual, {"units": units}], loss, id=f"residual, {loss}"))
    return found


def problem_of(layers: list[dict[str, Any]], loss: str) -> Problem:
    """Away from kinks, which finite differences must not step over, and with a slope."""
    settings = {"shape": (7, 6, 2), "layers": layers, "loss": loss}
    model = Model.build(ModelSettings.model_validate(settings), 7 * 6 * 2)
    found = (seeded(model, seed, samples=1) for seed in itertools.count())
    return next(
        one
        for one in found
        if clear_of_kinks(one.layers, one.start, one.pairs())
        and norm(ref.gradient(one.layers, one.start, one.kind, *one.pairs()[0])[1]) > 0.01
    )


def norm(vector: ref.Vector) -> float:
    return float(np.linalg.norm(vector))


@pytest.mark.parametrize(("layers", "loss"), combinations())
def test_a_gradient_is_the_definition_s(layers: list[dict[str, Any]], loss: str):
    problem = problem_of(layers, loss)
    [sample] = problem.pairs()
    expected = definition.gradient(problem.model, problem.start, *sample)
    value = definition.value(problem.model, problem.start, *sample)
    near = definition.differences(problem.model, problem.start, *sample)
    assert norm(near - expected) <= 1e-7 * norm(expected)
    found, slopes = ref.gradient(problem.layers, problem.start, problem.kind, *sample)
    assert found == pytest.approx(value, rel=1e-12)
    assert norm(slopes - expected) <= 1e-12 * norm(expected)
    asyncio.run(steps(problem, expected))


async def steps(problem: Problem, gradient: ref.Vector) -> None:
    """Inner steps of the node, with every choice of layers that move."""
    model = problem.model
    # So far that a step is not lost in the rounding of the weights that it is added to.
    rate = float(np.float32(norm(problem.start) / norm(gradient)))
    async with started(model, problem.theta) as node:
        for choice in itertools.product([False, True], repeat=len(model.parts)):
            frozen, step = 0, -rate * gradient
            for part, moves in zip(model.parts, choice, strict=True):
                if not moves:
                    frozen |= 1 << part.layer
                    step[part.first : part.end] = 0
            await train(node, problem.samples, rate=rate, frozen=frozen)
            moved = await difference(node, model)
            await node.set_weights(full(problem.theta))
            assert not moved[step == 0].any()
            assert norm(moved - step) <= TOLERANCE * rate * norm(gradient)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(problems(samples=st.just(1)))
def test_the_reference_s_gradient_is_the_definition_s(problem: Problem):
    [sample] = problem.pairs()
    expected = definition.gradient(problem.model, problem.start, *sample)
    found, slopes = ref.gradient(problem.layers, problem.start, problem.kind, *sample)
    value = definition.value(problem.model, problem.start, *sample)
    assert found == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(slopes, expected, rtol=1e-9, atol=1e-12 * norm(expected))
