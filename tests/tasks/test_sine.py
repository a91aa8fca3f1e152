"""The sine task: a function of seed and device."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.tasks import Sine, sine

SEEDS = st.integers(0, 2**63 - 1)
DEVICES = st.integers(0, 2_000_000)
TASK = Sine(name="sine")


@given(SEEDS, DEVICES, st.integers(0, 20), st.integers(1, 20))
def test_samples_lie_on_the_device_s_sine(seed: int, device: int, support: int, query: int):
    amplitude, phase = TASK.wave(seed, device)
    assert 0.1 <= amplitude <= 5
    assert 0 <= phase < 2 * np.pi
    parts = TASK.device(seed, device, support, query)
    assert [len(part) for part in parts] == [support, query]
    for part in parts:
        assert part.inputs.dtype == part.targets.dtype == np.float32
        assert (np.abs(part.inputs) <= 5).all()
        np.testing.assert_allclose(
            part.targets, amplitude * np.sin(part.inputs.astype(float) + phase), atol=1e-5
        )


@given(SEEDS, DEVICES)
def test_the_same_seed_and_device_give_the_same_samples(seed: int, device: int):
    first, again = TASK.device(seed, device, 3, 4), TASK.device(seed, device, 3, 4)
    assert [part.packed for part in first] == [part.packed for part in again]


@given(SEEDS, st.lists(st.lists(DEVICES, max_size=5), max_size=5), st.integers(0, 20))
def test_a_population_is_its_devices(seed: int, rounds: list[list[int]], support: int):
    """Also where some of them have been asked for before, and where too many have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sine, "MOST_KNOWN", 6)
        for devices in rounds:
            found = TASK.population(seed, devices, support, [9] * len(devices))
            alone = [TASK.device(seed, device, support, 9) for device in devices]
            assert [[part.packed for part in pair] for pair in found] == [
                [part.packed for part in pair] for pair in alone
            ]


def test_devices_and_seeds_differ():
    waves = {TASK.wave(seed, device) for seed in range(20) for device in range(20)}
    assert len(waves) == 400


def test_support_and_query_share_no_sample():
    support, query = TASK.device(1, 2, 50, 50)
    assert not set(support.inputs.flat) & set(query.inputs.flat)


@given(SEEDS, DEVICES, st.integers(0, 25), st.integers(1, 25), st.integers(2, 10))
def test_on_a_grid_every_point_comes_before_one_comes_again(
    seed: int, device: int, support: int, query: int, grid: int
):
    task = Sine(name="sine", grid=grid)
    points = np.linspace(-5, 5, grid).astype(np.float32)
    amplitude, phase = task.wave(seed, device)
    parts = task.device(seed, device, support, query)
    assert [len(part) for part in parts] == [support, query]
    for part in parts:
        for first in range(0, len(part), grid):
            x = part.inputs[first : first + grid].ravel()
            assert set(x) <= set(points)
            assert len(set(x)) == len(x)
        y = amplitude * np.sin(part.inputs.astype(float) + phase)
        np.testing.assert_allclose(part.targets, y, atol=1e-5)


def test_on_a_grid_the_order_is_each_device_s_own():
    task = Sine(name="sine", grid=50)
    orders = {task.device(1, device, 0, 50)[1].inputs.tobytes() for device in range(20)}
    assert len(orders) == 20
