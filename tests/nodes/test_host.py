"""Host nodes that rest: another has their memory meanwhile, and nobody notices."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.nodes.host import HostTransport, _library
from tinymetafed.nodes.node import Broadcast, Delta, Evaluation, Node
from tinymetafed.places import HOST_LIBRARY
from tinymetafed.tasks.samples import Samples

MODELS = [
    Model.build(ModelSettings.model_validate({"layers": [*hidden, {"units": 1, "local": True}]}), 2)
    for hidden in ([{"units": 3, "activation": "tanh"}], [{"units": 4}, {"units": 2}])
]


async def _open() -> HostTransport:
    return HostTransport()


def _samples(seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (5, 2)).astype(np.float32)
    return Samples(x, x.sum(axis=1, keepdims=True))


def _bits(found: Delta | Evaluation) -> tuple[object, ...]:
    if isinstance(found, Evaluation):
        return (found.loss, found.accuracy)
    return found.indices.tobytes(), found.values.tobytes()


Steps = list[tuple[int, int, bool]]


async def _play(steps: Steps, *, rests: bool) -> list[tuple[object, ...]]:
    """What three nodes of two models do in turns, and their bytes on the link."""
    nodes = [Node(f"node-{i}", _open) for i in range(3)]
    models = [MODELS[i % 2] for i in range(3)]
    thetas = [model.initial(1) for model in models]
    for node, model in zip(nodes, models, strict=True):
        await node.start()
        await node.load(model, accumulate=False, capacity=0)
        if rests:
            node.rest()
    found: list[tuple[object, ...]] = []
    for version, (i, seed, learns) in enumerate(steps, 1):
        node, model, theta = nodes[i], models[i], thetas[i]
        theta = theta + np.float32(seed) / 64
        broadcast = Broadcast(theta, np.full(len(theta), version), version)
        await node.set_weights(broadcast)
        if learns:
            await node.train(_samples(seed), rate=0.05)
            found.append(_bits(await node.update(model.global_runs, 3)))
        if rests:
            node.rest()
        # What is held outlasts the rest.
        await node.set_weights(Broadcast(theta, broadcast.changed - 1, version))
        found.append(_bits(await node.evaluate(_samples(seed))))
        usage = node.take_usage()
        found.append((usage.down, usage.up, usage.bytes_sensor))
        if rests:
            node.rest()
    for node in nodes:
        await node.close()
    return found


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.booleans()), max_size=12))
def test_who_rests_does_the_same_as_who_does_not(steps: Steps):
    assert asyncio.run(_play(steps, rests=True)) == asyncio.run(_play(steps, rests=False))


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Path]:
    """A library of which nobody has a node."""
    yield Path(copy(HOST_LIBRARY, tmp_path))
    _library.cache_clear()


def test_nodes_that_rest_share_the_memory_of_one(library: Path):
    async def open_transport() -> HostTransport:
        return HostTransport(library)

    async def session() -> None:
        nodes = [Node(f"node-{i}", open_transport) for i in range(50)]
        theta = MODELS[0].initial(1)
        for node in nodes:
            await node.start()
            await node.load(MODELS[0], accumulate=False, capacity=0)
            node.rest()
        for node in nodes:
            await node.set_weights(Broadcast(theta, np.ones(len(theta), np.int64), 1))
            node.rest()
        assert len(_library(library)._free) == 1

    asyncio.run(session())
