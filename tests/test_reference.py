"""The reference is itself right: finite differences, worked examples, what must not move, and
settings in which one strategy is another."""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import reference as ref
from reference import Layer, Window

EVERYTHING = np.ones(26, dtype=bool)
SEEDS = st.integers(0, 2**32 - 1)
LOSSES = st.sampled_from(["mse", "softmax_cross_entropy"])
FEW = settings(max_examples=20)  # for what takes many gradients and branches little


def square(shape: tuple[int, int, int], size: int, stride: int, padding: int = 0) -> Window:
    sides = (padding, padding)
    return Window(shape, (size, size), (stride, stride), (sides, sides))


def problem(seed: int, kind: str, activation: str = "tanh", samples: int = 5):
    """A small network with a local head, its parameters, and samples that suit the loss."""
    rng = np.random.default_rng(seed)
    layers = [Layer("dense", 3, 4), Layer(activation, 4, 4), Layer("dense", 4, 2, local=True)]
    draws = rng.normal(size=(samples, 2))
    targets = [draw if kind == "mse" else int(draw[0] > 0) for draw in draws]
    return layers, rng.normal(size=26), [(rng.normal(size=3), target) for target in targets]


def slope(function: Callable[[ref.Vector], float], theta: ref.Vector) -> ref.Vector:
    """The function's gradient by finite differences."""
    step = 1e-5 * np.eye(theta.size)
    up = [function(moved) for moved in theta + step]
    down = [function(moved) for moved in theta - step]
    return np.subtract(up, down) / 2e-5


def mean_loss(layers: ref.Layers, theta: ref.Vector, kind: str, samples: ref.Samples) -> float:
    losses = [ref.loss(kind, ref.forward(layers, theta, x), target) for x, target in samples]
    return float(np.mean(losses))


@given(SEEDS, LOSSES, st.sampled_from(["relu", "tanh"]))
def test_gradient_agrees_with_finite_differences(seed: int, kind: str, activation: str):
    layers, theta, samples = problem(seed, kind, activation, samples=1)
    [(x, target)] = samples
    assume(np.min(np.abs(ref.forward(layers[:1], theta, x))) > 1e-3)  # away from relu's kink
    expected = slope(lambda moved: mean_loss(layers, moved, kind, samples), theta)
    _, grad = ref.gradient(layers, theta, kind, x, target)
    np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-7)


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
    window = square((4, 3, 2), size, stride, padding)
    outputs = window.reach.shape[0] * (3 if kind == "conv2d" else 2)
    below = Layer("conv2d", 24, 24, window=square((4, 3, 2), 1, 1))
    layers = [below, Layer(kind, 24, outputs, window=window), Layer("dense", outputs, 2)]
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=ref.layer_slices(layers)[-1].stop)
    x, target = rng.normal(size=24), rng.normal(size=2)
    expected = slope(lambda moved: mean_loss(layers, moved, "mse", [(x, target)]), theta)
    _, grad = ref.gradient(layers, theta, "mse", x, target)
    np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-6)


@given(SEEDS, st.integers(1, 3), st.integers(1, 3), st.integers(0, 2))
def test_a_convolution_is_the_sum_over_the_window_as_written(
    seed: int, size: int, stride: int, padding: int
):
    assume(padding < size)
    (height, width, channels), filters = (4, 5, 2), 3
    rng = np.random.default_rng(seed)
    window = square((height, width, channels), size, stride, padding)
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


