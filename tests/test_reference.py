"""The reference is itself right: finite differences, worked examples, and what must not move."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import reference as ref
from reference import Layer, Window

EVERYTHING = np.ones(26, dtype=bool)
SEEDS = st.integers(0, 2**32 - 1)
LOSSES = st.sampled_from(["mse", "softmax_cross_entropy"])


def problem(seed: int, kind: str, activation: str = "tanh", samples: int = 5):
    """A small network with a local head, its parameters, and samples that suit the loss."""
    rng = np.random.default_rng(seed)
    layers = [Layer("dense", 3, 4), Layer(activation, 4, 4), Layer("dense", 4, 2, local=True)]
    draws = rng.normal(size=(samples, 2))
    targets = [draw if kind == "mse" else int(draw[0] > 0) for draw in draws]
    return layers, rng.normal(size=26), [(rng.normal(size=3), target) for target in targets]


@given(SEEDS, LOSSES, st.sampled_from(["relu", "tanh"]))
def test_gradient_agrees_with_finite_differences(seed: int, kind: str, activation: str):
    layers, theta, [(x, target)] = problem(seed, kind, activation, samples=1)
    assume(np.min(np.abs(ref.forward(layers[:1], theta, x))) > 1e-3)  # away from relu's kink
    step = 1e-5 * np.eye(theta.size)
    up = [ref.loss(kind, ref.forward(layers, moved, x), target) for moved in theta + step]
    down = [ref.loss(kind, ref.forward(layers, moved, x), target) for moved in theta - step]
    _, grad = ref.gradient(layers, theta, kind, x, target)
    np.testing.assert_allclose(grad, np.subtract(up, down) / 2e-5, rtol=1e-5, atol=1e-7)


@given(
    SEEDS,
    st.sampled_from(["conv2d", "depthwise_conv2d", "max_pool2d", "average_pool2d"]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2),
)
def test_gradient_through_a_window_agrees_with_finite_differences(
    seed: int, kind: str, size: int, stride: int, padding: int
):
    assume(padding < size)
    window = Window((4, 3, 2), size, stride, padding if "conv" in kind else 0)
    outputs = window.reach.shape[0] * (3 if kind == "conv2d" else 2)
    below = Layer("conv2d", 24, 24, window=Window((4, 3, 2), 1, 1))
    layers = [below, Layer(kind, 24, outputs, window=window), Layer("dense", outputs, 2)]
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=ref.layer_slices(layers)[-1].stop)
    x, target = rng.normal(size=24), rng.normal(size=2)
    step = 1e-5 * np.eye(theta.size)
    up = [ref.loss("mse", ref.forward(layers, moved, x), target) for moved in theta + step]
    down = [ref.loss("mse", ref.forward(layers, moved, x), target) for moved in theta - step]
    _, grad = ref.gradient(layers, theta, "mse", x, target)
    np.testing.assert_allclose(grad, np.subtract(up, down) / 2e-5, rtol=1e-4, atol=1e-6)


@given(SEEDS, st.integers(1, 3), st.integers(1, 3), st.integers(0, 2))
def test_a_convolution_is_the_sum_over_the_window_as_written(
    seed: int, size: int, stride: int, padding: int
):
    assume(padding < size)
    (height, width, channels), filters = (4, 5, 2), 3
    rng = np.random.default_rng(seed)
    window = Window((height, width, channels), size, stride, padding)
    places = window.reach.shape[0]
    layer = Layer("conv2d", height * width * channels, places * filters, window=window)
    weights, bias = rng.normal(size=(filters, size, size, channels)), rng.normal(size=filters)
    image = rng.normal(size=(height, width, channels))
    expected = [
        bias[f]
        + sum(
            weights[f, i, j, c] * image[y + i, x + j, c]
            for i, j, c in itertools.product(range(size), range(size), range(channels))
            if 0 <= y + i < height and 0 <= x + j < width
        )
        for y in range(-padding, height + padding - size + 1, stride)
        for x in range(-padding, width + padding - size + 1, stride)
        for f in range(filters)
    ]
    theta = np.append(weights, bias)
    np.testing.assert_allclose(ref.forward([layer], theta, image.ravel()), expected)


def test_worked_example_fixes_layout_and_loss_scale():
    layers, theta = [Layer("dense", 2, 2)], np.array([1.0, 2.0, 3.0, 4.0, 0.5, -0.5])
    x, target = np.array([1.0, 10.0]), np.array([20.5, 45.5])
    np.testing.assert_array_equal(ref.forward(layers, theta, x), [21.5, 42.5])
    value, grad = ref.gradient(layers, theta, "mse", x, target)
    assert value == 5.0  # (1 + 9) / 2
    np.testing.assert_array_equal(grad, [1.0, 10.0, -3.0, -30.0, 1.0, -3.0])
    assert ref.loss("softmax_cross_entropy", np.zeros(4), 3) == pytest.approx(np.log(4))


@given(SEEDS, LOSSES)
def test_masks_hold_exactly(seed: int, kind: str):
    layers, theta, samples = problem(seed, kind)
    local = ref.local_mask(layers)
    assert np.flatnonzero(local).tolist() == list(range(16, 26))
    for step, moves in ((ref.reconstruct, local), (ref.learn, ~local)):
        after, _ = step(layers, theta, kind, samples, 0.1)
        assert np.array_equal(after[~moves], theta[~moves])
        assert not np.array_equal(after[moves], theta[moves])


def test_last_mini_batch_is_averaged_over_its_own_size():
    layers, theta, samples = problem(1, "mse", samples=3)
    first = [ref.gradient(layers, theta, "mse", *sample) for sample in samples[:2]]
    middle = theta - 0.1 * (first[0][1] + first[1][1]) / 2
    value, grad = ref.gradient(layers, middle, "mse", *samples[2])
    after, mean = ref.train(layers, theta, "mse", samples, 0.1, EVERYTHING, batch=2)
    np.testing.assert_allclose(after, middle - 0.1 * grad)
    assert mean == pytest.approx((first[0][0] + first[1][0] + value) / 3)


@given(st.lists(st.integers(-3, 3)), st.integers(0, 12))
def test_select_top_prefers_magnitude_then_lower_index_and_never_zero(values: list[int], keep: int):
    ranked = sorted((-abs(v), i) for i, v in enumerate(values) if v != 0)
    expected = sorted(i for _, i in ranked[:keep])
    assert ref.select_top(np.array(values, float), keep).tolist() == expected


def test_rounds_send_what_they_may_and_average_it():
    layers, theta, samples = problem(7, "mse", samples=8)
    tasks = [(samples[:2], samples[2:4]), (samples[4:6], samples[6:])]
    after, sent = ref.tinymetafed_round(layers, theta, "mse", tasks, 0.1, 0.1, 0.5, keep_ratio=0.75)
    assert [len(s) for s in sent] == [12, 12]  # of the 16 global entries
    assert not ref.local_mask(layers)[np.concatenate(sent)].any()
    assert set(np.flatnonzero(after != theta)) == set(np.concatenate(sent).tolist())
    ends = [ref.train(layers, theta, "mse", s, 0.1, EVERYTHING, 2, 3)[0] for s, _ in tasks]
    moved = ref.reptile_round(layers, theta, "mse", tasks, 0.1, 0.5, 2, 3)
    np.testing.assert_allclose(moved, theta / 2 + (ends[0] + ends[1]) / 4)


def test_the_strategies_of_one_device_that_does_one_step_are_the_same():
    layers, theta, samples = problem(3, "mse", samples=1)
    stepped = theta - 0.1 * ref.gradient(layers, theta, "mse", *samples[0])[1]
    one = [samples]
    np.testing.assert_allclose(ref.tiny_reptile(layers, theta, "mse", one, 0.1, 1), stepped)
    np.testing.assert_allclose(ref.fedavg_round(layers, theta, "mse", one, 0.1, 4, 1), stepped)


def test_devices_weigh_by_their_samples():
    layers, theta, samples = problem(4, "mse", samples=4)
    ends = [
        ref.train(layers, theta, "mse", part, 0.1, EVERYTHING)[0]
        for part in (samples[:1], samples[1:])
    ]
    found = ref.fedavg_round(layers, theta, "mse", [samples[:1], samples[1:]], 0.1, 1, 1)
    np.testing.assert_allclose(found, (ends[0] + 3 * ends[1]) / 4)


def test_what_is_left_is_sent_when_it_is_large_enough():
    left = np.zeros(3)
    sent = []
    for _ in range(4):
        now, left = ref.with_feedback(np.array([4.0, 3.0, 0.5]), left, 1)
        sent.append(now.tolist())
    assert sent == [[4, 0, 0], [0, 6, 0], [8, 0, 0], [0, 6, 0]]
    assert left.tolist() == [4, 0, 2]
