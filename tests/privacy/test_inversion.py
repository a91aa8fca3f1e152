"""Samples reconstructed from updates: what the attack computes, and what it comes to."""

import asyncio
import dataclasses
import os
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import learning
from calling import call
from conftest import MakeExperiment
from running import execute
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.models.layers import Shape
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.nodes.outcome import Outcome
from tinymetafed.nodes.program import Mark, Program, Select, Send, Store, Train
from tinymetafed.privacy import measuring
from tinymetafed.privacy.differentiable import Differentiable, Learnt, check, grad
from tinymetafed.privacy.inversion import Attack, Inversion, Observed, Prior, solved
from tinymetafed.privacy.measuring import Attacked, Case, measure
from tinymetafed.results import store as results
from tinymetafed.tasks.samples import Samples


def as_learnt(model: Model, samples: Samples) -> Learnt:
    """Of one node."""
    targets = samples.targets.astype(np.float64)
    if targets.ndim == 1:
        one = model.outputs == 1
        targets = targets[:, None] if one else np.eye(model.outputs)[targets.astype(int)]
    return Learnt(samples.inputs[None].astype(np.float64), targets[None])


def dense(loss: str = "softmax_cross_entropy", units: int = 8) -> Model:
    """Four values in, three out."""
    layers = [{"units": units, "activation": "tanh"}, {"units": 3, "activation": "tanh"}]
    return Model.build(ModelSettings.model_validate({"layers": layers, "loss": loss}), 4)


def sent(problem: learning.Problem, program: Program) -> Observed:
    """A host node's update."""
    model = problem.model

    async def work() -> Outcome:
        async with learning.started(model, problem.theta, accumulate=True, capacity=9) as node:
            return await node.run(program, query=problem.samples)

    found = asyncio.run(work())
    values = np.zeros((1, model.parameters))
    values[0, found.indices] = found.values
    there = np.zeros(values.shape, np.bool_)
    there[0, found.indices] = True
    return Observed(values, there)


@given(
    problem=learning.problems(st.integers(2, 5)), batch=st.integers(1, 3), epochs=st.integers(1, 2)
)
@settings(max_examples=60)
def test_what_is_differentiated_is_what_a_node_computes(
    problem: learning.Problem, batch: int, epochs: int
):
    model, pairs = problem.model, problem.pairs()
    mask = learning.mask_of(model, model.parts)
    rate = learning.rate_for(problem, pairs, mask)
    length = learning.way(problem, problem.start, pairs, rate, mask, batch, epochs)
    train = Train("stored", rate=rate, batch=batch, epochs=epochs)
    program = (Store("query"), train, Select(model.parameters), Send())
    observed = sent(problem, program)
    node = Differentiable(model)
    start = problem.start[None]
    after = node.learn(program, node.weights(start), None, as_learnt(model, problem.samples))
    delta = node.vector(after) - start
    assert np.abs(delta - observed.values).max() <= 2 * learning.TOLERANCE * length


@pytest.mark.parametrize("loss", ["mse", "softmax_cross_entropy"])
def test_the_slope_of_the_attack_is_that_of_finite_differences(loss: str):
    layers: list[dict[str, Any]] = [
        {"type": "conv2d", "filters": 2, "padding": 1, "activation": "sigmoid"},
        {"type": "average_pool2d"},
        {"type": "depthwise_conv2d", "size": 2, "activation": "tanh"},
        {"units": 3, "local": True},
    ]
    chosen = {"layers": layers, "loss": loss, "shape": (4, 4, 1)}
    model = Model.build(ModelSettings.model_validate(chosen), 16)
    rng = np.random.default_rng(1)
    theta = rng.normal(0, 0.5, model.parameters).astype(np.float32)
    program = (
        Train("support", rate=0.1, frozen=model.frozen(local=False)),
        Train("query", rate=0.1, frozen=model.frozen(local=True)), Select(9), Send(),
    )  # fmt: skip
    values = rng.normal(size=(1, model.parameters)) * model.global_mask
    inversion = Inversion(model, program, theta, Observed(values, values != 0))
    at = [rng.normal(size=(1, 2, size)) for size in (16, 3, 16, 3)]
    slopes = grad(lambda samples: inversion.distances(samples)[0])(at)
    assert len(slopes) == 4
    for k, place in enumerate(at):
        way = rng.normal(size=place.shape)
        step = 1e-5
        there = [[*at[:k], place + sign * step * way, *at[k + 1 :]] for sign in (1, -1)]
        ahead, behind = (inversion.distances(one)[0] for one in there)
        found = float((slopes[k] * way).sum())
        assert found == pytest.approx((ahead - behind) / (2 * step), rel=1e-5, abs=1e-9)


