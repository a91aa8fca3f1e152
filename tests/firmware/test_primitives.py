"""What strategies are made of besides SGD: the pull of FedProx, steps from a mark as Per-FedAvg's,
the control variates of SCAFFOLD. The node does what the references do: the float64 one within 1e-5
per inner step (see test_learn.py), the float32 one to the bit."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings

import exact
import reference as ref
from learning import (
    TOLERANCE,
    BareNode,
    Problem,
    Theta,
    clear_of_kinks,
    difference,
    full,
    load,
    norm,
    problems,
    rate_for,
    refused,
    seeded,
    started,
    train,
    way,
)
from tinymetafed.link import Error, Request, chunk
from tinymetafed.link.chunk import BITMAP, DENSE, Chunk
from tinymetafed.link.messages import CORRECTED, FROM_MARK, MARK, RESIDUAL, VARIATE, Predict
from tinymetafed.link.messages import Mark as MarkRequest
from tinymetafed.link.messages import Renew as RenewRequest
from tinymetafed.link.messages import Train as TrainRequest
from tinymetafed.link.messages import Variate as VariateRequest
from tinymetafed.models.layers import Dense
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.nodes import window
from tinymetafed.nodes.backends import private_directory
from tinymetafed.nodes.broadcast import Broadcast
from tinymetafed.nodes.host import open_host
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.program import (
    Evaluate,
    Mark,
    Program,
    Renew,
    Select,
    Send,
    Store,
    Train,
    Variate,
)
from tinymetafed.nodes.qemu import QemuTransport
from tinymetafed.nodes.transport import OpenTransport
from tinymetafed.places import MPS2_IMAGE
from tinymetafed.tasks.samples import Samples

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=60)
CANNOT_BE, WEIGHTS, RANGE, ARGUMENT, DIVERGED, ORDER = 3, 5, 6, 9, 10, 11  # enum tmf_error


def everything(problem: Problem) -> ref.Mask:
    return np.ones(problem.model.parameters, bool)


def variate_of(problem: Problem, seed: int, size: float) -> Theta:
    """As large as so many gradients."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=problem.model.parameters)
    return (size * found / norm(found)).astype(np.float32)


# ---- the float64 reference -----------------------------------------------------------------------


@EXAMPLES
@given(
    problems(samples=st.integers(1, 6)), st.integers(1, 4), st.integers(1, 3),
    st.sampled_from([0.25, 1.0, 3.0]),
)  # fmt: skip
def test_proximal_steps_are_those_of_fedprox(
    problem: Problem, batch: int, epochs: int, pulled: float
):
    """pulled: by how much of the way back a step would go if its gradient were zero."""
    model, pairs = problem.model, problem.pairs()
    rate = rate_for(problem, pairs[:batch], everything(problem))
    proximal = float(np.float32(pulled / 4 / rate))
    length = way(problem, problem.start, pairs, rate, everything(problem), batch, epochs)
    expected = ref.train_all(
        problem.layers, problem.start, problem.kind, pairs, rate, batch, epochs,
        lambda w: proximal * (w - problem.start),
    )  # fmt: skip
    assume(clear_on_the_way(problem, rate, proximal, batch, epochs))

    async def session() -> None:
        async with started(model, problem.theta, accumulate=True, capacity=len(pairs)) as node:
            learn = Train("stored", rate, batch=batch, epochs=epochs, proximal=proximal)
            await node.run((Store(), learn), query=problem.samples)
            delta = await difference(node, model)
        assert norm(problem.start + delta - expected) <= TOLERANCE * length

    asyncio.run(session())


def clear_on_the_way(
    problem: Problem, rate: float, proximal: float, batch: int, epochs: int
) -> bool:
    """Of kinks, at the weights before each proximal step."""
    theta = problem.start
    for _ in range(epochs):
        for some in ref.mini_batches(problem.pairs(), batch):
            if not clear_of_kinks(problem.layers, theta, some):
                return False
            theta = ref.train_all(
                problem.layers, theta, problem.kind, some, rate, batch, 1,
                lambda w: proximal * (w - problem.start),
            )  # fmt: skip
    return True


