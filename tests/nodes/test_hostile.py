"""A node that answers what it likes: whoever asks it gets what a node can have come to, or an error
of the project's own that names the node."""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any

import cbor2
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from blobs import Blobs, on_blobs
from conftest import MakeExperiment
from learning import full
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.federation.client import Client
from tinymetafed.federation.engines import LinkEngine
from tinymetafed.federation.federation import Federation
from tinymetafed.link import frame
from tinymetafed.link.messages import RESIDUAL
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.nodes.host import HostTransport
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.outcome import evaluation
from tinymetafed.nodes.program import Evaluate, Program, Select, Send, Store, Train
from tinymetafed.results.store import DeviceEvaluation
from tinymetafed.tasks.samples import Samples

Change = Callable[[list[Any]], Any]
"""Of a body's items, in place, or what it returns instead."""


class Hostile(HostTransport):
    """A host node whose answers are changed on their way: by `changes`, an answer each, and then
    not any more."""

    def __init__(self, changes: list[Change | None]) -> None:
        super().__init__()
        self._changes = changes

    async def read(self) -> bytes:
        """See Transport."""
        bodies = frame.FrameReceiver().receive(await super().read())
        return b"".join(frame.encode(self._changed(body)) for body in bodies)

    def _changed(self, body: bytes) -> bytes:
        change = self._changes.pop(0) if self._changes else None
        if change is None:
            return body
        items = cbor2.loads(body)
        changed = change(items)
        return changed if isinstance(changed, bytes) else cbor2.dumps(items)


MODEL = Model.build(
    ModelSettings.model_validate(
        {"layers": [{"units": 3, "activation": "relu", "local": True}, {"units": 2}]}
    ),
    2,
)
SAMPLES = Samples(np.ones((4, 2), np.float32), np.ones((4, 2), np.float32))
PROGRAM: Program = (
    Evaluate("query"), Store("support"), Train("stored", 0.125), Select(6), Send(),
)  # fmt: skip


def node_with(changes: list[Change | None]) -> Node:
    """A node called `node`, whose answers are changed; it says hello first."""

    async def open_hostile() -> HostTransport:
        return Hostile(changes)

    return Node("node", open_hostile, timeout=0)


async def session(changes: list[Change | None]) -> None:
    """All that is asked of a node. What it comes to is looked at."""
    node = node_with(changes)
    try:
        await node.start()
        await node.load(MODEL, MODEL.description(accumulate=False, capacity=4, room=RESIDUAL))
        outcome = await node.run(
            PROGRAM, SAMPLES, SAMPLES, full(np.full(MODEL.parameters, 0.5, np.float32))
        )
        ((first, end),) = MODEL.global_runs
        assert (np.diff(outcome.indices) > 0).all()
        assert all(first <= place < end for place in outcome.indices.tolist())
        assert np.isfinite(outcome.values).all()
        judged = evaluation(outcome, 0)
        assert np.isfinite(judged.loss)
        assert 0 <= judged.accuracy <= 1
        await node.set_weights(full(np.zeros(MODEL.parameters, np.float32)))
        outputs = await node.predict(SAMPLES.inputs)
        assert outputs.shape == (4, 2)
        assert np.isfinite(outputs).all()
        kept = await node.get_kept()
        assert kept.shape == (MODEL.parameters,)
        assert np.isfinite(kept).all()
    finally:
        await node.close()


# ---- whatever it answers -------------------------------------------------------------------------

