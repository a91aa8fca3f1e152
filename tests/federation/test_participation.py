"""Nodes that leave, come back, or are late."""

import asyncio
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import SMALL, MakeExperiment
from printing import printed
from running import STRATEGIES, execute, in_pieces, ledger
from tinymetafed.energy.ledger import SLEEP
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import Experiment, parse
from tinymetafed.federation import participation
from tinymetafed.federation.client import Client, FitInstructions, FitResult, Fitted
from tinymetafed.federation.engines import LinkEngine
from tinymetafed.federation.federation import Federation
from tinymetafed.federation.host_clients import HostClients, HostNode
from tinymetafed.federation.participation import Attendance, Participation, Slow, late, slowness
from tinymetafed.federation.state import FederationState
from tinymetafed.nodes.backends import make_nodes, private_directory
from tinymetafed.nodes.broadcast import Broadcast
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.program import Program
from tinymetafed.nodes.qemu import QemuTransport
from tinymetafed.report import described, summary
from tinymetafed.results import accounts
from tinymetafed.results.store import NodeRound, Run, Store
from tinymetafed.strategies import Round
from tinymetafed.tasks.samples import Samples

COMING_AND_GOING = "participation={leave=0.4, join=0.5}"
PROBABILITIES = st.floats(0, 1)


@given(
    PROBABILITIES, PROBABILITIES, st.integers(0, 2**63 - 1), st.integers(1, 9),
    st.lists(st.integers(0, 30), min_size=1, max_size=6),
)  # fmt: skip
def test_who_is_there_depends_on_the_round_alone(
    leave: float, join: float, seed: int, count: int, rounds: list[int]
):
    """And not on the rounds that were asked for before, so that a run can go on at any."""
    settings = Participation(leave=leave, join=join)
    used = Attendance(settings, seed, count)
    for done in rounds:
        fresh = Attendance(settings, seed, count)
        assert used.since(done).tolist() == fresh.since(done).tolist()
        assert used.away(done) == fresh.away(done)
        assert len(used.away(done)) < count


@given(PROBABILITIES, PROBABILITIES, st.integers(1, 9))
def test_a_node_is_there_since_it_joined(leave: float, join: float, count: int):
    attendance = Attendance(Participation(leave=leave, join=join), 5, count)
    there = [set(range(count)) - attendance.away(done) for done in range(20)]
    assert there[0] == set(range(count))
    for done in range(20):
        for node, since in enumerate(attendance.since(done).tolist()):
            assert (since == -1) == (node not in there[done])
            if since >= 0:
                assert all(node in here for here in there[since : done + 1])
                assert since == 0 or node not in there[since - 1]


@pytest.mark.parametrize(("leave", "join"), [(0.05, 0.5), (0.3, 0.2), (1.0, 0.5), (0.5, 1.0)])
def test_nodes_leave_and_join_as_often_as_they_should(leave: float, join: float):
    nodes, rounds = 50, 2000
    attendance = Attendance(Participation(leave=leave, join=join), 1, nodes)
    there = np.array([attendance.since(done) >= 0 for done in range(rounds)])
    before, after = there[:-1], there[1:]
    assert (~after[before]).mean() == pytest.approx(leave, abs=0.01)
    assert after[~before].mean() == pytest.approx(join, abs=0.01)
    assert there[100:].mean() == pytest.approx(join / (leave + join), abs=0.01)


def test_nodes_come_and_go_each_for_itself():
    attendance = Attendance(Participation(leave=0.5, join=0.5), 1, 8)
    there = np.array([attendance.since(done) >= 0 for done in range(1, 3000)])
    others = np.corrcoef(there, rowvar=False) - np.eye(8)
    assert abs(others).max() < 0.1


def test_one_node_is_always_there():
    attendance = Attendance(Participation(leave=1, join=0), 1, 5)
    assert [len(attendance.away(done)) for done in range(20)] == [0] + [4] * 19


@given(st.floats(0, 1), st.integers(1, 40), st.integers(0, 1000))
def test_the_share_of_nodes_that_is_slow(share: float, count: int, seed: int):
    settings = Participation(deadline=1, slow=Slow(share=share, factor=4))
    factors = slowness(settings, seed, count).tolist()
    slow = round(share * count)
    assert (factors.count(4), factors.count(1)) == (slow, count - slow)
    assert slowness(settings, seed, count).tolist() == factors


