"""Rounds of the strategies on nodes, beside loops over the same devices in float64."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import reference as ref
from conftest import MakeExperiment
from learning import reference_layers
from running import STRATEGIES, execute, play
from tinymetafed.experiments.experiment import Experiment
from tinymetafed.federation.client import Client
from tinymetafed.federation.engines import LinkEngine
from tinymetafed.federation.federation import Federation
from tinymetafed.strategies import FedAvg, Round, TinyMetaFed, TinyReptile

ROUNDS = 4
CLOSE = 2e-6  # of weights around 1, after hundreds of roundings to float32

Devices = list[tuple[ref.Samples, ref.Samples]]  # of a round, in the order of the nodes


def devices(experiment: Experiment, done: int) -> tuple[list[int], Devices]:
    """The nodes of a round, and their devices' support and query sets."""
    engine = LinkEngine(Client(experiment), [])
    nodes, numbers = Federation(experiment, engine).select(done)
    strategy, found = experiment.strategy, Devices()
    for number in numbers:
        counts = strategy.support, experiment.query(number)
        support, query = (
            [(x.astype(float), y.astype(float)) for x, y in zip(s.inputs, s.targets, strict=True)]
            for s in experiment.task.device(experiment.seed, number, *counts)
        )
        found.append((support, query))
    return nodes, found


def start(experiment: Experiment) -> tuple[list[ref.Layer], NDArray[np.float64]]:
    model = experiment.built_model
    return reference_layers(model), model.initial(experiment.seed).astype(float)


def test_fedavg_is_the_weighted_mean_of_the_nodes_weights(experiment: MakeExperiment):
    settings = experiment(*STRATEGIES["fedavg"])
    strategy = settings.strategy
    assert isinstance(strategy, FedAvg)
    layers, theta = start(settings)
    for done in range(ROUNDS):
        _, tasks = devices(settings, done)
        queries = [query for _, query in tasks]
        assert len({len(query) for query in queries}) > 1
        theta = ref.fedavg_round(layers, theta, "mse", queries, strategy.rate, 3, 2)
    found = play(settings, ROUNDS)[-1].theta
    np.testing.assert_allclose(found, theta, atol=CLOSE)


def test_tinyreptile_goes_from_device_to_device(experiment: MakeExperiment):
    settings = experiment(*STRATEGIES["tinyreptile"])
    strategy = settings.strategy
    assert isinstance(strategy, TinyReptile)
    layers, theta = start(settings)
    streams = [query for done in range(ROUNDS) for _, query in devices(settings, done)[1]]
    assert len(streams) == ROUNDS
    expected = ref.tiny_reptile(layers, theta, "mse", streams, strategy.rate, strategy.outer_rate)
    found = play(settings, ROUNDS)[-1].theta
    np.testing.assert_allclose(found, expected, atol=CLOSE)
    assert np.abs(found - theta).max() > 100 * CLOSE


@pytest.mark.parametrize("percent", ["10", "{start=60, end=10}"])
def test_tinymetafed_with_error_feedback_sends_what_was_left(
    experiment: MakeExperiment, percent: str
):
    feedback = ("strategy.error_feedback=true", "nodes.per_round=2")
    settings = experiment(f"strategy.percent={percent}", *feedback)
    strategy, model = settings.strategy, settings.built_model
    assert isinstance(strategy, TinyMetaFed)
    layers, theta = start(settings)
    left = {node: np.zeros_like(theta) for node in range(3)}
    keeps: list[int] = []
    for done in range(ROUNDS):
        nodes, tasks = devices(settings, done)
        keeps.append(strategy.keep(model, Round(done, ROUNDS)))
        sent: list[ref.Vector] = []
        for node, (support, query) in zip(nodes, tasks, strict=True):
            ready, _ = ref.reconstruct(layers, theta, "mse", support, strategy.local_rate)
            learnt, _ = ref.learn(layers, ready, "mse", query, strategy.global_rate)
            delta = np.where(model.global_mask, learnt - theta, 0)
            now, left[node] = ref.with_feedback(delta, left[node], keeps[-1])
            sent.append(now)
        theta = ref.aggregate(theta, sent, strategy.outer_rate * (1 - done / ROUNDS))
    assert keeps == ([5] * 4 if percent == "10" else [28, 20, 13, 5])  # of 47
    end = play(settings, ROUNDS)[-1]
    np.testing.assert_allclose(end.theta, theta, atol=CLOSE)
    for node, residual in end.kept.items():
        np.testing.assert_allclose(residual, left[node], atol=CLOSE)
    assert set(end.kept) == {node for node in left if left[node].any()}


def test_local_exchanges_nothing(tmp_path: Path, experiment: MakeExperiment):
    settings = experiment(*STRATEGIES["local"])
    store, run = execute(settings, tmp_path)
    assert run.weights.tobytes() == settings.built_model.initial(settings.seed).tobytes()
    for row in store.node_rounds(run.id):
        messages = json.loads(row.messages)
        assert set(messages) - {"hello", "load"} == {"weights", "store", "train", "framing"}
        if row.round > 1:  # it is told to start again, and says that it has done so
            assert row.bytes_down < 100
            assert row.bytes_up < 50
    judged = store.evaluations(run.id)
    on_the_way = [one for one in judged if one.part == "validation"]
    by_round = {
        row.round: [one.loss_after for one in on_the_way if one.round == row.round]
        for row in on_the_way
    }
    first, *others = by_round.values()
    assert len(others) == 2
    assert others == [first, first]


@pytest.mark.parametrize(
    ("changes", "theta", "down", "up"),
    [
        ("strategy.percent=50", 0x2AB95576, 2892, 1932),
        ("strategy.percent=10", 0x546CE598, 1872, 1029),
        (STRATEGIES["reptile"][0], 0x7E298A1F, 3179, 3144),
    ],
)
def test_weights_and_bytes_are_those_that_they_were(
    tmp_path: Path, experiment: MakeExperiment, changes: str, theta: int, down: int, up: int
):
    """Of what was there before error feedback and formats of values: a change of these figures is a
    change of every run that is stored."""
    store, run = execute(experiment(changes), tmp_path)
    assert zlib.crc32(run.theta) == theta
    rows = store.node_rounds(run.id)
    assert (sum(row.bytes_down for row in rows), sum(row.bytes_up for row in rows)) == (down, up)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_device_may_be_judged_without_any_step(
    tmp_path: Path, experiment: MakeExperiment, name: str
):
    """Then only the local part is refitted, where it is reconstructed before any step."""
    settings = experiment(*STRATEGIES[name], "evaluation.steps=0", rounds=1)
    store, run = execute(settings, tmp_path)
    client = getattr(settings.strategy, "client", settings.strategy)
    for row in store.evaluations(run.id):
        assert (row.loss_after == row.loss_before) == (not isinstance(client, TinyMetaFed))


@pytest.mark.parametrize(("values", "most"), [("float16", 0.75), ("int8", 0.6)])
def test_rounded_values_take_fewer_bytes(
    tmp_path: Path, experiment: MakeExperiment, values: str, most: float
):
    sizes: dict[str, int] = {}
    for form in ("float32", values):
        store, run = execute(experiment(f"strategy.values={form}"), tmp_path / form)
        rows = store.node_rounds(run.id)
        sizes[form] = sum(json.loads(row.messages)["update"][1] for row in rows)
    assert sizes[values] < most * sizes["float32"]