@given(seed=st.integers(0, 2**32 - 1), loss=st.sampled_from(["mse", "softmax_cross_entropy"]))
@settings(max_examples=40)
def test_a_dense_first_layer_tells_the_sample(seed: int, loss: str):
    problem = learning.seeded(dense(loss), seed, 1)
    model = problem.model
    program = (Train("query", rate=0.1), Select(model.parameters), Send())
    observed = sent(problem, program)
    found = solved(model, program, observed)
    assert found is not None
    assert np.abs(found - problem.samples.inputs).max() < 1e-4


def test_a_value_of_which_no_pair_was_sent_is_not_told():
    problem = learning.seeded(dense(units=4), 3, 1)
    model = problem.model
    program = (Train("query", rate=0.1), Select(model.parameters), Send())
    observed = sent(problem, program)
    there = observed.sent.copy()
    there[0, [0, 4, 8, 12]] = False  # of the first input, by all four units
    found = solved(model, program, Observed(observed.values * there, there))
    assert found is not None
    assert np.isnan(found[0, 0])
    assert found[0, 1:] == pytest.approx(problem.samples.inputs[0, 1:], abs=1e-4)


def test_only_a_step_on_a_dense_layer_is_solved():
    model = dense()
    nothing = Observed(np.zeros((1, model.parameters)), np.zeros((1, model.parameters), np.bool_))
    twice = (Train("query", rate=0.1), Train("query", rate=0.1))
    assert solved(model, twice, nothing) is None
    assert solved(model, (Train("stored", rate=0.1, epochs=2),), nothing) is None


ATTACK = Attack(iterations=120, restarts=1, variation=0.0)
PRIOR = Prior(np.zeros(4), np.full(4, 0.8), -1.5, 1.5, Shape(1, 1, 4), (0.0, 1.0))


def test_the_attack_finds_the_sample_and_its_class_and_is_reproducible():
    problem = learning.seeded(dense(), 5, 1)
    model = problem.model
    program = (Train("query", rate=0.1), Select(model.parameters), Send())
    observed = sent(problem, program)
    inversion = Inversion(model, program, problem.theta, observed)
    found = inversion.guess(1, PRIOR, ATTACK)
    assert found.inputs[0] == pytest.approx(problem.samples.inputs, abs=0.02)
    assert found.targets[0].argmax(axis=1) == problem.samples.targets
    few = [dataclasses.replace(ATTACK, iterations=5, seed=seed) for seed in (1, 1, 2)]
    one, again, other = (inversion.guess(1, PRIOR, attack).inputs for attack in few)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_two_samples_of_a_batch_are_found_in_some_order():
    problem = learning.seeded(dense("mse"), 8, 2)
    model = problem.model
    train = Train("stored", rate=0.1, batch=2)
    program = (Store("query"), train, Select(model.parameters), Send())
    observed = sent(problem, program)
    attack = dataclasses.replace(ATTACK, iterations=400)
    found = Inversion(model, program, problem.theta, observed).guess(2, PRIOR, attack)
    victims = [(problem.samples[:0], problem.samples)]
    known = np.random.default_rng(1).normal(size=(200, 4))
    [(error, recognised, targets)] = measuring._compared(found, victims, known, PRIOR, 1)
    assert error < 0.01
    assert recognised == 1
    assert targets < 0.05