def test_a_round_is_the_mean_of_what_its_devices_do_alone():
    layers, theta, samples = problem(5, "mse", samples=6)
    zero, rate, batch = np.zeros_like(theta), 0.1, 2

    def scaffold(parts: list[ref.Samples]) -> ref.Vector:
        tasks = dict(enumerate(parts))
        controls = dict.fromkeys(tasks, zero)
        found = ref.scaffold_round(
            layers, theta, "mse", tasks, zero, controls, rate, 1.0, batch, epochs=2
        )
        return found[0]

    def per_fedavg(parts: list[ref.Samples]) -> ref.Vector:
        tasks = [(part, part) for part in parts]
        return ref.per_fedavg_round(layers, theta, "mse", tasks, 0.2, rate, batch)

    parts: list[ref.Samples] = [samples[:1], samples[1:]]
    plain, weighted = [1, 1], [1, 5]
    for one, weights in (
        (lambda s: ref.fedprox_round(layers, theta, "mse", s, rate, batch, 2, 0.5), weighted),
        (lambda s: ref.fedper_round(layers, theta, "mse", s, rate, batch, 2), weighted),
        (lambda s: ref.fedrep_round(layers, theta, "mse", s, rate, batch, 2, 1), plain),
        (per_fedavg, plain),
        (scaffold, plain),
    ):
        alone = [one([part]) for part in parts]
        np.testing.assert_allclose(one(parts), np.average(alone, axis=0, weights=weights))