NUMBERS = st.sampled_from(
    [0, 1, 2, 5, 23, 24, 255, 256, 8192, 2**16, 2**24, 2**31, 2**32 - 1, 2**32, 2**64 - 1, -1]
)
ANYTHING = st.one_of(
    NUMBERS, st.floats(), st.binary(max_size=40), st.text(max_size=9), st.none(), st.booleans(),
    st.sampled_from([[], [0], [10, 1, 2, 3, 4, 5], [2], [9, 10, "\x1b[31m", 0, 0], {}, {1: 2}]),
)  # fmt: skip


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """An item of an answer, or of the list of them, is another; is gone; or comes twice."""
    answer, place, other = draw(st.integers(0, 30)), draw(st.integers(0, 9)), draw(ANYTHING)
    how = draw(st.sampled_from(["other", "other", "other", "gone", "twice", "bits", "nested"]))
    bits = draw(st.binary(min_size=1, max_size=4))

    def change(items: list[Any]) -> bytes | None:
        if how == "nested":
            return cbor2.dumps(items)[:2] + 3000 * b"\x81" + b"\1"
        if how == "bits":
            body = bytearray(cbor2.dumps(items))
            for i, flip in enumerate(bits):
                body[(answer * 7 + i * place) % len(body)] ^= flip
            return bytes(body)
        inside = items[answer % len(items)]
        chosen: list[Any] = inside if isinstance(inside, list) and inside else items
        place_in = place % len(chosen)
        if how == "gone":
            del chosen[place_in]
        elif how == "twice":
            chosen.insert(place_in, chosen[place_in])
        elif isinstance(chosen[place_in], bytes) and isinstance(other, bytes):
            chosen[place_in] = other + chosen[place_in][len(other) :]
        else:
            chosen[place_in] = other
        return None

    return change


@settings(
    deadline=None, derandomize=True, max_examples=400, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.lists(st.none() | changes(), max_size=8))
def test_only_errors_of_the_project_come_of_it(found: list[Change | None]):
    try:
        asyncio.run(session(found))
    except TinyMetaFedError as error:
        said = str(error)
        assert said.startswith("node")
        assert said.isprintable()
        assert len(said) < 600


# ---- one by one ----------------------------------------------------------------------------------


def setting(answer: int, place: int, value: Any) -> Change:
    """Sets an item of an answer; the first is the number 1."""

    def change(items: list[Any]) -> None:
        items[answer][place] = value

    return change


def said(*found: Change | None) -> str:
    """The error that a session ends with."""
    with pytest.raises(TinyMetaFedError) as caught:
        asyncio.run(session(list(found)))
    return str(caught.value)


HELLO, LOAD, ROUND, _WEIGHTS, PREDICT = range(5)


def at(frame_number: int, change: Change) -> list[Change | None]:
    """Changes the answer to that frame only."""
    return [*frame_number * [None], change]


@pytest.mark.parametrize(
    ("where", "change", "says"),
    [
        (HELLO, setting(1, 4, 3), "has a receive buffer of 3 bytes, which is too small for one"),
        (HELLO, setting(1, 1, 77), "speaks version 77 of the protocol"),
        (LOAD, setting(1, 1, 2**32 - 1), "counts 4294967295 parameters of the model, the orch"),
        (ROUND, setting(2, 1, 0), "judged 0 samples, 0 of them right, where it was sent 4"),
        (ROUND, setting(2, 3, 9), "judged 4 samples, 9 of them right, where it was sent 4"),
        (ROUND, setting(2, 2, np.nan), "refused 'evaluate': it sent a number that is not finite"),
        (ROUND, setting(4, 2, np.inf), "refused 'train': it sent a number that is not finite"),
        (PREDICT, setting(1, 1, bytes(12)), "sent another number of outputs than it was asked"),
        (PREDICT, setting(1, 1, np.full(8, np.nan, "<f4").tobytes()), "refused 'predict': it sent"),
    ],
)  # fmt: skip
def test_what_it_cannot_mean_is_said(where: int, change: Change, says: str):
    assert said(*at(where, change)).startswith(f"node {says}")


def test_a_model_whose_description_does_not_fit_its_buffer_is_not_sent():
    layers = [*({"units": 3, "activation": "relu"} for _ in range(14)), {"units": 2}]
    model = Model.build(ModelSettings.model_validate({"layers": layers}), 2)

    async def load() -> None:
        node = node_with([setting(1, 4, 90)])
        await node.start()
        await node.load(model, model.description(accumulate=False, capacity=4))

    with pytest.raises(
        TinyMetaFedError,
        match=r"node cannot be sent 'load': a frame of \d{3} bytes is longer than the node's "
        "receive buffer of 90, as its hello says",
    ):
        asyncio.run(load())


# ---- numbers that are not finite, in a federation ------------------------------------------------


