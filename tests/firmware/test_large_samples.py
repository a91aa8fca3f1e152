"""A sample longer than a frame passes in parts: a node learns the same from it on every backend,
and is sent the same bytes."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import exact
import sanitizing
from learning import difference, full, load, seeded, train
from tinymetafed.link import messages
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.nodes.answers import NodeRefused
from tinymetafed.nodes.backends import private_directory
from tinymetafed.nodes.broadcast import Broadcast
from tinymetafed.nodes.host import open_host
from tinymetafed.nodes.native import Client, NativeNodes
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.outcome import Evaluation, evaluation
from tinymetafed.nodes.program import Evaluate, Program, Select, Send, Store, Train
from tinymetafed.nodes.qemu import QemuTransport
from tinymetafed.nodes.transport import OpenTransport
from tinymetafed.nodes.usage import Usage

IMAGE = Model.build(
    ModelSettings.model_validate({
        "loss": "softmax_cross_entropy", "shape": (96, 96, 1),
        "layers": [
            {"type": "conv2d", "filters": 3, "size": 4, "stride": 4, "activation": "relu"},
            {"type": "max_pool2d"}, {"units": 3},
        ],
    }), 96 * 96,
)  # fmt: skip
PROGRAM: Program = (
    Evaluate("query"), Train("support", 0.125), Store("query"), Train("stored", 0.125, epochs=2),
    Train("query", 0.125, steps=3), Evaluate("query"), Select(IMAGE.parameters), Send(),
)  # fmt: skip
PROBLEM = seeded(IMAGE, 3, samples=4)
SUPPORT, QUERY = PROBLEM.samples[:2], PROBLEM.samples[2:]
LOAD = IMAGE.description(accumulate=False, capacity=2)

Found = tuple[bytes, bytes, list[Evaluation], Usage]


def broadcast() -> Broadcast:
    return Broadcast(PROBLEM.theta, np.ones(IMAGE.parameters, np.int64), 1)


async def over_link(open_transport: OpenTransport) -> Found:
    node = Node("node", open_transport)
    await node.start()
    await node.load(IMAGE, LOAD)
    node.take_usage()
    outcome = await node.run(PROGRAM, SUPPORT, QUERY, broadcast())
    usage = replace(node.take_usage(), profile=None)
    judged = [evaluation(outcome, place) for place in (0, 5)]
    await node.close()
    return outcome.indices.tobytes(), outcome.values.tobytes(), judged, usage


def natively(capacity: int) -> Found:
    nodes = NativeNodes(IMAGE, LOAD, capacity, 1)
    [one] = nodes.run(PROGRAM, broadcast(), [Client(0, 0, SUPPORT, QUERY)])
    assert one.refused is None
    return one.indices.tobytes(), one.values.tobytes(), list(one.evaluations), one.usage


def test_an_image_of_96_by_96_is_learnt_from_alike_on_every_backend():
    async def on_qemu() -> Found:
        with private_directory() as directory:
            return await over_link(lambda: QemuTransport.open(directory, "node"))

    host = asyncio.run(over_link(open_host))
    assert natively(8154) == host
    assert asyncio.run(on_qemu()) == host
    usage = host[3]
    assert usage.bytes_sensor == (2 + 2 + 2 + 3 + 2) * PROBLEM.samples.size
    assert usage.down["part"] < 0.002 * usage.bytes_sensor
    assert len(usage.frames_down) == len(usage.frames_up) > usage.bytes_sensor / 8154


@pytest.mark.parametrize("loss", ["mse", "softmax_cross_entropy"])
@pytest.mark.parametrize("inputs", [2023, 2024, 2025, 2030, 2035, 2040, 5000])
def test_it_learns_what_the_order_of_sums_says(core: SimpleNamespace, inputs: int, loss: str):
    """Around the length of a frame, and beyond."""
    described = {"loss": loss, "layers": [{"units": 3}]}
    problem = seeded(Model.build(ModelSettings.model_validate(described), inputs), 1, samples=3)
    trainer = exact.Trainer(core, problem.layers, problem.theta, loss)
    trainer.train(problem.exact_pairs, 0.0625, 0)

    async def session() -> None:
        node = Node("node", open_host)
        await node.start()
        await load(node, problem.model)
        await node.set_weights(full(problem.theta))
        predicted = await node.predict(problem.samples.inputs)
        await train(node, problem.samples, rate=0.0625)
        delta = await difference(node, problem.model)
        await node.close()
        assert delta.astype(np.float32).tobytes() == (trainer.theta - problem.theta).tobytes()
        before = exact.Trainer(core, problem.layers, problem.theta, loss)
        values = [before.forward(x)[-1] for x in problem.samples.inputs]
        assert predicted.tobytes() == np.array(values).tobytes()

    asyncio.run(session())


SAMPLES, RANGE = 8, 6
WHOLE = Model.build(ModelSettings.model_validate({"layers": [{"units": 1}]}), 20)
LONG = Model.build(ModelSettings.model_validate({"layers": [{"units": 1}]}), 3000)
SIZE = 4 * 3001
NOTHING = messages.Evaluate(b"")


@pytest.mark.parametrize(
    ("model", "requests", "codes"),
    [
        (WHOLE, [messages.Part(0, bytes(84))], [SAMPLES]),  # the node has no place for it
        (LONG, [messages.Part(0, b"")], [SAMPLES]),
        (LONG, [NOTHING], [SAMPLES]),
        (LONG, [messages.Part(4, bytes(4))], [RANGE]),
        (LONG, [messages.Part(0, bytes(4)), NOTHING], [None, SAMPLES]),
        (LONG, [messages.Part(0, bytes(4)), messages.Part(8, bytes(4))], [None, RANGE]),
        (LONG, [messages.Part(0, bytes(4)), messages.Part(2**32 - 1, bytes(4))], [None, RANGE]),
        (LONG, [messages.Part(0, bytes(8000)), messages.Part(8000, bytes(SIZE - 7999))],
         [None, RANGE]),
        (LONG, [messages.Part(0, bytes(8000)), messages.Part(8000, bytes(SIZE - 8000)), NOTHING,
                NOTHING], [None, None, None, SAMPLES]),  # it is used up
        (LONG, [messages.Part(0, bytes(8000)), messages.Part(8000, bytes(SIZE - 8004)), NOTHING,
                messages.Predict(b""), messages.Predict(b"")],
         [None, None, SAMPLES, None, SAMPLES]),
        (LONG, [messages.Part(0, bytes(8000)), messages.Part(0, bytes(8000)),
                messages.Part(8000, bytes(SIZE - 8000)), messages.Store(False, b""),
                messages.Train(0.5, 0, 1, 1, None)], 5 * [None]),
    ],
)  # fmt: skip
def test_what_is_no_part_is_refused(
    model: Model, requests: list[messages.Request], codes: list[int | None]
):
    async def session() -> list[int | None]:
        node, found = Node("node", open_host), list[int | None]()
        await node.start()
        await load(node, model, capacity=1)
        await node.set_weights(full(np.zeros(model.parameters, np.float32)))
        for request in requests:
            try:
                await node._request(type(request).__name__.lower(), request)
                found.append(None)
            except NodeRefused as refused:
                found.append(refused.error.code)
        await node.close()
        return found

    assert asyncio.run(session()) == codes


def test_with_the_sanitizers():
    sanitizing.check(__file__, "no_part or order")