def test_other_nodes_are_slow_with_another_seed():
    settings = Participation(deadline=1, slow=Slow(share=0.5, factor=2))
    assert len({tuple(slowness(settings, seed, 10).tolist()) for seed in range(20)}) > 15


@given(st.lists(st.none() | st.floats(1e-3, 10), min_size=1), st.floats(1e-3, 10))
def test_a_round_waits_until_its_deadline_or_for_the_first(
    seconds: list[float | None], deadline: float
):
    missed = late(seconds, deadline)
    in_time = [one for one, is_late in zip(seconds, missed, strict=True) if not is_late]
    known = [one for one in seconds if one is not None]
    assert in_time  # somebody is aggregated
    assert in_time.count(None) == seconds.count(None)
    if None in seconds or min(known) <= deadline:
        assert missed == [one is not None and one > deadline for one in seconds]
    else:
        assert set(in_time) == {min(known)}


def came_to(store: Store, run: Run) -> tuple[object, ...]:
    """All that another run with the same settings should come to."""
    kept = {node: one.tobytes() for node, one in store.kept(run.id).items()}
    return run.theta, run.changed, store.evaluations(run.id), kept


@pytest.mark.parametrize("strategy", ["tinymetafed", "feedback-int8", "fedavg", "local"])
@pytest.mark.parametrize("nodes", [COMING_AND_GOING, "nodes.count=3"])
def test_a_run_that_goes_on_moves_the_same_bytes_to_the_same_weights(
    experiment: MakeExperiment, tmp_path: Path, strategy: str, nodes: str
):
    settings = experiment(*STRATEGIES[strategy], nodes, rounds=8)
    whole, run = execute(settings, tmp_path / "whole")
    pieces, other = in_pieces(settings, tmp_path / "pieces")
    assert came_to(pieces, other) == came_to(whole, run)
    assert pieces.node_rounds(other.id) == whole.node_rounds(run.id)


def test_a_run_that_goes_on_while_only_some_take_part(experiment: MakeExperiment, tmp_path: Path):
    """So that some boot several times before they take part again."""
    changes = (COMING_AND_GOING, "nodes.count=6", "nodes.per_round=2")
    settings = experiment(*changes, rounds=12)
    whole, run = execute(settings, tmp_path / "whole")
    pieces, other = in_pieces(settings, tmp_path / "pieces")
    assert came_to(pieces, other) == came_to(whole, run)
    rows = whole.node_rounds(run.id)
    assert pieces.node_rounds(other.id) == rows
    boots = [json.loads(row.messages).get("load", (0, 0))[0] for row in rows]
    assert max(boots) >= 2 * min(filter(None, boots))


def test_a_node_that_comes_back_boots_and_is_sent_everything(
    experiment: MakeExperiment, tmp_path: Path
):
    settings = experiment(COMING_AND_GOING, "strategy.percent=5", rounds=20)
    store, run = execute(settings, tmp_path)
    rows = store.node_rounds(run.id)
    attendance = settings.attendance
    everything = json.loads(rows[0].messages)["weights"][0]
    back = 0
    for done in range(20):
        here = [row for row in rows if row.round == done + 1]
        assert {row.node for row in here} == set(range(3)) - attendance.away(done)
        for row in here:
            messages = json.loads(row.messages)
            new = attendance.since(done)[row.node] == done
            assert ("load" in messages) == ("hello" in messages) == new
            assert (messages["weights"][0] == everything) == new
            back += new and done > 0
    assert back > 3


@pytest.mark.parametrize("run", [execute, in_pieces])
def test_a_node_that_comes_back_has_lost_its_residual(
    experiment: MakeExperiment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[Experiment, Path], object],
):
    settings = experiment(COMING_AND_GOING, "strategy.error_feedback=true", rounds=12)
    fit, had = HostClients.fit, dict[tuple[int, int], bool]()

    def recorded(
        self: HostClients,
        program: Program,
        broadcast: Broadcast,
        nodes: Sequence[HostNode],
        instructions: Sequence[FitInstructions],
    ) -> list[FitResult]:
        for node, one in zip(nodes, instructions, strict=True):
            had[broadcast.version - 1, node.number] = one.kept is not None
        return fit(self, program, broadcast, nodes, instructions)

    monkeypatch.setattr(HostClients, "fit", recorded)
    run(settings, tmp_path)
    attendance = settings.attendance
    assert sorted(set(had.values())) == [False, True]
    for (done, node), has in sorted(had.items()):
        assert has == (attendance.since(done)[node] < done)