def spoiling(name: str, value: float) -> Change:
    """Spoils the first number of the answers of a kind, wherever they are."""

    def change(items: list[Any]) -> None:
        for answer in items[1:]:
            if name == "loss" and answer[0] in (3, 5):
                answer[2] = value
            if name == "update" and answer[0] == 8 and answer[2] and answer[3] == 0:
                answer[4] = np.float32(value).tobytes() + answer[4][4:]

    return change


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["loss", "update"])
@pytest.mark.parametrize("then", ["leave_out", "stop"])
def test_they_are_treated_as_a_device_that_diverged(
    experiment: MakeExperiment,
    caplog: pytest.LogCaptureFixture,
    name: str,
    then: str,
    value: float,
):
    """The node is named with its device and round; the others are aggregated as ever."""
    settings = experiment(
        "nodes.count=3", "strategy.percent=100", f"participation.diverged={then}",
        "evaluation.devices=3",
    )  # fmt: skip
    changes: list[Change | None] = [spoiling(name, value) for _ in range(200)]
    nodes = [node_with([]), node_with(changes), node_with([])]
    for i, node in enumerate(nodes):
        node.name = f"node-{i}"

    async def federation() -> None:
        one = Federation(settings, LinkEngine(Client(settings), nodes))
        try:
            state = await one.start()
            result = await one.round(state)
            assert [row.diverged for row in result.rows] == [False, True, False]
            assert np.isfinite(result.state.theta).all()
            judged = await one.evaluate(result.state, settings.devices_of("validation"))
            gone = [row.loss_after is None for row in judged]
            assert gone == [False, name == "loss", False]
        finally:
            await one.close()

    says = r"round 1: training of device \d+ on node-1 diverged"
    if then == "stop":
        with pytest.raises(TinyMetaFedError, match=f"^{says}$"):
            asyncio.run(federation())
    else:
        asyncio.run(federation())
        (record,) = caplog.records
        assert re.match(says, record.getMessage())


# ---- what it takes samples for ------------------------------------------------------------------


def outputting(values: list[float]) -> Change:
    """Answers this of each sample where it is asked to predict."""

    def change(items: list[Any]) -> None:
        if items[1][0] == 6:
            items[1][1] = np.resize(np.array(values, "<f4"), len(items[1][1]) // 4).tobytes()

    return change


def _asked(changes: Sequence[Change], ways: int = 2) -> list[DeviceEvaluation]:
    """An unseen device by a node whose answers are changed."""
    settings = on_blobs(Blobs(ways=ways), {"nodes.count": 1, "evaluation.unseen": 1})
    node = node_with([*changes])

    async def federation() -> list[DeviceEvaluation]:
        one = Federation(settings, LinkEngine(Client(settings, restarts=0), [node]))
        try:
            return await one.evaluate(await one.start(), settings.devices_of("unseen"))
        finally:
            await one.close()

    return asyncio.run(federation())


def test_a_node_that_contradicts_itself_is_not_believed():
    with pytest.raises(TinyMetaFedError, match="^node predicts other classes than it was judged"):
        _asked(50 * [outputting([0.0, 1.0, 1.0, 0.0, 2.0])])


def test_where_an_output_is_infinite_it_is_not_known_what_samples_are_taken_for():
    (row,) = _asked(50 * [outputting([-np.inf, 1.0])])
    assert row.loss_after is not None
    assert row.classes == ()


def test_a_node_whose_answers_have_no_room_for_the_outputs_is_not_asked():
    (row,) = _asked([setting(1, 4, 600)], ways=200)
    assert row.loss_after is not None
    assert row.classes == ()
    (row,) = _asked([setting(1, 4, 1600)], ways=200)
    assert sum(one.samples for one in row.classes) == 8


def test_what_it_keeps_is_not_taken_over(experiment: MakeExperiment):
    settings = experiment("nodes.count=1", "strategy.percent=20", "strategy.error_feedback=true")
    changes = [*3 * [None], spoiling("update", np.nan)]  # hello, load, the round; what it keeps
    node = node_with(changes)

    async def federation() -> None:
        one = Federation(settings, LinkEngine(Client(settings), [node]))
        result = await one.round(await one.start())
        assert [row.diverged for row in result.rows] == [True]
        assert not result.state.kept
        assert changes == []
        await one.close()

    asyncio.run(federation())
