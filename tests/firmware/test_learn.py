"""The node learns what the float64 reference learns, within 1e-5 per inner step.

That is relative to the length of the way: the sum over the inner steps of the Euclidean norm of the
reference's step. Rates are such that a step is not lost in the rounding of the weights that it is
added to, and that training is stable, or it would enlarge every error. Relu's kink is kept clear
of: on its two sides the gradient is another.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings

import reference as ref
from learning import (
    TOLERANCE,
    Problem,
    Theta,
    clear_of_kinks,
    difference,
    full,
    load,
    mask_of,
    norm,
    problems,
    random_samples,
    rate_for,
    reference_layers,
    refused,
    started,
    store,
    train,
    update,
    way,
)
from tinymetafed.link import messages
from tinymetafed.link.messages import GLOBAL, MARK, RESIDUAL, VARIATE, Layer, Loaded
from tinymetafed.models.layers import OPERATIONS, Dense
from tinymetafed.models.model import Model, ModelSettings, Part
from tinymetafed.nodes.answers import NodeRefused
from tinymetafed.nodes.broadcast import Broadcast
from tinymetafed.nodes.host import HostTransport
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.transport import NodeLost
from tinymetafed.nodes.update import Update
from tinymetafed.strategies import Round, ServerState, TinyMetaFed
from tinymetafed.tasks.samples import Samples

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=60)
NO_MODEL, CANNOT_BE, MEMORY, WEIGHTS, RANGE = 2, 3, 4, 5, 6  # enum tmf_error
SAMPLES, ARGUMENT, DIVERGED, ORDER = 8, 9, 10, 11


# ---- training ------------------------------------------------------------------------------------


@EXAMPLES
@given(problems(samples=st.just(1)), st.floats(0.1, 1), st.data())
def test_an_inner_step_is_the_reference_s_and_frozen_parts_do_not_move(problem, share, data):
    model = problem.model
    frozen = [part for part in model.parts if data.draw(st.booleans())]
    moves = ~mask_of(model, frozen)
    [sample] = problem.pairs()
    assume(clear_of_kinks(problem.layers, problem.start, [sample]))
    rate = rate_for(problem, [sample], moves, share) if moves.any() else 1.0
    expected, value = ref.inner_step(
        problem.layers, problem.start, problem.kind, sample, rate, moves
    )

    async def session() -> None:
        async with started(model, problem.theta) as node:
            bits = sum(1 << part.layer for part in frozen)
            loss = await train(node, problem.samples, rate=rate, frozen=bits)
            delta = await difference(node, model)
        assert not delta[~moves].any()
        step = expected - problem.start
        assert norm(delta - step) <= TOLERANCE * norm(step)
        assert loss == pytest.approx(value, rel=TOLERANCE)

    asyncio.run(session())


@EXAMPLES
@given(problems(samples=st.integers(1, 9)), st.integers(1, 5), st.integers(1, 3))
def test_mini_batches_and_epochs_from_the_store_are_the_reference_s(problem, batch, epochs):
    model, pairs = problem.model, problem.pairs()
    moves = np.ones(model.parameters, dtype=bool)
    rate = rate_for(problem, pairs[:batch], moves)
    length = way(problem, problem.start, pairs, rate, moves, batch, epochs)
    expected, value = ref.train(
        problem.layers, problem.start, problem.kind, pairs, rate, moves, batch, epochs
    )

    async def session() -> None:
        async with started(model, problem.theta, accumulate=batch > 1, capacity=len(pairs)) as node:
            await store(node, problem.samples)
            loss = await train(node, None, rate=rate, batch=batch, epochs=epochs)
            delta = await difference(node, model)
        assert norm(problem.start + delta - expected) <= TOLERANCE * length
        assert loss == pytest.approx(value, rel=TOLERANCE)

    asyncio.run(session())


def test_a_stream_of_several_requests_trains_as_the_store_does_and_as_the_reference():
    model = linear_model(3, 1)
    rng = np.random.default_rng(5)
    theta = model.initial(5)
    problem = Problem(model, theta, random_samples(rng, model, theta, 700))
    expected, value = ref.train(
        problem.layers, problem.start, "mse", problem.pairs(), 0.01, np.ones(4, bool), batch=4
    )

    async def session() -> None:
        async with started(model, theta, accumulate=True, capacity=700) as node:
            assert node.hello is not None
            assert len(problem.samples.packed) > node.hello.receive_buffer
            loss = await train(node, problem.samples, rate=0.01, batch=4)
            streamed = await difference(node, model)
            await node.set_weights(full(theta))
            await store(node, problem.samples)
            await train(node, None, rate=0.01, batch=4)
            assert np.array_equal(await difference(node, model), streamed)
        assert norm(problem.start + streamed - expected) <= TOLERANCE * norm(expected)
        assert loss == pytest.approx(value, rel=TOLERANCE)

    asyncio.run(session())


@pytest.mark.parametrize("activations", [["relu", "tanh"], ["tanh", "tanh", "tanh"]])
def test_activations_may_follow_each_other(activations):
    inner = tuple(Layer(OPERATIONS[name], GLOBAL, ()) for name in activations)
    parts = (Part(0, 0, (3, 2), GLOBAL, False), Part(len(inner) + 1, 9, (2, 3), GLOBAL, False))
    layers = (Layer(1, GLOBAL, (3,)), *inner, Layer(1, GLOBAL, (2,)))
    model = Model(2, 2, "mse", layers, parts)
    rng = np.random.default_rng(0)
    theta = rng.uniform(0.1, 1, 17).astype(np.float32)
    problem = Problem(model, theta, Samples(np.ones((1, 2), np.float32), np.zeros((1, 2), "f4")))
    expected, _ = ref.train(
        problem.layers, problem.start, "mse", problem.pairs(), 0.25, np.ones(17, bool)
    )

    async def session() -> None:
        async with started(model, theta) as node:
            await train(node, problem.samples, rate=0.25)
            delta = await difference(node, model)
        step = expected - problem.start
        assert norm(delta - step) <= TOLERANCE * norm(step)

    asyncio.run(session())


def test_of_equal_values_the_first_is_a_window_s_largest():
    layers = (
        Layer(OPERATIONS["dense"], GLOBAL, (4,)),
        Layer(OPERATIONS["max_pool2d"], GLOBAL, (2, 2, 0x0202, 0x0202, 0)),
    )
    model = Model(1, 1, "mse", layers, (Part(0, 0, (4, 1), GLOBAL, False),))
    samples = Samples(np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32))

    async def session() -> None:
        async with started(model, np.ones(8, np.float32)) as node:
            await train(node, samples, rate=0.25)
            delta = await difference(node, model)
        assert delta.tolist() == [-1, 0, 0, 0, -1, 0, 0, 0]

    asyncio.run(session())


def test_a_frozen_zero_keeps_its_sign_in_a_mini_batch():
    model = linear_model(1, 1)
    samples = Samples(np.ones((2, 1), np.float32), np.ones((2, 1), np.float32))

    async def session() -> None:
        theta = np.array([-1, -0.0], np.float32)
        async with started(model, theta, accumulate=True) as node:
            await train(node, samples, rate=0.1, frozen=1, batch=2)
            bias = await node.predict(np.zeros((1, 1), np.float32))
        assert np.signbit(bias).all()

    asyncio.run(session())


# ---- global and local part -----------------------------------------------------------------------


@EXAMPLES
@given(problems(samples=st.integers(1, 4), local=True))
def test_an_update_has_no_entry_of_the_local_part(problem):
    model, pairs = problem.model, problem.pairs()
    moves = np.ones(model.parameters, dtype=bool)
    rate = rate_for(problem, pairs[:1], moves)
    length = way(problem, problem.start, pairs, rate, moves)
    expected, _ = ref.train(problem.layers, problem.start, problem.kind, pairs, rate, moves)

    async def session() -> None:
        async with started(model, problem.theta) as node:
            await train(node, problem.samples, rate=rate)
            delta = await difference(node, model)
        assert not delta[~model.global_mask].any()
        error = (delta - (expected - problem.start))[model.global_mask]
        assert norm(error) <= TOLERANCE * length

    asyncio.run(session())


@EXAMPLES
@given(problems(samples=st.integers(1, 5), local=True))
def test_reconstruction_moves_the_local_part_only(problem):
    model, pairs = problem.model, problem.pairs()
    rate = rate_for(problem, pairs[:1], ~model.global_mask)
    assume(rate <= 10)
    way(problem, problem.start, pairs, rate, ~model.global_mask)
    expected, _ = ref.reconstruct(problem.layers, problem.start, problem.kind, pairs, rate)
    outputs = np.array([ref.forward(problem.layers, expected, x) for x, _ in pairs])

    async def session() -> None:
        async with started(model, problem.theta) as node:
            strategy = TinyMetaFed(name="tinymetafed", local_rate=rate)
            await node.run(strategy.reconstruct(model), support=problem.samples)
            found = await node.predict(problem.samples.inputs)
            assert not (await difference(node, model)).any()
        np.testing.assert_allclose(found, outputs, rtol=TOLERANCE, atol=TOLERANCE)

    asyncio.run(session())


@EXAMPLES
@given(problems(samples=st.integers(1, 4), local=True), st.integers(0, 120))
def test_the_entries_sent_are_the_largest_of_the_global_part(problem, keep):
    model, pairs = problem.model, problem.pairs()
    rate = rate_for(problem, pairs[:1], model.global_mask)
    length = way(problem, problem.start, pairs, rate, model.global_mask)
    expected, _ = ref.learn(problem.layers, problem.start, problem.kind, pairs, rate)
    delta = expected - problem.start
    chosen = ref.select_top(delta, keep)

    async def session() -> None:
        async with started(model, problem.theta) as node:
            await train(node, problem.samples, rate=rate, frozen=model.frozen(local=True))
            sent = await difference(node, model, keep)
        threshold = np.abs(delta[chosen]).min(initial=np.inf)
        differ = np.setxor1d(np.flatnonzero(sent), chosen)
        # Only what is within rounding of the smallest that was chosen may be chosen otherwise.
        assert (np.abs(np.abs(delta[differ]) - threshold) <= TOLERANCE * length).all()
        both = np.intersect1d(np.flatnonzero(sent), chosen)
        assert norm(sent[both] - delta[both]) <= TOLERANCE * length

    asyncio.run(session())


def is_decided(delta: ref.Vector, keep: int, margin: float) -> bool:
    """Whether the `keep` largest entries are larger than the others, and than zero, by `margin`."""
    ranked = np.append(np.sort(np.abs(delta))[::-1], 0)
    last = min(keep, np.count_nonzero(delta)) - 1
    return bool(last < 0 or ranked[last] - ranked[last + 1] > margin)


@settings(EXAMPLES, max_examples=30)
@given(problems(samples=st.sampled_from([8, 16]), local=True), st.integers(1, 100))
def test_rounds_of_tinymetafed_are_the_reference_s(problem, percent):
    model, layers, kind, pairs = problem.model, problem.layers, problem.kind, problem.pairs()
    places = [(slice(i, i + 3), slice(i + 3, i + 8)) for i in range(0, len(pairs), 8)]
    tasks = [(pairs[support], pairs[query]) for support, query in places]
    strategy = TinyMetaFed(
        name="tinymetafed",
        local_rate=min(10, rate_for(problem, pairs[:1], ~model.global_mask)),
        global_rate=min(10, rate_for(problem, pairs[3:4], model.global_mask)),
        outer_rate=0.75,
        percent=percent,
    )
    rates = strategy.local_rate, strategy.global_rate

    def length(theta: ref.Vector) -> float:
        total = 0.0
        for support, query in tasks:
            total += way(problem, theta, support, rates[0], ~model.global_mask)
            ready, _ = ref.reconstruct(layers, theta, kind, support, rates[0])
            total += way(problem, ready, query, rates[1], model.global_mask)
            learned, _ = ref.learn(layers, ready, kind, query, rates[1])
            delta = np.where(model.global_mask, learned - theta, 0)
            assume(is_decided(delta, strategy.keep(model, Round(0, 4)), 2 * TOLERANCE * total))
        return total / len(tasks)

    async def session() -> None:
        async with AsyncExitStack() as nodes:
            devices = [await nodes.enter_async_context(started(model)) for _ in tasks]
            samples, changed = problem.samples, np.ones(model.parameters, np.int64)
            state = ServerState(problem.theta)
            for t in range(2):
                theta, deltas = state.theta, list[Update]()
                broadcast = Broadcast(theta, changed, t + 1)
                program = strategy.program(state, model, Round(t, 4))
                for i, (node, (support, query)) in enumerate(zip(devices, places, strict=True)):
                    found = await node.run(program, samples[support], samples[query], broadcast)
                    deltas.append(Update(i, 5, found.indices, found.values))
                margin = TOLERANCE * length(theta.astype(float))
                expected, sent = ref.tinymetafed_round(
                    layers, theta.astype(float), kind, tasks, *rates,
                    0.75 * (1 - t / 4), strategy.keep(model, Round(0, 4)) / model.global_parameters,
                )  # fmt: skip
                for delta, indices in zip(deltas, sent, strict=True):
                    assert np.array_equal(delta.indices, indices)
                state = strategy.aggregate(state, deltas, Round(t, 4))
                assert norm(state.theta - expected) <= margin
                changed = np.where(state.theta != theta, t + 2, changed)

    asyncio.run(session())


# ---- judging -------------------------------------------------------------------------------------


@EXAMPLES
@given(problems(samples=st.integers(1, 12)))
def test_predictions_and_evaluations_are_the_reference_s(problem):
    pairs, layers = problem.pairs(), problem.layers
    outputs = np.array([ref.forward(layers, problem.start, x) for x, _ in pairs])
    loss = np.mean([ref.loss(problem.kind, y, t) for y, (_, t) in zip(outputs, pairs, strict=True)])
    right = 0.0
    if problem.kind != "mse":
        # A single output is class 1 where it is above zero: as two, the first of them zero.
        scores = outputs if outputs.shape[1] > 1 else np.pad(outputs, ((0, 0), (1, 0)))
        first, second = np.sort(scores)[:, -1], np.sort(scores)[:, -2]
        assume((first - second > 1e-4).all())
        right = float(np.mean(scores.argmax(axis=1) == problem.samples.targets))

    async def session() -> None:
        async with started(problem.model, problem.theta) as node:
            found = await node.predict(problem.samples.inputs)
            judged = await node.evaluate(problem.samples)
        np.testing.assert_allclose(found, outputs, rtol=TOLERANCE, atol=TOLERANCE)
        assert judged.loss == pytest.approx(loss, rel=TOLERANCE)
        assert judged.accuracy == right

    asyncio.run(session())


def test_of_equal_outputs_the_first_is_the_class():
    model = linear_model(1, 3, loss="softmax_cross_entropy")
    samples = Samples(np.ones((5, 1), np.float32), np.array([0, 1, 0, 2, 0], np.uint32))

    async def session() -> None:
        async with started(model, np.zeros(6, np.float32)) as node:
            judged = await node.evaluate(samples)
        assert judged.accuracy == 3 / 5
        assert judged.loss == pytest.approx(np.log(3), rel=TOLERANCE)

    asyncio.run(session())


# ---- memory --------------------------------------------------------------------------------------


WHOLE = 8100
"""Bytes of a sample that fits into a frame."""
ROOMS = [0, RESIDUAL, MARK, VARIATE, RESIDUAL | MARK, MARK | VARIATE]


IN_PLACE = {"relu", "relu6", "leaky_relu", "tanh", "sigmoid", "add"}


def below(layers: ref.Layers, entering: int) -> tuple[int, int]:
    """Values that what enters the first layer with parameters takes, and the most at once below
    it, where each layer's inputs are only there until it is done. From the last layer on, what a
    layer reads is put where it first fits beside what it gives."""
    lies = (0, entering)
    most = entering
    for layer in reversed(layers):
        if layer.kind not in IN_PLACE:
            start = 0 if lies[0] >= layer.inputs else lies[1]
            lies = (start, start + layer.inputs)
            most = max(most, lies[1])
    return entering, most


def needed(model: Model, *, accumulate: bool, capacity: int, room: int = 0) -> dict[str, int]:
    """Bytes by part. What enters the first layer with parameters, and what leaves it and the later
    ones, keeps its place, but activations work in place. Behind the outputs of a layer at work lie
    the derivative of its inputs and what is under its window. The first layer, which makes no such
    derivative, has what is under a second window there. What a later layer adds has a place more
    for its derivative."""
    layers = reference_layers(model)
    first = model.parts[0].layer
    kept, most = below(layers[:first], layers[first].inputs)
    sources = {layer.source for layer in layers if layer.kind in ("add", "route")}
    assert not [number for number in sources if number < first], "not what problems() makes"
    in_place = False  # the layer before
    for i, layer in enumerate(layers[first:], first):
        takes = layer.outputs
        if layer.kind == "route":  # stands where its source is, unless the next overwrites it
            takes = layer.outputs if layers[i + 1].kind in IN_PLACE else 0
        elif layer.kind in IN_PLACE:
            takes = layer.outputs if in_place or i in sources else 0
        in_place = layer.kind in IN_PLACE
        kept += takes + (layer.outputs if i + 1 in sources else 0)
        own = 0 if in_place or i == first or layer.kind == "route" else layer.inputs
        if layer.kind == "conv2d" and layer.reach.shape[1] > 1:
            own += layer.weights[1] * (2 if i == first else 1)
        most = max(most, kept + own)
    most = max(most, kept + model.outputs)  # the target, or the loss's derivative
    sample = model.inputs + (model.outputs if model.loss == "mse" else 1)
    values = {
        "activations": kept,
        "backward": most - kept,
        "backbone": 0,
        "held": model.parameters,
        "working": model.parameters,
        "residual": model.parameters if room & RESIDUAL else 0,
        "variate": model.parameters if room & VARIATE else 0,
        "mark": model.parameters if room & MARK else 0,
        "gradient": model.parameters if accumulate else 0,
        "store": (capacity + (4 * sample > WHOLE)) * sample,  # one more that comes in parts
    }
    return {part: 4 * n for part, n in values.items()}


@EXAMPLES
@given(problems(samples=st.just(1)), st.booleans(), st.sampled_from(ROOMS))
def test_a_model_fits_up_to_the_last_byte_and_is_refused_past_it(problem, accumulate, room):
    model, extra = problem.model, {"accumulate": accumulate, "room": room}

    async def session() -> None:
        async with started(model) as node:
            assert node.hello is not None
            assert isinstance(node.transport, HostTransport)
            memory = node.hello.memory
            size = sum(needed(model, **extra, capacity=0).values())
            capacity = (memory - size) // problem.samples.size
            fits = needed(model, **extra, capacity=capacity)
            loaded = await load(node, model, **extra, capacity=capacity)
            assert node.transport.sizes() == fits
            assert loaded == Loaded(model.parameters, sum(fits.values()), memory)
            more = needed(model, **extra, capacity=capacity + 1)
            with pytest.raises(NodeRefused) as caught:
                await load(node, model, **extra, capacity=capacity + 1)
            assert node.transport.sizes() == more
            error = caught.value.error
            assert error.code == MEMORY
            assert (error.needed, error.available) == (sum(more.values()), memory)
            assert await refused(node.evaluate(problem.samples)) == NO_MODEL

    asyncio.run(session())


@pytest.mark.parametrize("units", [50, 5000, 65535])
def test_weights_that_do_not_fit_are_counted_even_past_32_bits(units):
    settings = ModelSettings(layers=(Dense(units=units),) * 3)
    model = Model.build(settings, 2000)

    async def session() -> None:
        with pytest.raises(NodeRefused) as caught:
            async with started(model, capacity=2**32 - 1):
                pass
        error = caught.value.error
        assert error.needed == sum(needed(model, accumulate=False, capacity=2**32 - 1).values())
        assert error.needed > max(error.available, 2**32)

    asyncio.run(session())


# ---- refusals ------------------------------------------------------------------------------------


ONE = np.ones((1, 1), np.float32)
CLASS = Samples(ONE, np.array([0], np.uint32))


def raw(request: messages.Request) -> Callable[[Node], Awaitable[object]]:
    """Has a node sent what an orchestrator would refuse to send."""
    return lambda node: node._request(type(request).__name__.lower(), request)


NO_CLASS = Samples(np.ones((3, 1), np.float32), np.array([0, 1, 2], np.uint32))


@pytest.mark.parametrize(
    ("work", "code"),
    [
        pytest.param(lambda n: train(n, CLASS, rate=0.1, batch=2), ARGUMENT, id="no gradient"),
        pytest.param(lambda n: train(n, None, rate=0.1, batch=0), ARGUMENT, id="empty batch"),
        pytest.param(lambda n: train(n, None, rate=0.1, epochs=0), ARGUMENT, id="no epoch"),
        pytest.param(lambda n: train(n, CLASS, rate=-0.1), ARGUMENT, id="negative rate"),
        pytest.param(lambda n: train(n, CLASS, rate=np.nan), ARGUMENT, id="rate that is no number"),
        pytest.param(
            raw(messages.Train(0.1, 0, 1, 1, NO_CLASS.packed)), SAMPLES, id="class out of range"
        ),
        pytest.param(raw(messages.Evaluate(NO_CLASS.packed)), SAMPLES, id="class to be judged by"),
        pytest.param(raw(messages.Store(False, NO_CLASS.packed)), SAMPLES, id="class to be stored"),
        pytest.param(lambda n: store(n, CLASS), RANGE, id="more samples than the store holds"),
        pytest.param(lambda n: train(n, None, rate=0.1), SAMPLES, id="nothing stored"),
        pytest.param(raw(messages.Predict(b"")), SAMPLES, id="no inputs"),
    ],
)
def test_what_is_refused_changes_nothing(work: Callable[[Node], Awaitable[object]], code: int):
    model = linear_model(1, 2, loss="softmax_cross_entropy")

    async def session() -> None:
        async with started(model, np.array([0.5, -0.5, 0, 1], np.float32)) as node:
            before = await node.predict(ONE)
            assert await refused(work(node)) == code
            assert (await node.predict(ONE)).tobytes() == before.tobytes()
            assert not (await difference(node, model)).any()

    asyncio.run(session())


def test_nothing_is_judged_or_trained_before_there_are_weights():
    model = linear_model(1, 2, loss="softmax_cross_entropy")

    async def session() -> None:
        async with started(model) as node:
            assert await refused(node.evaluate(CLASS)) == WEIGHTS
            assert await refused(node.predict(ONE)) == WEIGHTS
            assert await refused(train(node, CLASS, rate=0.1)) == WEIGHTS
            assert await refused(update(node, 4)) == WEIGHTS

    asyncio.run(session())


def test_after_a_selection_there_is_nothing_to_train_or_judge():
    model = linear_model(1, 2, loss="softmax_cross_entropy")

    async def session() -> None:
        async with started(model, np.zeros(4, np.float32)) as node:
            await difference(node, model)
            assert await refused(train(node, CLASS, rate=0.1)) == ORDER
            assert await refused(node.evaluate(CLASS)) == ORDER
            await node.set_weights(full(np.zeros(4, np.float32)))
            await train(node, CLASS, rate=0.1)

    asyncio.run(session())


def test_training_that_diverges_is_refused():
    model = linear_model(1, 1)
    samples = Samples(np.full((40, 1), 100, np.float32), np.ones((40, 1), np.float32))

    async def session() -> None:
        async with started(model, np.ones(2, np.float32)) as node:
            assert await refused(train(node, samples, rate=1.0)) == DIVERGED

    asyncio.run(session())


def test_a_model_with_a_loss_that_cannot_judge_it_is_refused():
    async def session() -> None:
        with pytest.raises(NodeRefused) as caught:
            async with started(linear_model(3, 1, loss="softmax_cross_entropy")):
                pass
        assert caught.value.error.code == CANNOT_BE

    asyncio.run(session())


# ---- broadcasts ----------------------------------------------------------------------------------

WIDE = (32, 150)  # inputs and outputs: weights for three full requests


def linear_model(inputs: int, outputs: int, loss: Any = "mse") -> Model:
    return Model.build(ModelSettings(layers=(Dense(units=outputs),), loss=loss), inputs)


async def weights(node: Node, model: Model) -> Theta:
    """The working weights of a linear model: exact where they are small whole numbers."""
    basis = np.vstack([np.zeros(model.inputs), np.eye(model.inputs)]).astype(np.float32)
    rows = np.vstack([await node.predict(piece) for piece in np.array_split(basis, 3)])
    return np.concatenate([(rows[1:] - rows[0]).T.ravel(), rows[0]])


def whole_numbers(seed: int, n: int) -> Theta:
    return np.random.default_rng(seed).integers(-1000, 1000, n).astype(np.float32)


@EXAMPLES
@given(st.integers(0, 2**32 - 1), st.floats(0, 1) | st.sampled_from([0.001, 0.01, 0.03, 0.99]))
def test_a_node_has_the_weights_of_every_broadcast(seed, share):
    model = linear_model(*WIDE)
    theta = whole_numbers(seed, model.parameters)
    moved = np.random.default_rng(seed + 1).random(len(theta)) < share
    after = theta + moved.astype(np.float32)

    async def session() -> None:
        async with started(model) as node:
            node.take_usage()
            await node.set_weights(full(theta))
            everything = node.take_usage().bytes_down
            assert np.array_equal(await weights(node, model), theta)
            node.take_usage()
            await node.set_weights(Broadcast(after, np.where(moved, 2, 1), 2))
            assert np.array_equal(await weights(node, model), after)
            assert node.version == 2
            assert not (await difference(node, model)).any()
        assert everything > 2 * 8192

    asyncio.run(session())


def test_a_broadcast_of_few_changes_is_short():
    model = linear_model(*WIDE)
    theta = whole_numbers(3, model.parameters)

    async def session() -> None:
        async with started(model, theta) as node:
            node.take_usage()
            changed = np.where(np.arange(len(theta)) % 500 == 0, 2, 1)
            await node.set_weights(Broadcast(theta, changed, 2))
            few = int((changed == 2).sum())
            assert node.take_usage().bytes_down < 6 * few + 50

    asyncio.run(session())


def test_a_broadcast_of_the_version_that_is_held_undoes_training():
    model = linear_model(2, 1)
    theta = whole_numbers(1, 3)

    async def session() -> None:
        async with started(model, theta) as node:
            await train(node, Samples(np.ones((1, 2), "f4"), np.ones((1, 1), "f4")), rate=0.1)
            assert (await weights(node, model) != theta).any()
            await node.set_weights(full(theta))
            assert np.array_equal(await weights(node, model), theta)

    asyncio.run(session())


@dataclass
class Wire:
    """Breaks after that many writes."""

    left: int = 1000

    async def open(self) -> HostTransport:
        wire = self

        class Breaking(HostTransport):
            async def write(self, data: bytes) -> None:
                if wire.left == 0:
                    raise NodeLost("the wire broke")
                wire.left -= 1
                await super().write(data)

        return Breaking()


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("base", [0, 1])
def test_a_broadcast_that_breaks_off_is_noticed(base, pieces):
    model, wire = linear_model(*WIDE), Wire()
    old, new = whole_numbers(1, model.parameters), whole_numbers(2, model.parameters)
    samples = Samples(np.ones((1, WIDE[0]), "f4"), np.ones((1, WIDE[1]), "f4"))

    async def session() -> None:
        async with started(model, old if base else None, transport=wire.open) as node:
            wire.left = pieces
            with pytest.raises(NodeLost):
                await node.set_weights(Broadcast(new, np.full(len(new), 2), 2))
            wire.left = 1000
            assert node.version == 0
            assert await refused(node.evaluate(samples)) == WEIGHTS
            # What the node held is neither version any more, whatever a server takes it for.
            node.version = 1
            assert (
                await refused(node.set_weights(Broadcast(new, np.full(len(new), 3), 3))) == WEIGHTS
            )
            node.version = 0
            await node.set_weights(full(old))
            assert np.array_equal(await weights(node, model), old)

    asyncio.run(session())
