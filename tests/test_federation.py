"""The round loop on the host backend: what it learns, what it sends, what it survives."""

import asyncio
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from conftest import FindReal, MakeExperiment
from running import execute, weights
from tinymetafed import datasets
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiment import Experiment, read
from tinymetafed.federation import Federation, ServerState
from tinymetafed.link import Connection
from tinymetafed.nodes.backends import make_nodes, private_directory
from tinymetafed.nodes.host import HostTransport
from tinymetafed.nodes.node import Node, NodeRefused
from tinymetafed.nodes.transport import NodeLost
from tinymetafed.places import PROJECT
from tinymetafed.report.summary import losses
from tinymetafed.tasks import Sine, keywords, omniglot


@pytest.mark.parametrize("name", ["demo", "reptile"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_adaptation_on_unseen_devices_improves_to_three_tenths(
    tmp_path: Path, name: str, seed: int
):
    changes = (f"seed={seed}", "nodes.backend=host", "evaluation.every=300")
    store, run = execute(read(PROJECT / f"experiments/{name}.toml", changes), tmp_path)
    start, end = losses(store, run)
    assert (start.round, end.round, end.devices) == (0, 300, 50)
    assert end.after <= 0.3 * start.after


def test_the_same_experiment_gives_the_same_weights(tmp_path: Path, experiment: MakeExperiment):
    first, again, other = (
        weights(experiment(seed=seed), tmp_path / str(i)) for i, seed in enumerate((7, 7, 8))
    )
    assert (first == again).all()
    assert (first != other).any()


def test_only_some_nodes_take_part_in_a_round(tmp_path: Path, experiment: MakeExperiment):
    settings = experiment("nodes.count=5", "nodes.per_round=2", rounds=20)
    store, run = execute(settings, tmp_path)
    rows = store.node_rounds(run.id)
    for number in range(1, 21):
        here = [row for row in rows if row.round == number]
        assert len({row.node for row in here}) == len({row.device for row in here}) == 2
    assert {row.node for row in rows} == set(range(5))
    assert all(row.device < settings.devices.seen for row in rows)


def test_evaluation_is_not_counted_as_communication(tmp_path: Path, experiment: MakeExperiment):
    """But for the last broadcast, which no round follows, a run moves the same bytes however often
    it is judged."""
    often, seldom = (
        execute(experiment(f"evaluation.every={every}"), tmp_path / str(every)) for every in (1, 4)
    )
    rows = [store.node_rounds(run.id) for store, run in (often, seldom)]
    assert rows[0] == rows[1]


def test_judged_devices_are_unseen_and_others_are_not(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    asked: set[tuple[int, bool]] = set()
    device = Sine.device

    def recorded(self: Sine, seed: int, number: int, *counts: int, unseen: bool = False):
        asked.add((number, unseen))
        return device(self, seed, number, *counts, unseen=unseen)

    monkeypatch.setattr(Sine, "device", recorded)
    execute(experiment("devices.seen=3"), tmp_path)
    assert asked == {(number, number >= 3) for number in range(8)}


@pytest.mark.parametrize("name", ["omniglot", "digits"])
def test_training_makes_a_few_samples_of_real_data_tell_more(
    tmp_path: Path, real_data: FindReal, name: str
):
    """In accuracy on unseen alphabets and speakers, after 75 rounds."""
    files = {
        "omniglot": datasets.card(omniglot.Card, "omniglot").files["images_background_small2"],
        "digits": datasets.card(keywords.Card, "fsdd").file,
    }
    real_data(files[name])
    changes = ("rounds=75", "evaluation.every=75", "evaluation.devices=20")
    settings = read(PROJECT / f"experiments/{name}.toml", changes)
    store, run = execute(settings, tmp_path)
    start, end = losses(store, run)
    assert end.accuracy_after >= start.accuracy_after + 0.1
    assert end.after < start.after
    # Labels are given anew on every device, so without adaptation there is nothing to know.
    assert end.accuracy_before == pytest.approx(1 / settings.task.outputs, abs=0.08)


class _Unreliable(HostTransport):
    """Loses its node at given reads, counted over all transports."""

    reads = 0
    fails_at: frozenset[int] = frozenset()

    async def read(self) -> bytes:
        _Unreliable.reads += 1
        if _Unreliable.reads in self.fails_at:
            raise NodeLost("the link broke")
        return await super().read()


def _play(experiment: Experiment, transport: type[HostTransport], rounds: int) -> list[ServerState]:
    async def open_transport() -> HostTransport:
        return transport()

    async def play() -> list[ServerState]:
        nodes = [Node(f"node-{i}", open_transport) for i in range(experiment.nodes.count)]
        federation = Federation(experiment, nodes)
        await federation.start()
        states = [ServerState.start(federation.model.initial(experiment.seed))]
        for _ in range(rounds):
            state, *_ = await federation.round(states[-1])
            states.append(state)
        await federation.close()
        return states

    return asyncio.run(play())


@pytest.mark.parametrize("seed", range(5))
def test_a_lost_node_changes_nothing(
    experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch, seed: int
):
    fails_at = frozenset(np.random.default_rng(seed).integers(10, 70, 4).tolist())
    monkeypatch.setattr(_Unreliable, "fails_at", fails_at)
    monkeypatch.setattr(_Unreliable, "reads", 0)
    settings = experiment()
    broken = _play(settings, _Unreliable, 4)
    assert _Unreliable.reads > max(fails_at)
    whole = _play(settings, HostTransport, 4)
    assert broken[-1].theta.tobytes() == whole[-1].theta.tobytes()


def test_a_node_that_is_lost_again_and_again_ends_the_run(
    experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_Unreliable, "fails_at", frozenset(range(30, 10_000)))
    monkeypatch.setattr(_Unreliable, "reads", 0)
    with pytest.raises(NodeLost, match="the link broke"):
        _play(experiment(), _Unreliable, 4)


def test_rounds_and_evaluations_do_without_a_node_that_is_unplugged(experiment: MakeExperiment):
    settings = experiment("nodes.per_round=2", "nodes.count=4", rounds=12)

    async def play() -> None:
        with private_directory() as directory:
            federation = Federation(settings, make_nodes(settings.nodes, directory))
            await federation.start()
            state = ServerState.start(federation.model.initial(settings.seed))
            judged = await federation.evaluate(state)
            chosen: list[set[int]] = []
            for done in range(12):
                if done == 4:
                    await federation.unplug(1)
                    await federation.unplug(2)
                    assert await federation.evaluate(state) != judged
                    first = ServerState.start(federation.model.initial(settings.seed))
                    assert await federation.evaluate(first) == judged  # whoever judges
                    assert [node.transport is None for node in federation.nodes] == [
                        False, True, True, False,
                    ]  # fmt: skip
                    await federation.unplug(3)
                if done == 8:
                    for index in (3, 1, 2):
                        await federation.plug_in(index)
                state, rows, _ = await federation.round(state)
                chosen.append({row.node for row in rows})
            await federation.close()
        whole = [set(federation._select(done)[0]) for done in range(12)]
        assert chosen == whole[:4] + [{0}] * 4 + whole[8:]

    asyncio.run(play())


def test_a_round_without_any_node(experiment: MakeExperiment):
    federation = Federation(experiment(), [])
    federation.unplugged = {0, 1, 2}
    with pytest.raises(TinyMetaFedError, match="every node is unplugged; plug one in"):
        asyncio.run(federation.round(ServerState.start(federation.model.initial(1))))


def test_versions_mark_exactly_the_entries_that_moved(experiment: MakeExperiment):
    states = _play(experiment("strategy.percent=20"), HostTransport, 4)
    for before, after in pairwise(states):
        moved = before.theta.view(np.uint32) != after.theta.view(np.uint32)
        assert (moved == (after.broadcast.changed == after.broadcast.version)).all()
        assert 0 < moved.sum() < len(moved)


class _Recording(HostTransport):
    sent = b""

    async def read(self) -> bytes:
        data = await super().read()
        _Recording.sent += data
        return data


def test_neither_local_parameters_nor_samples_leave_a_node(
    experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    """No four bytes of a sample, and none of the shared initialisation of the local part, are in
    any body that a node sends. (What the local part becomes on a node nobody knows outside it.)"""
    monkeypatch.setattr(_Recording, "sent", b"")
    layers = (  # the last starts at zero, which would be no secret
        "{units=6, activation='tanh'}", "{units=5, activation='relu', local=true}",
        "{units=1, local=true}",
    )  # fmt: skip
    settings = experiment(f"model.layers=[{', '.join(layers)}]", "nodes.count=1", "rounds=4")
    _play(settings, _Recording, 4)
    receiver = Connection()._receiver
    bodies = receiver.receive(_Recording.sent)
    assert len(bodies) > 20
    model = settings.built_model
    secrets = [
        value.tobytes() for value in model.initial(settings.seed)[~model.global_mask] if value
    ]
    federation = Federation(settings, [])
    for done in range(4):
        for device in federation._select(done)[1]:
            for samples in settings.task.device(settings.seed, device, 4, 6):
                secrets += [v.tobytes() for v in (*samples.inputs.flat, *samples.targets.flat)]
    assert len(secrets) > 100
    assert not any(secret in body for secret in secrets for body in bodies)


def test_a_diverging_run_says_so(tmp_path: Path, experiment: MakeExperiment):
    settings = experiment(
        "strategy.global_rate=10", "strategy.local_rate=10", "strategy.query=500", rounds=2
    )
    with pytest.raises(NodeRefused, match=r"train.*diverged"):
        execute(settings, tmp_path)