@EXAMPLES
@given(problems(samples=st.sampled_from([2, 4, 6])), st.integers(1, 3))
def test_steps_from_a_mark_are_those_of_per_fedavg(problem: Problem, batch: int):
    """An iteration: the mark, a step ahead on the support set, a step from the mark on the query
    set."""
    model, half = problem.model, len(problem.samples) // 2
    support, query = problem.samples[:half], problem.samples[half:]
    pairs = problem.pairs()
    rate = rate_for(problem, pairs[:batch], everything(problem))
    length = 0.0
    theta = problem.start
    for ahead_on, some in zip(
        ref.mini_batches(pairs[:half], batch), ref.mini_batches(pairs[half:], batch), strict=True
    ):
        length += way(problem, theta, ahead_on, rate, everything(problem), batch)
        _, slope = ref.mean_gradient(problem.layers, theta, problem.kind, ahead_on)
        ahead = theta - rate * slope
        length += way(problem, ahead, some, rate, everything(problem), batch)
        _, slope = ref.mean_gradient(problem.layers, ahead, problem.kind, some)
        theta = theta - rate * slope
    expected = ref.per_fedavg_round(
        problem.layers, problem.start, problem.kind, [(pairs[:half], pairs[half:])], rate, rate,
        batch,
    )  # fmt: skip
    program: list[Any] = []
    for first in range(0, half, batch):
        part = (first, first + batch)
        program += [
            Mark(), Train("support", rate, batch=batch, part=part),
            Train("query", rate, batch=batch, part=part, from_mark=True),
        ]  # fmt: skip

    async def session() -> None:
        async with started(model, problem.theta, accumulate=True, room=MARK) as node:
            await node.run(tuple(program), support, query)
            delta = await difference(node, model)
        assert norm(problem.start + delta - expected) <= 2 * TOLERANCE * length

    asyncio.run(session())


