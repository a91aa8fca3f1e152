"""Frozen layers are held once and never move: training comes to the same bits as where the same
layers are held twice and masked, in less memory."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import reference as ref
from learning import BareNode, Problem, Theta, difference, problems, started, store, train
from tinymetafed.link import Error, Request
from tinymetafed.link.chunk import DENSE, Chunk
from tinymetafed.link.messages import FROZEN, Backbone, Weights
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.nodes.answers import NodeRefused
from tinymetafed.nodes.host import HostTransport

WEIGHTS, RANGE = 5, 6  # enum tmf_error


def with_backbone(problem: Problem, frozen: list[bool]) -> tuple[Model, Theta]:
    """The same model with some parts frozen, and the weights that move."""
    moving, backbone, vectors = [], [], {True: [], False: []}
    layers = list(problem.model.layers)
    for part, is_frozen in zip(problem.model.parts, frozen, strict=True):
        vector = vectors[is_frozen]
        first = sum(map(len, vector))
        vector.append(problem.theta[part.first : part.end])
        if is_frozen:
            layers[part.layer] = replace(layers[part.layer], part=FROZEN)
            backbone.append(replace(part, first=first, part=FROZEN))
        else:
            moving.append(replace(part, first=first))
    model = replace(
        problem.model, layers=tuple(layers), parts=tuple(moving), backbone_parts=tuple(backbone),
        backbone=np.concatenate(vectors[True]),
    )  # fmt: skip
    return model, np.concatenate(vectors[False])


@settings(deadline=None, derandomize=True, max_examples=100)
@given(problems(samples=st.integers(1, 5)), st.integers(1, 3), st.data())
def test_frozen_layers_are_those_that_a_mask_holds_but_held_once(
    problem: Problem, batch: int, data: st.DataObject
):
    parts = problem.model.parts
    frozen = [data.draw(st.booleans()) for _ in parts]
    assume(0 < sum(frozen) < len(frozen))
    model, theta = with_backbone(problem, frozen)
    mask = sum(1 << part.layer for part, one in zip(parts, frozen, strict=True) if one)

    async def session(
        model: Model, theta: Theta, mask: int
    ) -> tuple[ref.Vector, float, dict[str, int]]:
        async with started(model, theta, accumulate=batch > 1, capacity=5) as node:
            await store(node, problem.samples)
            loss = await train(node, None, rate=0.05, frozen=mask, batch=batch)
            assert isinstance(node.transport, HostTransport)
            return await difference(node, model), loss, node.transport.sizes()

    try:
        whole, loss, masked = asyncio.run(session(problem.model, problem.theta, mask))
    except NodeRefused:  # it diverges, and so does the other
        with pytest.raises(NodeRefused):
            asyncio.run(session(model, theta, 0))
        return
    found, found_loss, held = asyncio.run(session(model, theta, 0))
    moves = np.concatenate([
        np.full(part.end - part.first, not one) for part, one in zip(parts, frozen, strict=True)
    ])  # fmt: skip
    assert found.tobytes() == whole[moves].tobytes()
    assert found_loss == loss
    assert held["backbone"] == 4 * int((~moves).sum())
    assert sum(held.values()) < sum(masked.values())


def test_a_node_takes_nothing_else_before_all_of_the_backbone_in_order():
    described = {"layers": [{"units": 3, "frozen": True}, {"units": 1}]}
    model = Model.build(ModelSettings.model_validate(described), 2)
    node = BareNode()

    def code_of(request: Request) -> int | None:
        [answer] = node.ask(request)
        return answer.code if isinstance(answer, Error) else None

    def piece(first: int, count: int) -> Backbone:
        return Backbone(Chunk(first, count, DENSE, bytes(4 * count)))

    weights = Weights(0, 1, True, Chunk(0, 4, DENSE, bytes(16)))
    assert code_of(model.description(accumulate=False, capacity=0)) is None
    assert code_of(weights) == WEIGHTS
    assert code_of(piece(1, 2)) == RANGE
    assert code_of(piece(0, 4)) is None
    assert code_of(piece(0, 4)) == RANGE
    assert code_of(piece(4, 6)) == RANGE  # more than there are
    assert code_of(weights) == WEIGHTS
    assert code_of(piece(4, 5)) is None
    assert code_of(weights) is None
    node.close()
