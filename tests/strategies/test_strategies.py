"""Steps that strategies share, against the independent reference."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import reference
from conftest import MakeExperiment
from tinymetafed.nodes.node import Delta
from tinymetafed.strategies import TinyMetaFed
from tinymetafed.strategies.base import annealed, outer_step, stream
from tinymetafed.tasks import Sine

SEEDS = st.integers(0, 2**32 - 1)


def _sparse(delta: NDArray[np.float32]) -> Delta:
    where = np.flatnonzero(delta)
    return Delta(where, delta[where])


@given(SEEDS, st.integers(1, 30), st.integers(1, 5), st.floats(0, 3))
def test_the_outer_step_is_the_mean_over_all_nodes(seed: int, size: int, nodes: int, rate: float):
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=size).astype(np.float32)
    dense = rng.normal(size=(nodes, size)).astype(np.float32)
    dense[rng.random(dense.shape) < 0.5] = 0  # not sent
    found = outer_step(theta, [_sparse(delta) for delta in dense], rate)
    expected = reference.aggregate(theta.astype(float), list(dense.astype(float)), rate)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@given(st.floats(0.01, 10), st.integers(1, 1000))
def test_the_rate_falls_linearly_to_zero(rate: float, rounds: int):
    rates = [annealed(rate, t, rounds) for t in range(rounds + 1)]
    assert rates[0] == rate
    assert rates[-1] == 0
    np.testing.assert_allclose(np.diff(rates), -rate / rounds, rtol=1e-6, atol=1e-12)


@given(st.integers(1, 12), st.integers(0, 40))
def test_a_stream_repeats_its_samples_in_order(count: int, steps: int):
    samples, _ = Sine(name="sine").device(1, 1, count, 0)
    repeated = stream(samples, steps)
    assert len(repeated) == steps
    assert all(
        repeated.inputs[i] == samples.inputs[i % count]
        and repeated.targets[i] == samples.targets[i % count]
        for i in range(steps)
    )


def test_a_node_sends_p_percent_of_the_global_part(experiment: MakeExperiment):
    model = experiment().built_model
    size = int(model.global_mask.sum())
    assert size == 6 * 2 + 5 * 7
    assert TinyMetaFed(name="tinymetafed", percent=10).keep(model) == round(0.1 * size)
    assert TinyMetaFed(name="tinymetafed", percent=0.01).keep(model) == 1