def test_nodes_that_come_and_go_come_to_the_same_on_qemu(
    experiment: MakeExperiment, tmp_path: Path
):
    """And are counted there from their boot on."""
    changes = ("participation={leave=0.4, join=0.7}", "strategy.error_feedback=true")
    on_host = execute(experiment(*changes, rounds=6), tmp_path / "host")
    on_qemu = execute(experiment(*changes, "nodes.backend=qemu", rounds=6), tmp_path / "qemu")
    assert came_to(*on_qemu) == came_to(*on_host)
    (store, run), (other, _) = on_qemu, on_host
    rows = store.node_rounds(run.id)
    assert [dataclasses.replace(row, counted=False) for row in rows] == other.node_rounds(1)
    assert all(row.counted for row in rows)
    starts = {(row.round, row.node) for row in store.phases(run.id) if row.phase == "start"}
    booted = {(row.round, row.node) for row in rows if "load" in json.loads(row.messages)}
    assert starts == booted
    assert max(number for number, _ in booted) > 1
    slept = {(e.round, e.node) for e in ledger(store, run) if e.account == SLEEP}
    assert slept == {(row.round, row.node) for row in rows}  # all that were there took part


def test_a_node_that_was_unplugged_does_not_come_back_by_itself(experiment: MakeExperiment):
    settings = experiment("participation={leave=0.3, join=0.6}", "nodes.count=6", rounds=30, seed=3)
    attendance = settings.attendance

    async def play() -> None:
        with private_directory() as directory:
            nodes = make_nodes(settings.nodes, directory)
            federation = Federation(settings, LinkEngine(Client(settings), nodes))
            state = await federation.start()
            gone = set[int]()
            for done in range(30):
                if done in (5, 15):
                    gone = {1, 2}
                    for node in gone:
                        await federation.unplug(node)
                if done in (10, 20):
                    for node in gone:
                        await federation.plug_in(node)
                    gone = set()
                there = set(range(6)) - attendance.away(done) - gone
                result = await federation.round(state)
                state = result.state
                assert {row.node for row in result.rows} == there
                running = {i for i, n in enumerate(nodes) if n.transport is not None}
                assert running == there
            await federation.close()

    asyncio.run(play())


SLOW = ("nodes.backend=qemu", "nodes.count=4", "devices.fraction=[0.5, 1.0]")
SLOW += ("strategy.error_feedback=true", "strategy.percent=20")


def seconds(store: Store, run: Run) -> list[float]:
    """Of each row, with the run's slow nodes."""
    settings = described.settings(run)
    slow = slowness(settings.participation, settings.seed, settings.nodes.count).tolist()
    rows, phases = store.node_rounds(run.id), store.phases(run.id)
    found = [one for one in accounts.durations(rows, phases, settings.energy, slow) if one]
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Run]:
    """A run on QEMU in which nobody is late."""
    folder = tmp_path_factory.mktemp("patient")
    return execute(parse(SMALL, "SMALL", (*SLOW, "participation.deadline=1e9")), folder)


def by_hand(experiment: Experiment, rows: list[NodeRound]) -> FederationState:
    """Where a server comes to that aggregates what these rows say was in time."""

    async def play() -> FederationState:
        strategy = experiment.strategy
        with private_directory() as directory:
            settings = experiment.nodes.model_copy(update={"backend": "host"})
            engine = LinkEngine(Client(experiment), make_nodes(settings, directory))
            federation = Federation(experiment, engine)
            state = await federation.start()
            for done in range(experiment.rounds):
                mine = [row for row in rows if row.round == done + 1]
                at = Round(done, experiment.rounds)
                program = strategy.program(state.server, federation.model, at)
                samples = engine.client.population([row.device for row in mine])
                results = {
                    row.node: await engine.client.fit(
                        engine.nodes[row.node], program, state.broadcast,
                        FitInstructions(row.device, state.kept.get(row.node)), of_device,
                    )
                    for row, of_device in zip(mine, samples, strict=True)
                }  # fmt: skip
                updates = [results[row.node].update for row in mine if not row.late]
                known = [update for update in updates if update is not None]
                assert len(known) == len(updates)
                server = strategy.aggregate(state.server, known, at)
                kept = {node: one.kept for node, one in results.items()}
                state = state.advance(server, {i: r for i, r in kept.items() if r is not None})
            await federation.close()
            return state

    return asyncio.run(play())


