"""Error feedback on the node: what is not sent is kept, and nothing else."""

import asyncio
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

import reference as ref
from learning import Problem, difference, load, problems, seeded, started, train
from tinymetafed.link import chunk
from tinymetafed.link.messages import RESIDUAL
from tinymetafed.models.layers import Dense
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.nodes.answers import NodeRefused
from tinymetafed.nodes.broadcast import Broadcast
from tinymetafed.nodes.node import Node
from tinymetafed.tasks.samples import Samples

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=60)
VALUES = st.sampled_from(list(chunk.VALUES))
RANGE = 6  # enum tmf_error
RATE = 2**-8

Floats = NDArray[np.float32]


def as_sent(delta: Floats, chosen: ref.Indices, values: str) -> Floats:
    """The chosen entries as the format has them, by numpy; zero elsewhere."""
    sent = np.zeros_like(delta)
    sent[chosen] = delta[chosen]
    if values == "float16":
        return np.clip(sent, -65504, 65504).astype(np.float16).astype(np.float32)
    if values == "int8":
        exponent = max(-125, int(np.frexp(np.abs(delta).max())[1]) - 7)
        scaled = np.ldexp(sent.astype(float), -exponent)
        return np.ldexp(np.clip(np.rint(scaled), -127, 127), exponent).astype(np.float32)
    return sent


def exactly(values: Floats) -> list[Fraction]:
    return [Fraction(value) for value in values.tolist()]


