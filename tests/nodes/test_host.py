"""Host nodes share memory: another has it before, after and in between, and nobody notices."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning import load
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.nodes import native
from tinymetafed.nodes.broadcast import Broadcast
from tinymetafed.nodes.host import HostTransport, open_host
from tinymetafed.nodes.library import library
from tinymetafed.nodes.native import Client, NativeNodes
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.outcome import Evaluation, evaluation
from tinymetafed.nodes.program import Evaluate, Program, Select, Send, Train
from tinymetafed.nodes.usage import Usage
from tinymetafed.places import HOST_LIBRARY
from tinymetafed.tasks.samples import Samples

MODELS = [
    Model.build(ModelSettings.model_validate({"layers": [*hidden, {"units": 1, "local": True}]}), 2)
    for hidden in ([{"units": 3, "activation": "tanh"}], [{"units": 4}, {"units": 2}])
]
LEARN: Program = (Train("query", rate=0.05), Evaluate(), Select(3), Send())
JUDGE: Program = (Evaluate(),)


def _samples(seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (5, 2)).astype(np.float32)
    return Samples(x, x.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class _Found:
    """What a node's program came to."""

    indices: bytes
    values: bytes
    judged: Evaluation
    usage: Usage
    sequence: int


Steps = list[tuple[int, int, bool]]


def _works(steps: Steps) -> Iterator[tuple[int, Program, Broadcast, Samples]]:
    """What nodes do in turns: which of them, its program, the weights that it begins with."""
    for version, (i, seed, learns) in enumerate(steps, 1):
        theta = MODELS[i % 2].initial(1) + np.float32(seed) / 64
        broadcast = Broadcast(theta, np.full(len(theta), version), version)
        yield i, LEARN if learns else JUDGE, broadcast, _samples(seed)
        # What is held outlasts what others do.
        again = Broadcast(theta, broadcast.changed - 1, version)
        yield i, JUDGE, again, _samples(seed)


async def _play_apart(steps: Steps) -> list[_Found]:
    """By three nodes of two models, each with memory of its own."""
    nodes = [Node(f"node-{i}", open_host) for i in range(3)]
    for i, node in enumerate(nodes):
        await node.start()
        await load(node, MODELS[i % 2])
        node.take_usage()
    found: list[_Found] = []
    for i, program, broadcast, samples in _works(steps):
        node = nodes[i]
        got = await node.run(program, None, samples, broadcast)
        judged = evaluation(got, program.index(Evaluate()))
        sent = got.indices.tobytes(), got.values.tobytes()
        found.append(_Found(*sent, judged, node.take_usage(), node.sequence))
    for node in nodes:
        await node.close()
    return found


def _capacity() -> int:
    async def ask() -> int:
        node = Node("node", open_host)
        await node.start()
        await node.close()
        return node.capacity

    return asyncio.run(ask())


async def _stir(seed: int) -> None:
    """Another node has the memory for a while."""
    node = Node("other", open_host)
    await node.start()
    model = MODELS[seed % 2]
    await load(node, model)
    theta = np.full(model.parameters, seed, np.float32)
    await node.set_weights(Broadcast(theta, np.ones(len(theta), np.int64), 1 + seed))
    await node.close()


def _play_together(steps: Steps) -> list[_Found]:
    """By three nodes that are no more than where they stand, and have the same memory in turns,
    with nodes over links in between."""
    models = [
        NativeNodes(model, model.description(accumulate=False, capacity=0), _capacity(), threads=1)
        for model in MODELS
    ]
    held, sequence = [0, 0, 0], [0, 0, 0]
    found: list[_Found] = []
    for i, program, broadcast, samples in _works(steps):
        client = Client(held[i], sequence[i], samples[:0], samples)
        [one] = models[i % 2].run(program, broadcast, [client])
        assert one.refused is None
        held[i], sequence[i] = broadcast.version, one.sequence
        sent = one.indices.tobytes(), one.values.tobytes()
        found.append(_Found(*sent, one.evaluations[0], one.usage, one.sequence))
        if broadcast.version % 2:
            asyncio.run(_stir(broadcast.version))
    return found


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.booleans()), max_size=12))
def test_who_shares_memory_does_the_same_as_who_has_it_alone(steps: Steps):
    assert _play_together(steps) == asyncio.run(_play_apart(steps))


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A library of which nobody has a node."""
    path = Path(copy(HOST_LIBRARY, tmp_path))
    monkeypatch.setattr(native, "host_library", lambda: library(path))
    yield path
    library.cache_clear()


@pytest.mark.parametrize("threads", [1, 2])
def test_many_nodes_share_the_memory_of_as_many_as_there_are_threads(
    alone: Path, monkeypatch: pytest.MonkeyPatch, threads: int
):
    monkeypatch.setattr(native, "WORTH_A_THREAD", 0)
    model = MODELS[0]
    description = model.description(accumulate=False, capacity=0)
    nodes = NativeNodes(model, description, 8000, threads)
    theta, samples = model.initial(1), _samples(1)
    clients = [Client(0, 0, samples, samples)] * 50
    for version in (1, 2):
        broadcast = Broadcast(theta, np.full(len(theta), version), version)
        first, *others = nodes.run(LEARN, broadcast, clients)
        assert all(one.values.tobytes() == first.values.tobytes() for one in others)
    nodes.close()
    assert 1 <= len(library(alone)._free) <= threads


def test_a_node_that_ends_leaves_its_memory_to_the_next(alone: Path):
    async def session() -> None:
        for _ in range(3):
            transports = [HostTransport(alone) for _ in range(4)]
            assert library(alone)._free == []
            for transport in transports:
                await transport.close()
                await transport.close()  # once more is nothing more
            assert len(set(map(id, library(alone)._free))) == 4

    asyncio.run(session())


def test_a_node_in_used_memory_has_just_booted(alone: Path):
    async def session() -> None:
        first = HostTransport(alone)
        memory = first._host
        hello = await first.read()
        await first.write(b"\0rest of something")
        await first.close()
        second = HostTransport(alone)
        assert second._host is memory
        assert await second.read() == hello
        assert set(second.sizes().values()) == {0}
        with pytest.raises(TimeoutError):
            await second.read()

    asyncio.run(session())
