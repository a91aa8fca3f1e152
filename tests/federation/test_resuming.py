"""A run that was killed, or stopped, and goes on is the run that never stopped, bit for bit."""

import dataclasses
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import killing
from conftest import MakeExperiment
from momentum import Momentum
from running import STRATEGIES, came_to, execute, in_pieces
from tinymetafed.energy.ledger import ASLEEP
from tinymetafed.experiments import runner
from tinymetafed.experiments.experiment import Experiment
from tinymetafed.nodes.update import Update
from tinymetafed.results.store import Run, Store
from tinymetafed.strategies import Round, ServerState

ROUNDS = 9
COMING_AND_GOING = ("participation={leave=0.3, join=0.5}", "nodes.count=4")
FEW = ("nodes.count=5", "nodes.per_round=2")
NODES = {"all": (), "coming-and-going": COMING_AND_GOING, "few": (*COMING_AND_GOING, *FEW)}


def _changes(strategy: str, nodes: str) -> tuple[str, ...]:
    """To the small experiment; one strategy has one node in a round."""
    changes = (*NODES[nodes], *STRATEGIES[strategy])
    return (*changes, "devices.seen=7")  # so that each has several rounds


def _stops(seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return sorted(rng.choice(range(1, ROUNDS), int(rng.integers(1, 5)), replace=False).tolist())


def _with_momentum(experiment: Experiment) -> Experiment:
    strategy = Momentum(query=6, batch=3, epochs=2)
    return experiment.model_copy(update={"strategy": strategy})


def _killed_and_resumed(experiment: Experiment, folder: Path, seed: int) -> tuple[Store, Run]:
    """Killed twice, within rounds as well as between them."""
    rng = np.random.default_rng(seed)
    done = [0]
    for most in (40, 25):
        run = killing.until_killed(experiment, folder, int(rng.integers(5, most)))
        done.append(run.done if run else 0)
    assert done == sorted(done)
    assert done[-1] < experiment.rounds
    store = Store(folder)
    run, _ = runner.execute(experiment, store, killing.newest(store), lambda done, doing: None)
    assert len(store.runs()) == 1
    return store, run


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_that_stops_at_random_rounds_comes_to_the_same(
    experiment: MakeExperiment, tmp_path: Path, strategy: str, nodes: str
):
    settings = experiment(*_changes(strategy, nodes), rounds=ROUNDS)
    whole = came_to(*execute(settings, tmp_path / "whole"))
    for seed in range(2):
        pieces = came_to(*in_pieces(settings, tmp_path / f"pieces-{seed}", _stops(seed)))
        assert pieces == whole


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_that_is_killed_at_random_statements_comes_to_the_same(
    experiment: MakeExperiment, tmp_path: Path, strategy: str
):
    settings = experiment(*_changes(strategy, "coming-and-going"), rounds=ROUNDS)
    whole = came_to(*execute(settings, tmp_path / "whole"))
    seed = [*STRATEGIES].index(strategy)
    found = _killed_and_resumed(settings, tmp_path / "killed", seed)
    assert came_to(*found) == whole


@pytest.mark.parametrize("nodes", NODES)
def test_what_a_strategy_of_one_s_own_keeps_is_there_again(
    experiment: MakeExperiment, tmp_path: Path, nodes: str
):
    settings = _with_momentum(experiment(*NODES[nodes], "devices.seen=7", rounds=ROUNDS))
    store, run = execute(settings, tmp_path / "whole")
    whole = came_to(store, run)
    for seed in range(3):
        pieces = came_to(*in_pieces(settings, tmp_path / f"pieces-{seed}", _stops(seed)))
        assert pieces == whole
    kept = store.server_state(run.id)
    assert kept["momentum"].dtype == np.float64
    assert np.abs(kept["momentum"]).max() > 0
    devices = {row.device for row in store.node_rounds(run.id)}
    assert set(np.flatnonzero(kept["seen"]).tolist()) == devices
    assert (kept["rounds"].dtype, kept["rounds"].shape, kept["rounds"]) == ("uint8", (), ROUNDS)


@pytest.mark.parametrize("seed", range(3))
def test_what_a_strategy_of_one_s_own_keeps_survives_a_kill(
    experiment: MakeExperiment, tmp_path: Path, seed: int
):
    settings = _with_momentum(experiment(*COMING_AND_GOING, rounds=ROUNDS))
    whole = came_to(*execute(settings, tmp_path / "whole"))
    found = _killed_and_resumed(settings, tmp_path / "killed", seed)
    assert came_to(*found) == whole


def test_what_a_strategy_no_longer_keeps_is_not_there_again(
    experiment: MakeExperiment, tmp_path: Path
):
    class Warm(Momentum):
        """Keeps its momentum for the first rounds alone."""

        def aggregate(
            self, state: ServerState, updates: Sequence[Update], server_round: Round
        ) -> ServerState:
            if "momentum" not in state.kept:
                return state
            after = super().aggregate(state, updates, server_round)
            if server_round.number < 3:
                return after
            return ServerState(after.theta, {"rounds": after.kept["rounds"]})

    strategy = Warm(query=6, batch=3, epochs=2)
    settings = experiment(rounds=6).model_copy(update={"strategy": strategy})
    store, run = execute(settings, tmp_path / "whole")
    assert set(store.server_state(run.id)) == {"rounds"}
    assert store.server_state(run.id)["rounds"] == 4
    pieces = came_to(*in_pieces(settings, tmp_path / "pieces", [2, 4, 5]))
    assert pieces == came_to(store, run)


def test_a_node_that_was_killed_costs_its_round_and_nothing_behind_it(
    experiment: MakeExperiment, tmp_path: Path
):
    """It is sent everything again, and what it executed is not known: the store says which node in
    which round. All else is as if it had lived, in what the others and it itself execute."""
    changes = (*STRATEGIES["feedback-int8"], "nodes.count=2", "rounds=5")
    emulated = experiment(*changes, "nodes.backend=qemu")
    undisturbed, run = execute(emulated, tmp_path / "whole")
    store = Store(tmp_path / "killed")

    def kill(done: int, doing: str) -> None:
        if (done, doing) == (2, "training"):
            os.kill(killing.emulators(os.getpid())[0], signal.SIGKILL)

    other, _ = runner.execute(emulated, store, None, kill)
    whole, found = came_to(undisturbed, run), came_to(store, other)
    assert {**found, "rows": None} == {**whole, "rows": None}
    pairs = zip(undisturbed.node_rounds(1), store.node_rounds(1), strict=True)
    disturbed = [(one, another) for one, another in pairs if one != another]
    [(before, after)] = disturbed
    assert (before.round, before.counted, after.counted) == (3, True, False)
    assert after.bytes_down > before.bytes_down
    lost = (before.round, before.node)
    # What a node executes while it waits depends on when it is woken.
    busy = [
        [row for row in some.phases(1) if row.phase != ASLEEP and (row.round, row.node) != lost]
        for some in (undisturbed, store)
    ]
    assert busy[0] == busy[1]
    energy = [
        [
            one
            for one in some.ledger(1)  # how long the others sleep in that round is not known then
            if (one.round, one.node) != lost and (one.round, one.account) != (3, "sleep")
        ]
        for some in (undisturbed, store)
    ]
    assert energy[0] == energy[1]


@pytest.mark.parametrize("link", ["dma", "uart"])
def test_emulated_nodes_that_come_and_go_go_on_as_if_nothing_had_been(
    experiment: MakeExperiment, tmp_path: Path, link: str
):
    """On QEMU: also in what every node executes, its cycles and joules, and where the host comes
    to. Waiting takes another interrupt or not, by when the emulator hands it over, and so do
    receiving and sending over DMA: one at the end of a transfer. Over a UART the interrupts for
    bytes that come hang on when they come, and those for bytes that go on how many the emulator
    takes at a time."""
    changes = ("participation={leave=0.4, join=0.6}", *STRATEGIES["feedback-int8"], "rounds=5")
    emulated = experiment(*changes, f"nodes={{backend='qemu', count=3, link={link!r}}}")
    store, run = execute(emulated, tmp_path / "whole")
    rng = np.random.default_rng(len(link))
    stops = sorted(rng.choice(range(1, 5), 2, replace=False).tolist())
    pieces, other = in_pieces(emulated, tmp_path / "pieces", stops)
    whole = came_to(store, run)
    assert came_to(pieces, other) == whole
    varies = {"idle", "sleep", "receive", "send"}
    executed = [
        [row for row in some.phases(1) if row.phase not in varies] for some in (store, pieces)
    ]
    assert executed[0] == executed[1]
    if link == "dma":  # but for the instructions of a few interrupts
        moved = [
            [row.instructions for row in some.phases(1) if row.phase in ("receive", "send")]
            for some in (store, pieces)
        ]
        assert moved[0] == pytest.approx(moved[1], abs=400)
    energy = [
        [one for one in some.ledger(1) if one.account not in varies] for some in (store, pieces)
    ]
    assert energy[0] == energy[1]
    on_host = came_to(*execute(experiment(*changes), tmp_path / "host"))
    rows = [dataclasses.replace(row, counted=False) for row in store.node_rounds(run.id)]
    assert {**whole, "rows": rows} == on_host