@FEW
@given(SEEDS, LOSSES)
def test_fedprox_descends_the_loss_with_a_pull_to_its_start(seed: int, kind: str):
    layers, theta, samples = problem(seed, kind, samples=2)

    def objective(w: ref.Vector) -> float:
        return mean_loss(layers, w, kind, samples) + 3.0 / 2 * float(np.sum((w - theta) ** 2))

    expected = theta - 0.1 * slope(objective, theta)
    expected = expected - 0.1 * slope(objective, expected)
    found = ref.fedprox_round(layers, theta, kind, [samples], 0.1, 2, 2, proximal=3.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@FEW
@given(SEEDS, LOSSES)
def test_fedprox_without_a_pull_is_fedavg(seed: int, kind: str):
    layers, theta, samples = problem(seed, kind)
    parts = [samples[:2], samples[2:]]
    np.testing.assert_array_equal(
        ref.fedprox_round(layers, theta, kind, parts, 0.1, 2, 2, proximal=0.0),
        ref.fedavg_round(layers, theta, kind, parts, 0.1, 2, 2),
    )


@pytest.mark.parametrize(
    ("kind", "after"),  # v nears delta² = (4, 1/100) by a tenth of the distance or of delta²
    [("adam", [4 - 3.75 * 0.9**3, 0.01 + 0.24 * 0.9**3]), ("yogi", [0.25 + 1.2, 0.25 - 0.003])],
)
def test_moments_of_a_constant_change(kind: str, after: list[float]):
    delta, theta, m, v = np.array([2.0, -0.1]), np.zeros(2), np.zeros(2), np.full(2, 0.5**2)
    for _ in range(3):
        theta, m, v = ref.adaptive_step(kind, theta, m, v, delta, 1.0, 0.5, 0.9, 0.5)
    np.testing.assert_allclose(m, 7 / 8 * delta)
    np.testing.assert_allclose(v, after)


ADAPTIVE = st.sampled_from(["adam", "yogi"])


@given(SEEDS, ADAPTIVE)
def test_an_adaptive_server_that_adapts_nothing_averages(seed: int, kind: str):
    """With beta1 = 0 and beta2 = 1 the moments stay what they were: the change, and tau²."""
    theta, *deltas = np.random.default_rng(seed).normal(size=(4, 5))
    delta, start, tau = np.mean(deltas, axis=0), np.zeros(5), 0.1
    found, _, _ = ref.adaptive_step(kind, theta, start, start + tau**2, delta, 0.3, 0.0, 1.0, tau)
    np.testing.assert_allclose(found, ref.aggregate(theta, deltas, 0.3 / (2 * tau)))


@given(SEEDS, ADAPTIVE, st.floats(0.01, 100))
def test_an_adaptive_step_does_not_depend_on_the_unit_of_changes(seed: int, kind: str, unit: float):
    theta, m, v, delta = np.random.default_rng(seed).normal(size=(4, 5))
    v = v**2
    there, *_ = ref.adaptive_step(kind, theta, m, v, delta, 0.3, 0.9, 0.99, 0.1)
    here, *_ = ref.adaptive_step(
        kind, theta, m * unit, v * unit**2, delta * unit, 0.3, 0.9, 0.99, 0.1 * unit
    )
    np.testing.assert_allclose(here, there)


@given(SEEDS)
def test_fedyogi_is_fedadam_where_v_is_0_or_what_it_tends_to(seed: int):
    theta, m, delta = np.random.default_rng(seed).normal(size=(3, 6))
    v = np.where(np.arange(6) < 3, 0.0, delta**2)
    adam, yogi = (
        ref.adaptive_step(kind, theta, m, v, delta, 0.3, 0.9, 0.99, 0.1)
        for kind in ("adam", "yogi")
    )
    np.testing.assert_allclose(adam, yogi)
    np.testing.assert_allclose(yogi[2][3:], delta[3:] ** 2)


@FEW
@given(SEEDS, LOSSES)
def test_per_fedavg_in_settings_that_are_fedavg(seed: int, kind: str):
    layers, theta, samples = problem(seed, kind, samples=6)
    support, query = samples[:3], samples[3:]

    def fedavg(part: ref.Samples, batch: int, epochs: int) -> ref.Vector:
        return ref.fedavg_round(layers, theta, kind, [part], 0.1, batch, epochs)

    # Without a step ahead the query set is learnt from as in FedAvg.
    found = ref.per_fedavg_round(layers, theta, kind, [(support, query)], 0.0, 0.1, 2)
    np.testing.assert_allclose(found, fedavg(query, 2, 1))
    # With query set and rate of the step ahead, an iteration is the second of two steps of FedAvg.
    found = ref.per_fedavg_round(layers, theta, kind, [(query, query)], 0.1, 0.1, 3)
    np.testing.assert_allclose(found, theta + fedavg(query, 3, 2) - fedavg(query, 3, 1))


def test_iterations_of_per_fedavg_pair_the_mini_batches():
    layers, theta, samples = problem(6, "mse", samples=9)
    support, query = samples[:6], samples[6:]

    def do(start: ref.Vector, support: ref.Samples, query: ref.Samples) -> ref.Vector:
        return ref.per_fedavg_round(layers, start, "mse", [(support, query)], 0.2, 0.1, 2)

    apart = do(do(theta, support[:2], query[:2]), support[2:4], query[2:])
    np.testing.assert_array_equal(do(theta, support, query), apart)


def test_without_a_local_part_fedper_and_fedrep_are_fedavg():
    layers, theta, samples = problem(9, "mse", samples=6)
    layers = [dataclasses.replace(layer, local=False) for layer in layers]
    parts = [samples[:3], samples[3:]]
    fedavg = ref.fedavg_round(layers, theta, "mse", parts, 0.1, 2, 3)
    fedper = ref.fedper_round(layers, theta, "mse", parts, 0.1, 2, 3)
    fedrep = ref.fedrep_round(layers, theta, "mse", parts, 0.1, 2, head_epochs=2, epochs=3)
    np.testing.assert_allclose([fedper, fedrep], [fedavg, fedavg])


@FEW
@given(SEEDS, LOSSES)
def test_only_the_global_part_of_fedper_is_averaged_but_all_moves(seed: int, kind: str):
    layers, theta, samples = problem(seed, kind)
    local, one = ref.local_mask(layers), [(samples, samples)]
    found = ref.fedper_round(layers, theta, kind, [samples], 0.1, 2, 2)
    whole = ref.reptile_round(layers, theta, kind, one, 0.1, 1.0, 2, 2)
    np.testing.assert_array_equal(found[local], theta[local])
    np.testing.assert_allclose(found[~local], whole[~local])


@FEW
@given(SEEDS, LOSSES)
def test_fedrep_is_tinymetafed_that_sends_all_and_has_one_set_of_samples(seed: int, kind: str):
    layers, theta, samples = problem(seed, kind)
    parts = [samples[:2], samples[2:]]
    tasks = [(part, part) for part in parts]
    expected, _ = ref.tinymetafed_round(layers, theta, kind, tasks, 0.1, 0.1, 1.0, keep_ratio=1.0)
    np.testing.assert_allclose(
        ref.fedrep_round(layers, theta, kind, parts, 0.1, batch=1, head_epochs=1, epochs=1),
        expected,
    )


@FEW
@given(SEEDS, LOSSES)
def test_fedrep_moves_the_head_first_and_then_holds_it(seed: int, kind: str):
    """More epochs of the head are a start from a head that has moved already."""
    layers, theta, samples = problem(seed, kind)
    local = ref.local_mask(layers)
    ahead, _ = ref.train(layers, theta, kind, samples, 0.1, local, 2, 3)
    found = ref.fedrep_round(layers, theta, kind, [samples], 0.1, 2, head_epochs=4, epochs=2)
    later = ref.fedrep_round(layers, ahead, kind, [samples], 0.1, 2, head_epochs=1, epochs=2)
    np.testing.assert_allclose(found[~local], later[~local])
    np.testing.assert_array_equal(found[local], theta[local])


@FEW
@given(SEEDS, LOSSES)
def test_scaffold_with_equal_control_variates_goes_where_fedavg_goes(seed: int, kind: str):
    layers, theta, samples = problem(seed, kind, samples=6)
    parts, control = [samples[:3], samples[3:]], np.random.default_rng(seed).normal(size=26)
    tasks = dict(enumerate(parts))
    found, _, _ = ref.scaffold_round(
        layers, theta, kind, tasks, control, dict.fromkeys(tasks, control), 0.1, 0.5, 2, 2
    )
    whole = ref.fedavg_round(layers, theta, kind, parts, 0.1, 2, 2)
    np.testing.assert_allclose(found, (theta + whole) / 2)


@FEW
@given(SEEDS, LOSSES)
def test_a_new_control_variate_is_the_mean_gradient_on_the_way(seed: int, kind: str):
    layers, theta, samples = problem(seed, kind, samples=3)
    control, own = np.random.default_rng(seed).normal(size=(2, 26))
    slopes: list[ref.Vector] = []
    w = theta
    for part in (samples[:2], samples[2:]) * 2:
        slopes.append(slope(lambda moved, part=part: mean_loss(layers, moved, kind, part), w))
        w = w - 0.1 * (slopes[-1] - own + control)
    end, new = ref.scaffold_device(layers, theta, kind, samples, control, own, 0.1, 2, 2)
    np.testing.assert_allclose(end, w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new, np.mean(slopes, axis=0), rtol=1e-5, atol=1e-6)


def test_scaffold_rests_at_the_optimum_of_devices_that_disagree():
    layers, rng = [Layer("dense", 2, 1)], np.random.default_rng(2)
    samples = [(rng.normal(size=2), rng.normal(size=1)) for _ in range(8)]
    inputs = [np.append(x, 1) for x, _ in samples]
    best = np.linalg.lstsq(np.array(inputs), np.array([y[0] for _, y in samples]), rcond=None)[0]
    tasks = {0: samples[:4], 1: samples[4:]}
    controls = {i: ref.mean_gradient(layers, best, "mse", part)[1] for i, part in tasks.items()}
    assert np.abs(controls[0]).max() > 0.1
    theta, control, renewed = ref.scaffold_round(
        layers, best, "mse", tasks, np.zeros(3), controls, 0.1, 1.0, batch=4, epochs=5
    )
    np.testing.assert_allclose([theta, control], [best, np.zeros(3)], atol=1e-12)
    for i in tasks:
        np.testing.assert_allclose(renewed[i], controls[i])
    drifted = ref.fedavg_round(layers, best, "mse", list(tasks.values()), 0.1, 4, 5)
    assert np.abs(drifted - best).max() > 0.01


def test_the_servers_control_variate_stays_the_mean_of_the_devices():
    layers, theta, samples = problem(8, "mse", samples=6)
    control, controls = np.zeros(26), {i: np.zeros(26) for i in range(4)}
    for chosen in ([0, 1], [1, 3], [3]):
        before, tasks = controls, {i: samples[i : i + 3] for i in chosen}
        theta, control, controls = ref.scaffold_round(
            layers, theta, "mse", tasks, control, before, 0.1, 0.5, 2, 2
        )
        np.testing.assert_allclose(control, np.mean(list(controls.values()), axis=0))
        assert [i for i in range(4) if controls[i] is not before[i]] == chosen