def test_a_deadline_that_nobody_misses_is_none(
    experiment: MakeExperiment, patient: tuple[Store, Run], tmp_path: Path
):
    store, run = execute(experiment(*SLOW), tmp_path)
    assert came_to(store, run) == came_to(*patient)
    assert store.node_rounds(run.id) == patient[0].node_rounds(patient[1].id)


def test_slow_nodes_miss_the_deadline_and_are_left_out(
    experiment: MakeExperiment, patient: tuple[Store, Run], tmp_path: Path
):
    deadline = 1.5 * max(seconds(*patient))
    slow = f"participation={{deadline={deadline}, slow={{share=0.5, factor=1000}}}}"
    settings = experiment(*SLOW, slow)
    store, run = execute(settings, tmp_path)
    factors = slowness(settings.participation, settings.seed, 4)
    rows = store.node_rounds(run.id)
    assert len(rows) == 16
    assert [row.late for row in rows] == [factors[row.node] > 1 for row in rows]
    state = by_hand(settings, rows)
    assert run.theta == state.theta.tobytes()
    for node, residual in store.kept(run.id).items():
        assert residual.tobytes() == state.kept[node].tobytes()
    assert run.theta != patient[1].theta
    # They have answered, though.
    assert all(json.loads(row.messages)["select"][1] > 0 for row in rows)
    spent = {(entry.round, entry.node) for entry in ledger(store, run)}
    assert spent == {(row.round, row.node) for row in rows}
    text = " ".join(printed(*summary.summary(store, run, None)).split())
    assert "8 of 16 updates were late (50%)" in text
    assert "Nodes were away" not in text


def test_where_all_are_late_the_round_closes_with_the_first(
    experiment: MakeExperiment, tmp_path: Path
):
    settings = experiment(*SLOW, "participation.deadline=1e-6")
    store, run = execute(settings, tmp_path)
    rows, took = store.node_rounds(run.id), seconds(store, run)
    for number in range(1, 5):
        here = [(s, row.late) for s, row in zip(took, rows, strict=True) if row.round == number]
        assert [is_late for _, is_late in here] == [s > min(here)[0] for s, _ in here]
        assert sum(not is_late for _, is_late in here) == 1
    assert run.theta == by_hand(settings, rows).theta.tobytes()


def test_who_is_late_is_the_same_in_a_run_that_goes_on(
    experiment: MakeExperiment, patient: tuple[Store, Run], tmp_path: Path
):
    """Half of them are, with nodes that come and go."""
    deadline = float(np.median(seconds(*patient)))
    changes = f"participation={{leave=0.3, join=0.6, deadline={deadline}}}"
    settings = experiment(*SLOW, changes, seed=9)
    whole, run = execute(settings, tmp_path / "whole")
    pieces, other = in_pieces(settings, tmp_path / "pieces")
    rows = whole.node_rounds(run.id)
    assert 0 < sum(row.late for row in rows) < len(rows) - 4
    assert pieces.node_rounds(other.id) == rows
    assert came_to(pieces, other) == came_to(whole, run)
    assert seconds(pieces, other) == seconds(whole, run)  # to the last instruction