@settings(EXAMPLES, max_examples=40)
@given(
    problems(samples=st.integers(2, 6)), st.integers(1, 4), st.integers(1, 2),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_rounds_with_control_variates_are_those_of_scaffold(
    problem: Problem, batch: int, epochs: int, seed: int
):
    """A device in two rounds, in which the server's control variate is another: what it keeps
    between them is its own, whichever node it plays on."""
    model, pairs = problem.model, problem.pairs()
    rate = rate_for(problem, pairs[:batch], everything(problem))
    steps = epochs * -(-len(pairs) // batch)
    size = 0.02 * norm(problem.start) / rate
    controls = [variate_of(problem, seed + i, size) for i in range(2)]
    own, expected = np.zeros(model.parameters), list[tuple[ref.Vector, ref.Vector]]()
    lengths: list[float] = []
    for control in controls:
        assume(clear_when_corrected(problem, control - own, rate, batch, epochs))
        length = way(problem, problem.start, pairs, rate, everything(problem), batch, epochs)
        lengths.append(length + steps * rate * norm(control - own))
        end, own = ref.scaffold_device(
            problem.layers, problem.start, problem.kind, pairs, control.astype(float), own, rate,
            batch, epochs,
        )  # fmt: skip
        expected.append((end, own))

    async def session() -> None:
        kept: Theta | None = None
        slack = 0.0
        for t, (control, (end, own)) in enumerate(zip(controls, expected, strict=True)):
            learn = Train("stored", rate, batch=batch, epochs=epochs, corrected=True)
            program: Program = (Store(), Variate(control), learn, Renew(rate))
            async with started(
                model, None, accumulate=True, capacity=len(pairs), room=VARIATE
            ) as node:
                await node.set_kept(kept)
                broadcast = Broadcast(problem.theta, np.ones(model.parameters, np.int64), t + 1)
                await node.run(program, query=problem.samples, broadcast=broadcast)
                kept = await node.get_kept()
                delta = await difference(node, model)
            # An error of the round before goes into each step of this one.
            slack = TOLERANCE * lengths[t] + steps * rate * slack
            assert norm(problem.start + delta - end) <= slack
            slack = slack / (steps * rate) + TOLERANCE * norm(own)
            assert norm(kept - own) <= slack

    asyncio.run(session())


def clear_when_corrected(
    problem: Problem, correction: ref.Vector, rate: float, batch: int, epochs: int
) -> bool:
    """Of kinks, at the weights before each corrected step."""
    theta = problem.start
    for _ in range(epochs):
        for some in ref.mini_batches(problem.pairs(), batch):
            if not clear_of_kinks(problem.layers, theta, some):
                return False
            theta = ref.train_all(
                problem.layers, theta, problem.kind, some, rate, batch, 1, lambda _: correction
            )
    return norm(theta - problem.start) < norm(problem.start)


# ---- the float32 reference, to the bit -----------------------------------------------------------


@settings(EXAMPLES, max_examples=150)
@given(
    problems(samples=st.integers(1, 5)), st.integers(0, 2**8 - 1), st.integers(1, 3),
    st.sampled_from([0.0, 0.5, 3.0]), st.booleans(), st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_steps_of_every_kind_are_in_the_stated_order(
    core: SimpleNamespace, problem: Problem, frozen: int, batch: int, proximal: float,
    from_mark: bool, corrected: bool, seed: int,
):  # fmt: skip
    """Also together, behind a step that leaves the weights held; and what is frozen keeps its
    bits."""
    model, rate = problem.model, 0.0625
    control, own = (variate_of(problem, seed + i, 1.0) for i in range(2))
    ahead = problem.exact_pairs[:1]
    trainer = exact.Trainer(core, problem.layers, problem.theta, problem.kind)
    trainer.train(ahead, rate, 0)
    trainer.train(
        problem.exact_pairs, rate, frozen, batch, proximal=proximal,
        mark=trainer.theta.copy() if from_mark else None,
        correction=control - own if corrected else None,
    )  # fmt: skip
    steps = np.float32(1 + -(-len(problem.samples) // batch))
    factor = np.float32(1) / (steps * np.float32(rate))
    renewed = (problem.theta - trainer.theta) * factor - (control - own)

    async def session() -> None:
        async with started(model, problem.theta, accumulate=True, room=MARK | VARIATE) as node:
            await node.set_kept(own)
            learn = Train(
                "query", rate, frozen, batch, proximal=proximal, from_mark=from_mark,
                corrected=corrected,
            )  # fmt: skip
            program: Program = (
                Variate(control), Train("query", rate, part=(0, 1)), Mark(), learn, Renew(rate),
            )  # fmt: skip
            await node.run(program[:1])
            assert (await node.get_kept()).tobytes() == (control - own).tobytes()
            await node.run(program[1:], query=problem.samples)
            assert (await node.get_kept()).tobytes() == renewed.tobytes()
            delta = await difference(node, model)
        assert delta.astype(np.float32).tobytes() == (trainer.theta - problem.theta).tobytes()

    asyncio.run(session())


@pytest.mark.parametrize("units", [1, 405, 1000])
def test_a_control_variate_of_several_frames_arrives(units: int):
    model = Model.build(ModelSettings(layers=(Dense(units=units),)), 9)
    rng = np.random.default_rng(units)
    control, own = rng.normal(size=(2, model.parameters)).astype(np.float32)

    async def session() -> None:
        async with started(model, np.zeros(model.parameters, "f4"), room=VARIATE) as node:
            await node.set_kept(own)
            node.take_usage()
            await node.run((Variate(control),))
            assert (len(node.take_usage().frames_down) > 1) == (4 * model.parameters > 8000)
            assert (await node.get_kept()).tobytes() == (control - own).tobytes()
            await load(node, model, room=VARIATE)
            assert not (await node.get_kept()).any()

    asyncio.run(session())


def test_a_mark_is_of_the_weights_when_it_was_set():
    """And stays while steps are taken from it, until it is set again."""
    problem = seeded(Model.build(ModelSettings(layers=(Dense(units=3),)), 4), 1, 3)
    model, rate = problem.model, 0.0625

    async def session() -> None:
        async with started(model, problem.theta, accumulate=True, room=MARK) as node:
            still = Train("query", 0.0, from_mark=True)  # goes back to the mark
            await node.run((Mark(), Train("query", rate), still), query=problem.samples)
            assert not (await difference(node, model)).any()
            await node.set_weights(full(problem.theta))
            await train(node, problem.samples, rate=rate)
            once = await difference(node, model)
            await node.set_weights(full(problem.theta))
            step = Train("query", rate)
            await node.run((Mark(), step, Mark(), step, still), query=problem.samples)
            assert np.array_equal(await difference(node, model), once)

    asyncio.run(session())


def test_the_emulated_processor_comes_to_the_same_bits():
    """In frames of all kinds of requests, full ones too: through the window and over the UART."""
    layers = (Dense(units=30, activation="tanh"), Dense(units=40, local=True), Dense(units=25))
    problem = seeded(Model.build(ModelSettings(layers=layers), 20), 3, 6)
    model = problem.model
    control = variate_of(problem, 3, 1.0)
    step = Train("query", 0.01, batch=2, proximal=0.5, from_mark=True, corrected=True)
    program: Program = (
        Variate(control), Store(), Train("stored", 0.01, batch=4, epochs=2), Mark(),
        Train("support", 0.01), step, Renew(0.01), Evaluate(), Select(model.parameters), Send(),
    )  # fmt: skip

    async def played(open_transport: OpenTransport) -> list[object]:
        node = Node("node", open_transport)
        await node.start()
        await load(node, model, accumulate=True, capacity=6, room=MARK | VARIATE)
        node.take_usage()
        found: list[object] = []
        for version in (1, 2):
            changed = np.full(model.parameters, version)
            broadcast = Broadcast(problem.theta, changed, version)
            outcome = await node.run(program, problem.samples[:3], problem.samples, broadcast)
            usage = node.take_usage()
            found += [outcome.responses, outcome.values.tobytes(), usage.down, usage.up]
            found.append((await node.get_kept()).tobytes())
        await node.close()
        return found

    async def session() -> None:
        expected = await played(open_host)
        with private_directory() as directory:
            for place in (window.find(MPS2_IMAGE), None):
                name = "uart" if place is None else "dma"
                start = partial(QemuTransport.open, directory, name, place=place)
                assert await played(start) == expected

    asyncio.run(session())


# ---- room, and what is refused -------------------------------------------------------------------


LINE = Model.build(ModelSettings(layers=(Dense(units=1),)), 1)
POINT = Samples(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32))
TWO = np.ones(2, np.float32)

Work = Callable[[Node], Awaitable[object]]


def does(*program: Any) -> Work:
    return lambda node: node.run(tuple(program), query=POINT)


NEEDS: dict[str, tuple[Work, dict[str, Any]]] = {
    "mark": (does(Mark()), {"room": MARK}),
    "variate": (does(Variate(TWO)), {"room": VARIATE}),
    "renew": (does(Train("query", 0.1), Renew(0.1)), {"room": VARIATE}),
    "corrected": (does(Train("query", 0.1, corrected=True)), {"room": VARIATE}),
    "proximal": (does(Train("query", 0.1, proximal=1.0)), {"accumulate": True}),
    "from mark": (
        does(Mark(), Train("query", 0.1, from_mark=True)), {"room": MARK, "accumulate": True},
    ),
}  # fmt: skip
LACKS = [
    pytest.param(NEEDS[name][0], lacking, id=f"{name}, {lacking}")
    for name in NEEDS
    for room, accumulate in itertools.product((0, RESIDUAL, MARK, VARIATE), (False, True))
    for lacking in [{"room": room, "accumulate": accumulate}]
    if not (NEEDS[name][1].get("room", room) == room
            and NEEDS[name][1].get("accumulate", accumulate) == accumulate)
]  # fmt: skip


@pytest.mark.parametrize("name", NEEDS)
def test_what_there_is_room_for_is_done(name: str):
    work, room = NEEDS[name]

    async def session() -> None:
        async with started(LINE, TWO, **room) as node:
            await work(node)

    asyncio.run(session())


@pytest.mark.parametrize(("work", "room"), LACKS)
def test_what_there_is_no_room_for_is_refused(work: Work, room: dict[str, Any]):
    async def session() -> None:
        async with started(LINE, TWO, **room) as node:
            assert await refused(work(node)) == ARGUMENT
            await node.set_weights(full(TWO))
            assert (await node.predict(POINT.inputs)).tolist() == [[2]]

    asyncio.run(session())


@pytest.mark.parametrize("room", [RESIDUAL | VARIATE, 7, 8, 9, 255])
def test_room_that_there_cannot_be_is_refused(room: int):
    """What is kept from round to round is either a residual or a control variate."""

    async def session() -> None:
        assert await refused(start_with(room)) == CANNOT_BE

    async def start_with(room: int) -> None:
        async with started(LINE, room=room):
            pass

    asyncio.run(session())


NAN = float("nan")
INFINITE = float("inf")
SAMPLE = POINT.packed
ARGUMENTS: list[tuple[str, Request, int]] = [
    ("a pull away", TrainRequest(0.1, 0, 1, 1, SAMPLE, -1.0), ARGUMENT),
    ("a pull that is no number", TrainRequest(0.1, 0, 1, 1, SAMPLE, NAN), ARGUMENT),
    ("a pull without end", TrainRequest(0.1, 0, 1, 1, SAMPLE, INFINITE), ARGUMENT),
    ("an option that is none", TrainRequest(0.1, 0, 1, 1, SAMPLE, 0.0, 4), ARGUMENT),
    ("all options and one more", TrainRequest(0.1, 0, 1, 1, SAMPLE, 1.0, 255), ARGUMENT),
    ("no mark yet", TrainRequest(0.1, 0, 1, 1, SAMPLE, 0.0, FROM_MARK), ORDER),
    ("no mark yet, both", TrainRequest(0.1, 0, 1, 1, SAMPLE, 0.0, FROM_MARK | CORRECTED), ORDER),
    ("a rate of zero", RenewRequest(0.0), ARGUMENT),
    ("a rate below zero", RenewRequest(-0.1), ARGUMENT),
    ("a rate that is no number", RenewRequest(NAN), ARGUMENT),
    ("a rate without end", RenewRequest(INFINITE), ARGUMENT),
    ("more than the parameters", VariateRequest(Chunk(0, 3, DENSE, bytes(12))), RANGE),
    ("behind the parameters", VariateRequest(Chunk(3, 0, DENSE, b"")), RANGE),
    ("far behind them", VariateRequest(Chunk(2**32 - 1, 2, DENSE, bytes(8))), RANGE),
    ("not all entries", VariateRequest(Chunk(0, 2, BITMAP, b"\1" + bytes(4))), RANGE),
    ("too few bytes", VariateRequest(Chunk(0, 2, DENSE, bytes(7))), RANGE),
    ("too many bytes", VariateRequest(Chunk(0, 2, DENSE, bytes(9))), RANGE),
    ("another format", VariateRequest(Chunk(0, 2, DENSE + 4 * chunk.FLOAT16, bytes(4))), RANGE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "code"), [pytest.param(*rest, id=name) for name, *rest in ARGUMENTS]
)
def test_an_argument_that_cannot_be_changes_nothing(request_: Request, code: int):
    node, x = BareNode(), POINT.inputs.tobytes()
    described = LINE.description(accumulate=True, capacity=1, room=MARK | VARIATE)
    weights = full(TWO).requests(0, node.connection.capacity)
    node.ask(described)
    body = node.connection.send([*weights])
    node.exchange(body)
    node.ask(VariateRequest(Chunk(0, 2, DENSE, TWO.tobytes())))
    if not isinstance(request_, TrainRequest) or request_.options & FROM_MARK == 0:
        node.ask(TrainRequest(0.25, 0, 1, 1, SAMPLE))
    before = node.ask(Predict(x))
    [error] = node.ask(request_)
    assert isinstance(error, Error)
    assert error.code == code
    assert node.ask(Predict(x)) == before
    # So are the mark and the control variate.
    node.ask(MarkRequest(), TrainRequest(0.0, 0, 1, 1, SAMPLE, 0.0, FROM_MARK))
    assert node.ask(Predict(x)) == before
    again = BareNode()
    for one in (again, node):
        one.ask(described)
        one.exchange(one.connection.send([*weights]))
        one.ask(VariateRequest(Chunk(0, 2, DENSE, TWO.tobytes())))
    corrected = TrainRequest(0.25, 0, 1, 1, SAMPLE, 0.0, CORRECTED)
    assert node.ask(corrected, Predict(x)) == again.ask(corrected, Predict(x))
    node.close()
    again.close()


def test_a_control_variate_is_renewed_of_steps_on_the_weights_held_only():
    """Not before the first, nor after new weights; steps of all training since count."""

    async def session() -> None:
        async with started(LINE, TWO, room=VARIATE) as node:
            assert await refused(node.run((Renew(0.1),))) == ARGUMENT
            await train(node, POINT, rate=0.25)
            await node.set_weights(full(TWO))
            assert await refused(node.run((Renew(0.1),))) == ARGUMENT
            many = Samples(np.ones((3, 1), "f4"), np.ones((3, 1), "f4"))
            await node.run((Train("query", 0.25), Train("query", 0.25), Renew(0.25)), query=many)
            kept = await node.get_kept()
            moved = -(await difference(node, LINE)).astype(np.float32)
            assert kept.tobytes() == (moved * (1 / (np.float32(6) * np.float32(0.25)))).tobytes()

    asyncio.run(session())


def test_a_mark_of_other_weights_is_none():
    """New weights forget it, as a new model does: a step from where another round began would be
    one that no server asked for."""

    async def session() -> None:
        step = Train("query", 0.25, from_mark=True)
        async with started(LINE, TWO, accumulate=True, room=MARK) as node:
            await node.run((Mark(), step), query=POINT)
            await node.set_weights(full(2 * TWO))
            assert await refused(node.run((step,), query=POINT)) == ORDER
            await node.run((Mark(), step), query=POINT)
            await load(node, LINE, accumulate=True, room=MARK)
            await node.set_weights(full(TWO))
            assert await refused(node.run((step,), query=POINT)) == ORDER

    asyncio.run(session())


@pytest.mark.parametrize("primitive", [Mark(), Variate(TWO), Renew(0.25)])
def test_without_working_weights_there_is_nothing_to_mark_or_correct(primitive: Any):
    async def session() -> None:
        async with started(LINE, room=MARK | VARIATE) as node:
            assert await refused(node.run((primitive,))) == WEIGHTS
            await node.set_weights(full(TWO))
            await node.run((Select(2), Send()))
            assert await refused(node.run((primitive,))) == ORDER

    asyncio.run(session())


def test_a_control_variate_that_is_not_finite_is_noticed():
    async def session() -> None:
        async with started(LINE, TWO, room=VARIATE) as node:
            control = np.array([np.inf, 0], np.float32)
            program = (Variate(control), Train("query", 0.25, corrected=True))
            await node.run(program, query=POINT)
            assert await refused(node.run((Train("query", 0.25),), query=POINT)) == DIVERGED
            assert await refused(node.run((Select(2), Send()))) == DIVERGED

    asyncio.run(session())


def test_a_control_variate_that_would_not_be_finite_is_not_kept():
    """At such a rate the difference of the weights is divided by next to nothing; whoever is not
    told would correct by it in the round after."""

    async def session() -> None:
        async with started(LINE, TWO, room=VARIATE) as node:
            program = (Train("query", 0.25), Renew(1e-39))
            assert await refused(node.run(program, query=POINT)) == DIVERGED

    asyncio.run(session())
