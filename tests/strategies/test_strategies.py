"""Steps that strategies share, against the independent reference."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import reference
from conftest import SMALL, MakeExperiment
from tinymetafed.experiments.experiment import parse
from tinymetafed.federation.settings import DeviceSettings
from tinymetafed.models.layers import Dense
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.nodes.packing import Room, pack
from tinymetafed.nodes.update import Update
from tinymetafed.strategies import FedAvg, Reptile, Round, ServerState, TinyMetaFed, TinyReptile
from tinymetafed.strategies.base import annealed
from tinymetafed.strategies.tinymetafed import Schedule

SEEDS = st.integers(0, 2**32 - 1)
MODEL = Model.build(ModelSettings(layers=(Dense(units=100),)), 99)


def _sparse(delta: NDArray[np.float32]) -> Update:
    where = np.flatnonzero(delta).astype(np.int32)
    return Update(0, 1, where, delta[where])


@given(SEEDS, st.integers(1, 30), st.integers(1, 5), st.floats(0, 3))
def test_the_outer_step_is_the_mean_over_all_nodes(seed: int, size: int, nodes: int, rate: float):
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=size).astype(np.float32)
    dense = rng.normal(size=(nodes, size)).astype(np.float32)
    dense[rng.random(dense.shape) < 0.5] = 0  # not sent
    updates = [_sparse(delta) for delta in dense]
    strategy = Reptile.model_construct(outer_rate=rate)
    found = strategy.aggregate(ServerState(theta), updates, Round(0, 1)).theta
    expected = reference.aggregate(theta.astype(float), list(dense.astype(float)), rate)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@given(st.floats(0.01, 10), st.integers(1, 1000))
def test_the_rate_falls_linearly_to_zero(rate: float, rounds: int):
    rates = [annealed(rate, Round(t, rounds)) for t in range(rounds + 1)]
    assert rates[0] == rate
    assert rates[-1] == 0
    np.testing.assert_allclose(np.diff(rates), -rate / rounds, rtol=1e-6, atol=1e-12)


@given(st.integers(1, 12), st.integers(0, 40))
def test_a_stream_repeats_its_samples_in_order(count: int, steps: int):
    program = TinyReptile(name="tinyreptile").personalise(MODEL, count, steps)
    if steps == 0:
        assert program == ()
        return
    room = Room(support=count, query=0, sample=8, runs=MODEL.global_runs, capacity=200)
    pieces = [piece for frame in pack(program, room) for piece in frame]
    assert {(piece.name, source) for piece in pieces for source, *_ in piece.samples} == {
        ("train", "support")
    }
    ranges = [(first, end) for piece in pieces for _, first, end in piece.samples]
    used = [i for first, end in ranges for i in range(first, end)]
    assert used == [i % count for i in range(steps)]


def test_a_node_sends_p_percent_of_the_global_part(experiment: MakeExperiment):
    model = experiment().built_model
    size = model.global_parameters
    assert size == 6 * 2 + 5 * 7
    assert TinyMetaFed(name="tinymetafed", percent=10).keep(model, Round(0, 1)) == round(0.1 * size)
    assert TinyMetaFed(name="tinymetafed", percent=0.01).keep(model, Round(0, 1)) == 1


@settings(deadline=None)
@given(st.floats(1, 100), st.floats(1, 100), st.integers(1, 1000), st.data())
def test_a_schedule_is_linear_from_the_first_round_to_the_last(
    start: float, end: float, rounds: int, data: st.DataObject
):
    strategy = TinyMetaFed(name="tinymetafed", percent=Schedule(start=start, end=end))
    t = data.draw(st.integers(0, rounds - 1))
    percent = start if rounds == 1 else np.interp(t, [0, rounds - 1], [start, end])
    assert abs(strategy.keep(MODEL, Round(t, rounds)) - percent / 100 * 10_000) < 0.501


class Weighted(FedAvg):
    """Nodes weigh as many samples as they have; the server goes some part of the way, or more."""

    outer_rate: float

    def step_size(self, server_round: Round) -> float:
        """See Averaging."""
        return self.outer_rate


@settings(deadline=None)
@given(SEEDS, st.integers(1, 6), st.floats(0, 3))
def test_nodes_may_weigh_more_than_others(seed: int, nodes: int, rate: float):
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=7).astype(np.float32)
    dense = rng.normal(size=(nodes, 7)).astype(np.float32)
    weights = rng.integers(1, 1000, nodes).tolist()
    updates = [
        dataclasses.replace(_sparse(delta), samples=weight)
        for delta, weight in zip(dense, weights, strict=True)
    ]
    found = (
        Weighted(name="fedavg", outer_rate=rate)
        .aggregate(ServerState(theta), updates, Round(0, 1))
        .theta
    )
    expected = theta + rate * np.average(dense.astype(float), axis=0, weights=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@settings(deadline=None)
@given(SEEDS, st.integers(0, 999), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_device_has_the_same_part_of_the_samples_every_time(
    seed: int, device: int, one: float, other: float
):
    low, high = sorted((one, other))
    small = parse(SMALL, "SMALL", (f"seed={seed}", "strategy.query=200"))
    some = small.model_copy(update={"devices": DeviceSettings(fraction=(low, high))})
    count = some.query(device)
    assert max(1, round(low * 200)) <= count <= max(1, round(high * 200))
    assert some.query(device) == count


def test_devices_differ_in_their_samples_only_where_they_are_to(experiment: MakeExperiment):
    assert {experiment().query(device) for device in range(50)} == {6}
    some = experiment("strategy.query=100", "devices.fraction=[0.25, 1.0]")
    counts = [some.query(device) for device in range(1000)]
    assert (min(counts), max(counts)) == (25, 100)
    assert abs(np.mean(counts) - 62.5) < 2
    other = experiment("strategy.query=100", "devices.fraction=[0.25, 1.0]", "seed=2")
    assert [other.query(device) for device in range(1000)] != counts


def test_a_part_of_the_samples_has_as_many_of_each_class(experiment: MakeExperiment):
    of_classes = experiment(
        "task={name='omniglot'}", "model={loss='softmax_cross_entropy', layers=[{units=5}]}",
        "strategy={name='fedavg', query=50}", "devices.fraction=[0.01, 1.0]",
        "evaluation={support=5, query=15}",
    )  # fmt: skip
    counts = {of_classes.query(device) for device in range(500)}
    assert counts == set(range(5, 55, 5))
