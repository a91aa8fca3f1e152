"""What leaves a node, over whole runs: nothing of its local part, and none of its samples.

A secret is four bytes: a float32 of a sample that the node was sent, of its local part at any time
of training, or of how far that has moved. None may be in any body that the node sends, in either
order of bytes. Left out are secrets that have two bytes of zero or more: zero itself, whole numbers
and powers of two, which a message may have by necessity. Since an update may be rounded to fewer
bytes, no entry of the local part may be in one at all.
"""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cbor2
import numpy as np
import pytest

import exact
import reference as ref
from learning import reference_layers
from running import STRATEGIES, execute
from tinymetafed.experiments import runner
from tinymetafed.experiments.experiment import Experiment
from tinymetafed.federation.client import Client
from tinymetafed.federation.engines import LinkEngine
from tinymetafed.link import chunk, frame, messages
from tinymetafed.link.chunk import Chunk
from tinymetafed.link.messages import GLOBAL, Evaluate, Residual, Store, Train, Weights
from tinymetafed.models.model import Model
from tinymetafed.nodes.host import HostTransport
from tinymetafed.nodes.node import Node
from tinymetafed.strategies import TinyMetaFed

LAYERS = (
    "model.layers=[{units=6, activation='tanh'}, {units=5, activation='tanh', local=true}, "
    "{units=1, local=true}]"
)
MakeExperiment = Callable[..., Experiment]
WITH_LOCAL_PART = ["tinymetafed", *(name for name in STRATEGIES if "feedback" in name)]


class Recording(HostTransport):
    """Keeps the bodies of both ways in their order."""

    everything: list["Recording"]

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[tuple[str, bytes]] = []
        self.everything.append(self)

    async def write(self, data: bytes) -> None:
        self._note("down", data)
        await super().write(data)

    async def read(self) -> bytes:
        data = self.changed(await super().read())
        self._note("up", data)
        return data

    def changed(self, data: bytes) -> bytes:
        return data

    def _note(self, way: str, data: bytes) -> None:
        self.bodies += [(way, body) for body in frame.FrameReceiver().receive(data)]


def record(
    monkeypatch: pytest.MonkeyPatch, experiment: Experiment, folder: Path,
    kind: type[Recording] = Recording,
) -> list[Recording]:  # fmt: skip
    """A whole run, evaluations and all, by node."""
    kind.everything = []

    async def open_transport() -> Recording:
        return kind()

    def make_engine(settings: Experiment, *_: object) -> LinkEngine:
        nodes = [Node(f"node-{i}", open_transport) for i in range(settings.nodes.count)]
        return LinkEngine(Client(settings), nodes)

    monkeypatch.setattr(runner, "make_engine", make_engine)
    execute(experiment, folder)
    assert len(kind.everything) == experiment.nodes.count
    return kind.everything


def parts(session: Recording, way: str) -> Iterator[list[Any]]:
    """The requests that the node was sent ('down'), or its answers ('up'): a code and its
    fields."""
    for each, body in session.bodies:
        if each == way:
            yield from cbor2.loads(body)[1:]


def samples_in(code: int, fields: list[Any]) -> bytes:
    """Of a request; nothing where it has none."""
    place = {Train.CODE: 4, Store.CODE: 1, Evaluate.CODE: 0}.get(code)
    return b"" if place is None else fields[place] or b""


def of_samples(session: Recording) -> Iterator[bytes]:
    for code, *fields in parts(session, "down"):
        samples = samples_in(code, fields)
        yield from (samples[i : i + 4] for i in range(0, len(samples), 4))


class Shadow:
    """A node's weights, followed by what it is sent: exact.py is what the node computes."""

    def __init__(self, core: SimpleNamespace, model: Model) -> None:
        self.model = model
        self._core = core
        self._layers: ref.Layers = reference_layers(model)
        self.held = self.working = np.zeros(model.parameters, np.float32)

    def follow(self, code: int, fields: list[Any]) -> bool:
        """Whether the weights have been trained."""
        if code == Weights.CODE:
            self.held = self.held.copy()
            where, what = chunk.decode(Chunk(*fields[3:]))
            self.held[where] = what
            self.working = self.held
        if code != Train.CODE:
            return False
        rate, frozen, batch, epochs, samples = fields  # nothing else of SGD is asked for
        assert epochs == 1
        trainer = exact.Trainer(self._core, self._layers, self.working, self.model.loss)
        pairs = np.frombuffer(samples, "<f4").reshape(-1, self.model.inputs + self.model.outputs)
        cut = self.model.inputs
        trainer.train([(pair[:cut], pair[cut:]) for pair in pairs], rate, frozen, batch)
        self.working = trainer.theta
        return True


