"""Strategies that the field compares with, beside independent federations in float64."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import reference as ref
from conftest import MakeExperiment
from learning import reference_layers
from running import play
from tinymetafed.experiments.experiment import Experiment
from tinymetafed.federation.client import Client
from tinymetafed.federation.engines import HostEngine
from tinymetafed.federation.federation import Federation

ROUNDS = 4
CLOSE = 2e-6  # of weights around 1, after hundreds of roundings to float32

Vector = NDArray[np.float64]
Tasks = dict[int, tuple[ref.Samples, ref.Samples]]  # support and query by device
Step = Callable[[Vector, Tasks], Vector]


def tasks(settings: Experiment, done: int) -> Tasks:
    """Of a round, in the order of the nodes."""
    client = Client(settings)
    _, devices = Federation(settings, HostEngine(client)).select(done)
    pairs = [
        tuple(
            [(x.astype(float), y.astype(float)) for x, y in zip(s.inputs, s.targets, strict=True)]
            for s in samples
        )
        for samples in client.population(devices)
    ]
    return {device: (pair[0], pair[1]) for device, pair in zip(devices, pairs, strict=True)}


def check(settings: Experiment, make: Callable[[list[ref.Layer]], Step], atol: float = CLOSE):
    """The weights after each round are those of the reference."""
    model = settings.built_model
    theta = model.initial(settings.seed).astype(float)
    step = make(reference_layers(model))
    for done, state in enumerate(play(settings, ROUNDS)[1:]):
        before, theta = theta, step(theta, tasks(settings, done))
        np.testing.assert_allclose(state.theta, theta, atol=atol)
        assert np.abs(theta - before).max() > 50 * atol


def queries(tasks: Tasks) -> list[ref.Samples]:
    return [query for _, query in tasks.values()]


@pytest.mark.parametrize("batch", [1, 3])
def test_fedprox_pulls_to_the_weights_that_were_broadcast(experiment: MakeExperiment, batch: int):
    settings = experiment(
        f"strategy={{name='fedprox', query=8, batch={batch}, epochs=3, rate=0.05, proximal=2.0}}",
        "devices.fraction=[0.25, 1.0]",
    )  # fmt: skip
    check(
        settings,
        lambda layers: (
            lambda theta, found: ref.fedprox_round(
                layers, theta, "mse", queries(found), 0.05, batch, 3, 2.0
            )
        ),
    )


@pytest.mark.parametrize("kind", ["adam", "yogi"])
@pytest.mark.parametrize(
    "client",
    ["{name='fedavg', query=8, batch=3, epochs=2}", "{name='tinymetafed', support=4, query=6}"],
)
def test_server_optimisers_step_by_the_mean_of_the_updates(
    experiment: MakeExperiment, kind: str, client: str
):
    optimiser = f"name='fed{kind}', rate=0.1, beta1=0.8, beta2=0.95, tau=0.01"
    settings = experiment(
        f"strategy={{{optimiser}, client={client}}}", "devices.fraction=[0.25, 1.0]"
    )

    def make(layers: list[ref.Layer]) -> Step:
        size = settings.built_model.parameters
        m, v = np.zeros(size), np.full(size, 0.01**2)

        def step(theta: Vector, found: Tasks) -> Vector:
            nonlocal m, v
            if "fedavg" in client:
                end = ref.fedavg_round(layers, theta, "mse", queries(found), 0.01, 3, 2)
            else:
                every = list(found.values())
                end, _ = ref.tinymetafed_round(layers, theta, "mse", every, 0.01, 0.01, 1.0, 0.5)
            theta, m, v = ref.adaptive_step(kind, theta, m, v, end - theta, 0.1, 0.8, 0.95, 0.01)
            return theta

        return step

    check(settings, make, atol=2e-5)  # a small difference of Δ is divided by a small √v


@pytest.mark.parametrize(("query", "batch"), [(6, 2), (7, 3), (4, 1)])
def test_perfedavg_moves_by_the_gradient_behind_a_step(
    experiment: MakeExperiment, query: int, batch: int
):
    settings = experiment(
        f"strategy={{name='perfedavg', support=8, query={query}, batch={batch}, rate=0.05, "
        "meta_rate=0.1}"
    )
    check(
        settings,
        lambda layers: (
            lambda theta, found: ref.per_fedavg_round(
                layers, theta, "mse", list(found.values()), 0.05, 0.1, batch
            )
        ),
    )


def test_fedper_averages_the_base_alone(experiment: MakeExperiment):
    settings = experiment(
        "strategy={name='fedper', query=8, batch=3, epochs=2, rate=0.05}",
        "devices.fraction=[0.25, 1.0]",
    )
    check(
        settings,
        lambda layers: (
            lambda theta, found: ref.fedper_round(layers, theta, "mse", queries(found), 0.05, 3, 2)
        ),
    )


def test_fedrep_fits_the_head_then_the_representation(experiment: MakeExperiment):
    settings = experiment(
        "strategy={name='fedrep', query=8, batch=3, head_epochs=3, epochs=2, rate=0.05}"
    )
    check(
        settings,
        lambda layers: (
            lambda theta, found: ref.fedrep_round(
                layers, theta, "mse", queries(found), 0.05, 3, 3, 2
            )
        ),
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_scaffold_corrects_each_step_by_control_variates(experiment: MakeExperiment, batch: int):
    """Few devices, so that each is played more than once."""
    settings = experiment(
        f"strategy={{name='scaffold', query=6, batch={batch}, epochs=2, rate=0.02, "
        "outer_rate=0.5}",
        "devices.seen=4",
    )

    def make(layers: list[ref.Layer]) -> Step:
        size = settings.built_model.parameters
        c, own = np.zeros(size), {device: np.zeros(size) for device in range(4)}

        def step(theta: Vector, found: Tasks) -> Vector:
            nonlocal c, own
            samples = {device: query for device, (_, query) in found.items()}
            theta, c, own = ref.scaffold_round(
                layers, theta, "mse", samples, c, own, 0.02, 0.5, batch, 2
            )
            return theta

        return step

    check(settings, make)