def test_what_is_reconstructed_is_compared_in_any_order():
    rng = np.random.default_rng(4)
    inputs = rng.normal(size=(3, 4)).astype(np.float32)
    classes = np.array([2, 0, 1], np.uint32)
    victims = [(Samples(inputs[:0], classes[:0]), Samples(inputs, classes))]
    known = rng.normal(size=(200, 4))
    order = [1, 2, 0]
    right = Learnt(inputs[None, order].astype(np.float64), np.eye(3)[classes[order]][None])
    assert list(measuring._compared(right, victims, known, PRIOR, 1)) == [(0.0, 1.0, 1.0)]
    mean = Learnt(np.zeros((1, 3, 4)), right.targets)
    [(error, recognised, _)] = measuring._compared(mean, victims, known, PRIOR, 1)
    assert error == 1
    assert recognised < 1


def test_a_program_that_is_not_followed_is_refused():
    with pytest.raises(TinyMetaFedError, match="does not follow steps with proximal"):
        check((Train("query", rate=0.1, proximal=1.0),))
    with pytest.raises(TinyMetaFedError, match="does not follow Mark"):
        check((Mark(),))


def test_a_run_is_attacked_after_and_before_training(tmp_path: Path, experiment: MakeExperiment):
    store, run = execute(
        experiment("strategy={name='tinyreptile', query=6}", "nodes.per_round=1"), tmp_path
    )
    attack = Attack(iterations=60, restarts=2)
    told = [measure(Attacked(store, run), Case(1, share), 5, attack) for share in (100.0, 2.0)]
    assert told[0].entries > told[1].entries == 1
    assert max(told[0].solved) < 1e-4
    assert told[1].solved == (1.0,) * 5  # an entry tells nothing of the ratio
    assert (told[0].done, told[0].chance) == (4, 1.0)
    first = Attacked(store, run, first=True)
    assert np.array_equal(first.theta, first.model.initial(1))
    # The last layer is zero then, so the first one does not move.
    assert measure(first, Case(1), 5, attack).solved == (1.0,) * 5


def test_the_command(compared: results.Store, tmp_path: Path):
    place = {"TMF_RUNS": str(compared.folder)}
    few = ("--devices", "2", "--iterations", "5", "--restarts", "1")
    files = ("--markdown", "a.md", "--json", "a.json")
    called = call(tmp_path, "invert", "1", "--samples", "1,2", "--percent", "50,100", *few, **place)
    assert called.returncode == 0, called.stderr
    assert "Run 1, tinymetafed on sine, after 4 rounds: 2 devices" in called.stdout
    called = call(tmp_path, "invert", "reptile", *few, *files, **place)
    assert called.returncode == 0, called.stderr
    assert (tmp_path / "a.md").read_text().count("**Run ") == 2
    assert (tmp_path / "a.json").read_text().count('"strategy": "reptile"') == 2
    for arguments, says in (
        (("1", "--percent", "0"), "--percent 0: expected numbers from 1e-06 to 100"),
        (("1", "--samples", "1.5"), "--samples 1.5: expected whole numbers"),
        (("1", "--samples", "7"), "--samples: 7, but devices of run 1 learn from 6"),
        (("1", "--devices", "1000"), "--devices: 1000, but run 1 has 1000"),
    ):
        called = call(tmp_path, "invert", *arguments, **place)
        assert called.returncode == 1
        assert called.stderr.startswith(f"error: {says}"), called.stderr
        assert len(called.stderr.splitlines()) == 1


def test_without_the_extra_it_is_named(compared: results.Store, tmp_path: Path):
    (tmp_path / "autograd.py").write_text("raise ImportError(name='autograd')\n")
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    place = {"TMF_RUNS": str(compared.folder), "PYTHONPATH": paths}
    called = call(tmp_path, "invert", "1", **place)
    assert called.returncode == 1
    assert called.stderr == (
        "error: the attack needs the extra privacy (autograd is not installed): pip install "
        "'tinymetafed[privacy]'\n"
    )