@EXAMPLES
@given(
    problems(samples=st.integers(6, 9), local=True), VALUES, st.integers(1, 60),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_what_is_sent_and_what_is_kept_are_what_was_learnt(
    problem: Problem, values: str, keep: int, seed: int
):
    """Over rounds with other weights and samples each. What a round sends and what it leaves are
    together, exactly, what it found: the change of the weights plus what was left before, a sum
    rounded to float32. So over all rounds the sums differ by no more than these roundings."""
    model, rng = problem.model, np.random.default_rng(seed)
    rounds = 4
    found_in_all, sent_in_all, slack = [
        [Fraction(0)] * model.parameters for _ in range(3)
    ]  # fmt: skip

    async def learn(node: Node, theta: Floats, version: int, part: Samples) -> None:
        await node.set_weights(Broadcast(theta, np.full(len(theta), version), version))
        await train(node, part, rate=RATE)

    async def session() -> None:
        async with (
            started(model) as plain,
            started(model, room=RESIDUAL) as node,
        ):
            left = np.zeros(model.parameters, np.float32)
            for t in range(rounds):
                theta = (problem.theta + rng.normal(0, 0.1, model.parameters)).astype(np.float32)
                part = problem.samples[t : t + 3]
                await learn(plain, theta, t + 1, part)
                learnt = (await difference(plain, model)).astype(np.float32)
                await learn(node, theta, t + 1, part)
                sent = (await difference(node, model, keep, values)).astype(np.float32)
                delta = learnt + left
                chosen = ref.select_top(delta.astype(float), keep)
                assert np.array_equal(sent, as_sent(delta, chosen, values))
                left = await node.get_kept()
                assert left.tobytes() == (delta - sent).tobytes()
                assert not left[~model.global_mask].any()
                for i, (d, s, r, n) in enumerate(
                    zip(*map(exactly, (delta, sent, left, learnt)), strict=True)
                ):
                    assert s + r == d
                    found_in_all[i] += n
                    sent_in_all[i] += s
                    slack[i] += abs(d) / 2**24 + Fraction(1, 2**150)
            for found, sent_, rest, most in zip(
                found_in_all, sent_in_all, exactly(left), slack, strict=True
            ):
                assert abs(sent_ + rest - found) <= most

    asyncio.run(session())


@EXAMPLES
@given(problems(samples=st.integers(4, 6), local=True), VALUES, st.integers(1, 40))
def test_a_node_that_gets_the_residual_of_another_goes_on_as_that_one(
    problem: Problem, values: str, keep: int
):
    model = problem.model

    async def play(node: Node, version: int) -> bytes:
        theta = problem.theta * np.float32(1 - version / 8)
        await node.set_weights(Broadcast(theta, np.full(len(theta), version), version))
        await train(node, problem.samples, rate=RATE)
        sent = await difference(node, model, keep, values)
        return sent.tobytes() + (await node.get_kept()).tobytes()

    async def session() -> None:
        async with started(model, room=RESIDUAL) as one, started(model, room=RESIDUAL) as other:
            await play(one, 1)
            await other.set_kept(await one.get_kept())
            assert await play(other, 2) == await play(one, 2)
            await one.restart()
            await other.set_kept(None)
            assert await play(one, 1) == await play(other, 1)

    asyncio.run(session())


def test_a_node_goes_back_to_what_it_kept_before_an_update():
    problem = seeded(Model.build(ModelSettings(layers=(Dense(units=3),)), 4), 1, 3)
    model = problem.model

    async def session() -> None:
        async with started(model, problem.theta, room=RESIDUAL) as node:
            before = await node.get_kept()
            await train(node, problem.samples, rate=RATE)
            await difference(node, model, 2)
            await node.set_kept(before)
            assert (await node.get_kept()).tobytes() == before.tobytes()

    asyncio.run(session())


def large(units: int) -> Model:
    return Model.build(ModelSettings(layers=(Dense(units=units),)), 9)


@pytest.mark.parametrize("units", [1, 202, 203, 405, 406, 1000])
def test_a_residual_of_several_frames_comes_back(units: int):
    model = large(units)
    bits = np.random.default_rng(units).integers(0, 2**32, model.parameters, dtype=np.uint32)
    residual = (bits & ~np.uint32(1 << 23)).view(np.float32)  # an even exponent: all are finite

    async def session() -> None:
        async with started(model, room=RESIDUAL) as node:
            await node.set_kept(residual)
            assert (await node.get_kept()).tobytes() == residual.tobytes()
            await load(node, model, room=RESIDUAL)
            assert not (await node.get_kept()).any()

    asyncio.run(session())


def test_a_look_into_the_node_is_not_counted():
    model = large(500)

    async def session() -> None:
        async with started(model, room=RESIDUAL) as node:
            before = node.take_usage()
            assert before.bytes_down > 0
            await node.set_kept(np.ones(model.parameters, np.float32))
            await node.get_kept()
            after = node.take_usage()
            assert (after.bytes_down, after.bytes_up, after.bytes_sensor) == (0, 0, 0)

    asyncio.run(session())


def test_what_the_server_says_of_the_local_part_is_not_sent():
    problem = seeded(
        Model.build(ModelSettings(layers=(Dense(units=3), Dense(units=2, local=True))), 4), 1, 3
    )
    model = problem.model

    async def session() -> None:
        async with started(model, problem.theta, room=RESIDUAL) as node:
            await node.set_kept(np.full(model.parameters, 7, np.float32))
            await train(node, problem.samples, rate=RATE)
            sent = await difference(node, model)
            assert np.array_equal(sent != 0, model.global_mask)
            assert not (await node.get_kept()).any()

    asyncio.run(session())


def test_a_node_that_was_not_asked_to_keeps_nothing():
    model = large(2)

    async def session() -> None:
        async with started(model, np.zeros(model.parameters, np.float32)) as node:
            for work in (
                node.get_kept(),
                node.set_kept(np.ones(model.parameters, np.float32)),
            ):
                with pytest.raises(NodeRefused) as caught:
                    await work
                assert caught.value.error.code == RANGE

    asyncio.run(session())


def test_keeping_takes_the_memory_of_the_parameters():
    model = large(3)

    async def session() -> None:
        async with started(model) as node:
            sizes = [
                (await load(node, model, capacity=4, room=room)).needed for room in (0, RESIDUAL)
            ]
        assert sizes[1] - sizes[0] == 4 * model.parameters

    asyncio.run(session())
