"""Whatever another library has set in the process, a host node computes what an emulated one does:
subnormal numbers are numbers, and sums are rounded to nearest."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from learning import full, load, seeded
from tinymetafed.experiments.experiment import Experiment
from tinymetafed.federation.client import Client
from tinymetafed.federation.engines import HostEngine, LinkEngine
from tinymetafed.federation.federation import Federation
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.nodes.backends import private_directory
from tinymetafed.nodes.host import open_host
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.program import Select, Send, Train
from tinymetafed.nodes.qemu import QemuTransport
from tinymetafed.nodes.transport import OpenTransport
from tinymetafed.nodes.update import Update

TINY = np.float32(2.0**-140)


@contextmanager
def flushed(core: SimpleNamespace) -> Iterator[None]:
    """Subnormal numbers are zeros in this thread, and in those that it starts; and still are at the
    end."""
    core.lib.tmf_probe_flush(True)
    try:
        assert (np.array([TINY]) * np.float32(2)).tolist() == [0]
        yield
        assert core.lib.tmf_probe_flushes()
    finally:
        core.lib.tmf_probe_flush(False)


def has_subnormal(values: NDArray[np.float32]) -> bool:
    """By their bits: they may be zeros to this thread."""
    magnitudes = values.view("u4") & 0x7FFFFFFF
    return bool(((magnitudes > 0) & (magnitudes < 0x00800000)).any())


async def trained(open_transport: OpenTransport) -> bytes:
    """What is learnt on weights that are subnormal, or become it."""
    described = {"layers": [{"units": 5, "activation": "tanh"}, {"units": 3}], "loss": "mse"}
    model = Model.build(ModelSettings.model_validate(described), 7)
    problem = seeded(model, 1, samples=4)
    node = Node("node", open_transport)
    await node.start()
    await load(node, model)
    await node.set_weights(full(np.where(np.arange(model.parameters) % 2, TINY, 0).astype("f4")))
    program = Train("query", 2.0**-145), Select(model.parameters), Send()
    outcome = await node.run(program, query=problem.samples)
    await node.close()
    assert has_subnormal(outcome.values)
    return outcome.indices.tobytes() + outcome.values.tobytes()


def test_a_host_node_computes_as_an_emulated_one_does(core: SimpleNamespace):
    async def on_qemu() -> bytes:
        with private_directory() as directory:
            return await trained(lambda: QemuTransport.open(directory, "node"))

    expected = asyncio.run(on_qemu())
    assert asyncio.run(trained(open_host)) == expected
    with flushed(core):
        assert asyncio.run(trained(open_host)) == expected


def test_updates_are_added_up_with_their_subnormal_values(core: SimpleNamespace):
    total = np.zeros(2)
    with flushed(core):
        Update(0, 1, np.array([1], np.int32), np.array([TINY])).add_to(total, 0.5)
    assert total.tolist() == [0, 2.0**-141]


@pytest.mark.parametrize("engine", ["threads", "links"])
def test_a_federation_comes_to_the_same(
    core: SimpleNamespace, experiment: Callable[..., Experiment], engine: str
):
    """Samples, programs, training, aggregation: all of a round; at a rate at which the last layer,
    which starts at zero, has subnormal weights."""
    settings = experiment(
        "strategy={name='reptile', query=6, rate=1e-39}", "nodes.count=6", "rounds=3",
        "model.layers=[{units=4, activation='tanh'}, {units=1}]",
    )  # fmt: skip

    async def rounds() -> bytes:
        client = Client(settings)
        nodes = [Node(f"node-{i}", open_host) for i in range(6)]
        made = HostEngine(client, 2) if engine == "threads" else LinkEngine(client, nodes)
        federation = Federation(settings, made)
        state = await federation.start()
        for _ in range(3):
            state = (await federation.round(state)).state
        await federation.close()
        assert has_subnormal(state.theta)
        return state.theta.tobytes()

    expected = asyncio.run(rounds())
    with flushed(core):
        assert asyncio.run(rounds()) == expected
