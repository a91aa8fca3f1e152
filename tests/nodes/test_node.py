"""Requests over a link that loses, doubles and spoils frames are answered, and done once."""

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from conftest import SMALL, MakeExperiment
from learning import full, load, store, train
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import Experiment, parse
from tinymetafed.link import Connection, messages
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.nodes.answers import NodeRefused
from tinymetafed.nodes.broadcast import Broadcast
from tinymetafed.nodes.host import HostTransport, open_host
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.transport import NodeLost
from tinymetafed.strategies import Round, ServerState


class Faulty(HostTransport):
    """Does `faults[i]` to the i-th frame either way: lose it, double it, or flip a bit of it."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__()
        self.faults = faults
        self.booted = False

    def _spoil(self, frame: bytes) -> bytes:
        fault = self.faults.pop(0) if self.faults and self.booted else ""
        match fault:
            case "lose":
                return b""
            case "double":
                return frame + frame
            case "flip":
                return bytes([frame[0] ^ 4]) + frame[1:]
            case _:
                return frame

    async def write(self, data: bytes) -> None:
        self.booted = True
        await super().write(self._spoil(data))

    async def read(self) -> bytes:
        data = self._spoil(await super().read())
        return data or await super().read()


def _train(experiment: Experiment, transport: HostTransport) -> bytes:
    async def open_transport() -> HostTransport:
        return transport

    async def train() -> bytes:
        node = Node("node-0", open_transport, timeout=0.02, attempts=20)
        model = experiment.built_model
        await node.start()
        await load(node, model)
        support, query = experiment.task.device(1, 1, 4, 6)
        theta = model.initial(1)
        program = experiment.strategy.program(ServerState(theta), model, Round(0, 1))
        delta = await node.run(program, support, query, full(theta))
        await node.close()
        return delta.indices.tobytes() + delta.values.tobytes()

    return asyncio.run(train())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["", "", "lose", "double", "flip"]), max_size=16))
def test_whatever_the_link_does_the_work_is_done_once(faults: list[str]):
    experiment = parse(SMALL, "SMALL")
    assert _train(experiment, Faulty(faults)) == _train(experiment, Faulty([]))


def test_a_link_that_carries_nothing(experiment: MakeExperiment):
    with pytest.raises(NodeLost, match="node-0 did not answer 'load', sent 20 times"):
        _train(experiment(), Faulty(["lose"] * 100))


def test_a_node_that_starts_by_itself_is_lost(experiment: MakeExperiment):
    class Restarting(HostTransport):
        reads = 0

        async def read(self) -> bytes:
            self.reads += 1
            if self.reads == 3:
                self.__init__()
            return await super().read()

    with pytest.raises(NodeLost, match="node-0 has restarted by itself"):
        _train(experiment(), Restarting())


class Slow(HostTransport):
    """Computes until it is looked at for the third time, and answers then."""

    immediate = False
    looks = frames = 0

    async def write(self, data: bytes) -> None:
        self.looks, self.frames = 0, self.frames + 1
        await super().write(data)

    async def read(self) -> bytes:
        if self.frames and self.looks < 3:
            await asyncio.sleep(60)
        return await super().read()

    async def computing(self) -> bool:
        self.looks += 1
        return self.looks < 3


def test_a_node_that_ends_its_work_as_it_is_looked_at_is_not_asked_again(
    experiment: MakeExperiment,
):
    slow = Slow()
    assert _train(experiment(), slow) == _train(experiment(), HostTransport())
    assert slow.frames == 2  # the load, and the program


def test_a_program_that_only_computes_is_no_node():
    class Endless(Slow):
        async def read(self) -> bytes:
            return await asyncio.get_running_loop().create_future()

        async def computing(self) -> bool:
            return True

    async def start() -> None:
        async def open_transport() -> Endless:
            return Endless()

        await Node("node-0", open_transport, timeout=0.01).start()

    with pytest.raises(NodeLost, match="node-0 did not answer 'hello', sent 3 times"):
        asyncio.run(asyncio.wait_for(start(), 10))


def test_a_node_of_another_protocol(experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch):
    spoken = messages.PROTOCOL
    monkeypatch.setattr(messages, "PROTOCOL", spoken + 1)
    with pytest.raises(
        TinyMetaFedError, match=f"speaks version {spoken} of the protocol.*make firmware"
    ):
        _train(experiment(), HostTransport())


def test_a_node_without_room_for_a_parameter(monkeypatch: pytest.MonkeyPatch):

    monkeypatch.setattr(Connection, "capacity", 51)
    with pytest.raises(TinyMetaFedError, match="which is too small for one parameter"):
        asyncio.run(Node("node-0", open_host).start())


def test_no_samples_are_a_mistake_of_the_caller(experiment: MakeExperiment):
    settings_ = experiment()
    none, some = settings_.task.device(1, 1, 0, 3)

    async def use() -> None:
        node, model = Node("node-0", open_host), settings_.built_model
        await node.start()
        await load(node, model, capacity=10)
        await node.set_weights(full(model.initial(1)))
        for mistake in (train(node, none, rate=0.1), node.evaluate(none), store(node, none),
                        train(node, some, rate=0.1, batch=0)):  # fmt: skip
            with pytest.raises(ValueError, match="samples in mini-batches of"):
                await mistake
        assert (await node.evaluate(some)).loss > 0
        await node.close()

    asyncio.run(use())


def test_inputs_longer_than_a_frame_are_predicted_in_pieces(experiment: MakeExperiment):
    settings_ = experiment()
    inputs = np.linspace(-5, 5, 5000, dtype=np.float32)[:, None]

    async def predict() -> tuple[NDArray[np.float32], ...]:
        node, model = Node("node-0", open_host), settings_.built_model
        await node.start()
        await load(node, model)
        await node.set_weights(full(model.initial(1)))
        found = await node.predict(inputs), await node.predict(inputs[4000:4010])
        await node.close()
        return found

    whole, part = asyncio.run(predict())
    assert whole.shape == (5000, 1)
    assert np.array_equal(whole[4000:4010], part)


def test_outputs_longer_than_a_frame_come_in_pieces():
    """More bytes come back than are sent."""
    wide = Model.build(ModelSettings.model_validate({"layers": [{"units": 300}]}), 1)
    inputs = np.linspace(-5, 5, 20, dtype=np.float32)[:, None]
    theta = np.arange(wide.parameters, dtype=np.float32)

    async def outputs() -> NDArray[np.float32]:
        node = Node("node-0", open_host)
        await node.start()
        await load(node, wide)
        await node.set_weights(full(theta))
        assert node.can_predict
        found = await node.predict(inputs)
        await node.close()
        return found

    w, b = theta[:300], theta[300:]
    np.testing.assert_allclose(asyncio.run(outputs()), inputs * w + b, rtol=1e-6)


def test_samples_longer_than_a_frame_go_in_pieces(experiment: MakeExperiment):
    """A node is as far after many samples as after the same in requests of their own."""

    async def losses() -> list[float]:
        settings_ = experiment()
        model = settings_.built_model
        many, _ = settings_.task.device(1, 1, 2500, 0)
        results: list[float] = []
        for parts in ([many], [many[i : i + 500] for i in range(0, 2500, 500)]):
            node = Node("node-0", open_host)
            await node.start()
            await load(node, model)
            await node.set_weights(full(model.initial(1)))
            for part in parts:
                await train(node, part, rate=0.01)
            results.append((await node.evaluate(many)).loss)
        return results

    first, second = asyncio.run(losses())
    assert first == pytest.approx(second, rel=1e-6)
    assert np.isfinite(first)


def test_more_samples_than_the_store_holds_are_refused(experiment: MakeExperiment):
    async def overfill() -> None:
        node = Node("node-0", open_host)
        await node.start()
        await load(node, experiment().built_model, accumulate=True, capacity=10)
        samples, _ = experiment().task.device(1, 1, 11, 0)
        await store(node, samples[:10])
        with pytest.raises(NodeRefused, match="refused 'store'"):
            await store(node, samples)

    asyncio.run(overfill())


def test_a_node_goes_back_to_an_older_version(experiment: MakeExperiment):
    async def go_back() -> None:
        model = experiment().built_model
        node = Node("node-0", open_host)
        await node.start()
        await load(node, model)
        theta = np.full(model.parameters, 0.5, np.float32)
        x, changed = np.ones((1, 1), np.float32), np.ones(len(theta), np.int64)
        await node.set_weights(Broadcast(theta, changed, 5))
        newer = await node.predict(x)
        await node.set_weights(Broadcast(np.zeros_like(theta), changed, 3))
        assert newer != 0
        assert await node.predict(x) == 0

    asyncio.run(go_back())