@pytest.mark.parametrize("method", ["set_kept", "run", "get_kept"])
def test_a_lost_node_is_late_where_it_would_have_been(
    experiment: MakeExperiment,
    patient: tuple[Store, Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
):
    """Each is lost once, in another round, before or after it has learnt."""
    deadline = float(np.median(seconds(*patient)[4:]))
    settings = experiment(*SLOW, f"participation.deadline={deadline}")
    took: list[Sequence[float | None]] = []

    def recorded(seconds: Sequence[float | None], deadline: float) -> list[bool]:
        took.append(seconds)
        return late(seconds, deadline)

    monkeypatch.setattr(participation, "late", recorded)
    whole, run = execute(settings, tmp_path / "whole")
    fit, original = Client.fit, getattr(Node, method)
    to_lose, lost = set[str](), set[tuple[int, int]]()

    async def doomed(
        self: Client,
        node: Node,
        program: Program,
        broadcast: Broadcast,
        instructions: FitInstructions,
        samples: tuple[Samples, Samples],
    ) -> Fitted:
        number = int(node.name.removeprefix("node-"))
        if broadcast.version == number + 1:
            to_lose.add(node.name)
            lost.add((broadcast.version, number))
        return await fit(self, node, program, broadcast, instructions, samples)

    async def killed(self: Node, *arguments: object, **others: object) -> object:
        if self.name in to_lose:
            to_lose.remove(self.name)
            assert isinstance(self.transport, QemuTransport)
            self.transport.process.kill()
        return await original(self, *arguments, **others)

    monkeypatch.setattr(Client, "fit", doomed)
    monkeypatch.setattr(Node, method, killed)
    store, other = execute(settings, tmp_path / "lost")
    assert came_to(store, other) == came_to(whole, run)
    rows, right = store.node_rounds(other.id), whole.node_rounds(run.id)
    assert len(lost) == 4
    assert {(row.round, row.node) for row in rows if not row.counted} == lost
    assert [row.late for row in rows] == [row.late for row in right]
    assert {row.late for row in rows if not row.counted} == {False, True}
    assert took[4:] == took[:4]  # to the last instruction
    loaded, undisturbed = (
        np.array([json.loads(row.messages).get("load", (0, 0))[0] for row in some])
        for some in (rows, right)
    )
    again = [not row.counted for row in rows]
    assert loaded.tolist() == (undisturbed + undisturbed[0] * np.array(again)).tolist()


def test_a_node_that_was_not_counted_is_in_time(patient: tuple[Store, Run]):
    store, run = patient
    rows = [dataclasses.replace(row, counted=False) for row in store.node_rounds(run.id)]
    energy = described.settings(run).energy
    took = accounts.durations(rows, store.phases(run.id), energy, [1.0] * 4)
    assert took == [None] * len(rows)
    assert not any(late(took, 1e-9))


def test_a_node_s_time_is_that_of_its_computing_and_its_radio(patient: tuple[Store, Run]):
    """The ledger's accounts of these; a processor that is slow has nothing to do with the radio."""
    store, run = patient
    rows, phases = store.node_rounds(run.id), store.phases(run.id)
    energy = described.settings(run).energy
    entries = ledger(store, run)
    usual, slow = (accounts.durations(rows, phases, energy, [n] * 4) for n in (1.0, 3.0))
    for row, one, three in zip(rows, usual, slow, strict=True):
        mine = {e.account: e.seconds for e in entries if (e.round, e.node) == (row.round, row.node)}
        computing = sum(mine[phase] for phase in accounts.COMPUTING)
        radio = sum(mine[name] for name in ("radio receive", "radio transmit", "wake-up"))
        assert one is not None
        assert three is not None
        assert three - one == pytest.approx(2 * computing, rel=1e-9)
        assert one == pytest.approx(computing + radio, rel=1e-9)


def test_the_summary_says_how_often_nodes_were_away(experiment: MakeExperiment, tmp_path: Path):
    settings = experiment(COMING_AND_GOING, rounds=10)
    store, run = execute(settings, tmp_path)
    away = 30 - len(store.node_rounds(run.id))
    assert away > 3
    text = " ".join(printed(*summary.summary(store, run, None)).split())
    assert f"Nodes were away in {away} of 30 rounds of a node ({away / 30:.0%})" in text
    assert "late" not in text


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("participation.leave=1.5", "participation.leave: 1.5 is not allowed; use a number at"),
        ("participation.join=-0.1", "participation.join: -0.1 is not allowed; use a number at"),
        ("participation.deadline=0", "participation.deadline: 0 is not allowed; use a number more"),
        ("participation.slow={share=2, factor=2}", "participation.slow.share: 2 is not allowed"),
        ("participation.slow={share=0.5, factor=0.5}", "participation.slow.factor: 0.5 is not"),
        ("participation.slow={share=0.5}", "participation.slow.factor: missing"),
        ("participation.stay=1", "participation.stay: unknown key; known are: leave, join, dead"),
        ("participation.deadline=1", "participation.deadline: host nodes are not counted.*qemu"),
        ("participation.slow={share=0.5, factor=2}", "participation.slow: without a deadline"),
    ],
)
def test_settings_that_cannot_be(experiment: MakeExperiment, change: str, error: str):
    with pytest.raises(TinyMetaFedError, match=error):
        experiment(change)