def of_the_local_part(
    session: Recording, core: SimpleNamespace, model: Model, checked: bool = False
) -> Iterator[bytes]:
    """checked: an update is what the shadow has learnt, exactly and with nothing from before."""
    shadow, local = Shadow(core, model), ~model.global_mask
    updates = 0
    for way, body in session.bodies:
        for code, *fields in cbor2.loads(body)[1:]:
            if way == "down" and shadow.follow(code, fields):
                for values in (shadow.working, shadow.working - shadow.held):
                    yield from (value.tobytes() for value in values[local])
            if checked and way == "up" and code == messages.Updated.CODE:
                where, what = chunk.decode(Chunk(*fields))
                learnt = (shadow.working - shadow.held)[where]
                assert np.array_equal(what, np.where(what != 0, learnt, 0))
                updates += 1
    assert updates or not checked


def leaks(session: Recording, secrets: Iterator[bytes], model: Model) -> list[str]:
    """What the node has sent that it may not."""
    # Of small differences few bits are left: others have the same by chance.
    telling = {secret for secret in secrets if 0 not in secret}
    assert len(telling) > 20
    telling |= {secret[::-1] for secret in telling}
    sent = [body for way, body in session.bodies if way == "up"]
    found = [
        f"{body[i : i + 4].hex()} in {body.hex()}"
        for body in sent
        for i in range(len(body) - 3)
        if body[i : i + 4] in telling
    ]
    for code, *fields in parts(session, "up"):
        if code == messages.Updated.CODE:
            where, what = chunk.decode(Chunk(*fields))
            local = where[(what != 0) & ~model.global_mask[where]]
            found += [f"entry {i} of the local part" for i in local]
    return found


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_sample_leaves_a_node(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch, name: str
):
    settings = experiment(LAYERS, *STRATEGIES[name], rounds=12)
    for session in record(monkeypatch, settings, tmp_path):
        assert leaks(session, of_samples(session), settings.built_model) == []


@pytest.mark.parametrize("name", WITH_LOCAL_PART)
def test_the_local_part_does_not_leave_a_node(
    core: SimpleNamespace, tmp_path: Path, experiment: MakeExperiment,
    monkeypatch: pytest.MonkeyPatch, name: str,
):  # fmt: skip
    settings = experiment(LAYERS, *STRATEGIES[name])
    model = settings.built_model
    sessions = record(monkeypatch, settings, tmp_path)
    assert (
        any(code == Residual.CODE for session in sessions for code, *_ in parts(session, "down"))
        == (settings.strategy.keeps == "residual")
        == ("feedback" in name)
    )
    for session in sessions:
        secrets = of_the_local_part(session, core, model, checked=name == "tinymetafed")
        assert leaks(session, secrets, model) == []


class Telling(Recording):
    """Says a value of its last sample where its loss should be."""

    def changed(self, data: bytes) -> bytes:
        [body] = frame.FrameReceiver().receive(data)
        sequence, *answers = cbor2.loads(body)
        requests = list(parts(self, "down"))[-len(answers) :]
        for answer, (code, *fields) in zip(answers, requests, strict=False):
            if answer[0] == messages.Trained.CODE:
                [answer[2]] = struct.unpack("<f", samples_in(code, fields)[-4:])
        return frame.encode(cbor2.dumps([sequence, *answers], canonical=True))


def test_a_node_that_tells_of_a_sample_is_found(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    settings = experiment(LAYERS)
    for session in record(monkeypatch, settings, tmp_path, Telling):
        assert leaks(session, of_samples(session), settings.built_model)


@pytest.mark.parametrize("name", WITH_LOCAL_PART)
def test_a_node_that_is_not_told_what_is_local_is_found(
    core: SimpleNamespace, tmp_path: Path, experiment: MakeExperiment,
    monkeypatch: pytest.MonkeyPatch, name: str,
):  # fmt: skip
    """And is asked for all of its update."""
    describe = Model.description

    def forgetful(self: Model, **settings: Any) -> messages.Load:
        load = describe(self, **settings)
        layers = tuple(
            messages.Layer(layer.operation, GLOBAL, layer.arguments) for layer in load.layers
        )
        return messages.Load(
            load.inputs, load.loss, load.accumulate, load.capacity, layers, load.room
        )

    settings = experiment(LAYERS, *STRATEGIES[name])
    strategy, model = settings.strategy, settings.built_model
    assert isinstance(strategy, TinyMetaFed)
    monkeypatch.setattr(Model, "description", forgetful)
    monkeypatch.setattr(Model, "global_runs", property(lambda self: ((0, self.parameters),)))
    for session in record(monkeypatch, settings, tmp_path):
        found = leaks(session, of_the_local_part(session, core, model), model)
        assert any("entry" in one for one in found)
        if strategy.values == "float32":  # else it is sent in other bytes
            assert any("entry" not in one for one in found)
