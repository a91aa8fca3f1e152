"""Rounds of host nodes that emulated nodes play too."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import MakeExperiment
from printing import printed
from running import created, execute, in_pieces, ledger
from tinymetafed.energy.ledger import balance
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.emulated_rounds import EmulatedSample
from tinymetafed.experiments.experiment import Experiment, read
from tinymetafed.federation.engines import LinkEngine
from tinymetafed.federation.federation import Federation, RoundResult
from tinymetafed.federation.state import FederationState
from tinymetafed.nodes.settings import NodeSettings
from tinymetafed.places import PROJECT
from tinymetafed.report import summary
from tinymetafed.results.spending import Executed
from tinymetafed.results.store import NodeRound, PhaseCount, Run, Store
from tinymetafed.strategies import ServerState

DEMO = read(PROJECT / "experiments/demo.toml")
BOOT = ("hello", "load")
"""Requests by which a node is made ready for rounds."""
COMPUTING = ("reconstruct", "learn", "select")  # the link's bytes come in other portions each time


@given(st.integers(1, 10_000), st.data())
def test_a_sample_is_spread_over_the_rounds(rounds: int, data: st.DataObject):
    count = data.draw(st.integers(1, min(rounds, 100)))
    nodes = NodeSettings(backend="host", emulate=count)
    found = DEMO.model_copy(update={"rounds": rounds, "nodes": nodes}).counted_rounds
    assert len(found) == count
    # Each lies in its own of `count` parts, and that is where it could be told from no other.
    for part, number in enumerate(found):
        assert part * rounds < number * count
        assert (number - 1) * count < (part + 1) * rounds
    gaps = np.diff([1 - found[0], *found, 2 * rounds + 1 - found[-1]])
    assert max(abs(gaps - rounds / count)) <= 1


@pytest.mark.parametrize(
    "settings",
    [
        "nodes.count=3",
        "nodes.per_round=2",
        "strategy.error_feedback=true",
        "participation={leave=0.4, join=0.6}",
    ],
)
def test_it_executes_what_a_whole_emulation_does(
    tmp_path: Path, experiment: MakeExperiment, settings: str
):
    def run(changes: str) -> tuple[Store, Run]:
        few = ("strategy.percent=5",)  # so that a broadcast has few entries
        more = ("nodes.per_round=2",) if "feedback" in settings else ()
        return execute(experiment(settings, changes, *few, *more, rounds=4), tmp_path / changes)

    store, whole = run("nodes.backend=qemu")
    other, sample = run("nodes.emulate=2")
    assert sample.theta == whole.theta
    assert json.loads(sample.firmware)["emulated"] == json.loads(whole.firmware)["build"]
    rows, rounds = store.node_rounds(whole.id), (2, 4)
    assert other.node_rounds(sample.id) == [
        dataclasses.replace(row, counted=row.round in rounds) for row in rows
    ]
    booted = {(row.round, row.node) for row in rows if "load" in json.loads(row.messages)}
    expected = {key: n for key, n in _instructions(store, whole).items() if key[0] in rounds}
    found = _instructions(other, sample)
    assert {key for key in expected if key[2] != "start"} == set(found)
    for (number, node, phase), instructions in found.items():
        whole_round = expected[number, node, phase]
        if phase in COMPUTING:
            # An answer is encoded there, and its number is another.
            assert instructions == pytest.approx(whole_round, rel=0.01)
        elif phase == "receive" and (number, node) not in booted:
            assert instructions == pytest.approx(whole_round, rel=0.25)


@pytest.mark.parametrize("run", [execute, in_pieces])
def test_a_node_is_sent_what_the_host_s_was(
    tmp_path: Path,
    experiment: MakeExperiment,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[Experiment, Path], object],
):
    """Changes alone, or everything where it has just come back; also in a run that goes on."""
    played = Federation.round
    found: dict[bool, list[tuple[int, int, int, list[list[int]], dict[str, list[int]]]]] = {
        False: [],
        True: [],
    }

    async def recorded(self: Federation, state: FederationState):
        result = await played(self, state)
        for row in result.rows:
            sent, frames = json.loads(row.messages), json.loads(row.frames)
            assert list(map(sum, frames)) == np.sum(list(sent.values()), axis=0).tolist()
            if sent.keys() & {*BOOT}:  # a node says hello by itself
                frames = [frames[0][1:], frames[1][2:]]
            for name in (*BOOT, "framing"):
                sent.pop(name, None)
            emulated = isinstance(self.engine, LinkEngine)
            found[emulated].append((row.round, row.node, row.sequence, frames, sent))
        return result

    monkeypatch.setattr(Federation, "round", recorded)
    coming_and_going = (
        "participation={leave=0.4, join=0.6}", "strategy.percent=5", "rounds=6",
        "strategy.error_feedback=true",
    )  # fmt: skip
    run(experiment("nodes.emulate=6", *coming_and_going), tmp_path)
    assert found[True] == found[False]
    everything = found[True][0][-1]["weights"]
    again = [number for number, *_, sent in found[True] if sent["weights"] == everything]
    assert {number for number in again if number > 1}


def _instructions(store: Store, run: Run) -> dict[tuple[int, int, str], int]:
    return {(row.round, row.node, row.phase): row.instructions for row in store.phases(run.id)}


def test_other_weights_on_the_emulator_are_an_error(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    follow = EmulatedSample.follow

    async def differ(self: EmulatedSample, before: FederationState, result: RoundResult):
        theta = result.state.theta.copy()
        theta.view(np.uint32)[7] ^= 1
        state = before.advance(ServerState(theta))
        return await follow(self, before, dataclasses.replace(result, state=state))

    monkeypatch.setattr(EmulatedSample, "follow", differ)
    with pytest.raises(TinyMetaFedError, match="round 2: 1 of 53 weights of the emulated nodes"):
        execute(experiment("nodes.emulate=1", rounds=2), tmp_path)


def test_another_residual_on_the_emulator_is_an_error(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    follow = EmulatedSample.follow

    async def differ(self: EmulatedSample, before: FederationState, result: RoundResult):
        other = {node: -residual for node, residual in result.state.kept.items()}
        state = dataclasses.replace(result.state, kept=other)
        return await follow(self, before, dataclasses.replace(result, state=state))

    monkeypatch.setattr(EmulatedSample, "follow", differ)
    with pytest.raises(TinyMetaFedError, match="of 212 weights of the emulated nodes are not the"):
        execute(experiment("nodes.emulate=1", "strategy.error_feedback=true", rounds=2), tmp_path)


def _phase(number: int, node: int, name: str, size: int) -> PhaseCount:
    cycles = {"a": [size, 2 * size, 3 * size], "b": [size, size, size]}
    return PhaseCount(number, node, name, size, {"FP": size}, cycles)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=6), st.integers(0, 5))
def test_the_other_rounds_execute_the_mean(sizes: list[int], others: int):
    """Of the nodes that were counted; a phase that some were not in is none of theirs."""
    with TemporaryDirectory() as folder:
        store, run = created(Path(folder))
        vector, versions = np.zeros(2, np.float32), np.ones(2, np.int64)
        rounds = len(sizes) + others
        for number in range(1, rounds + 1):
            counted = number <= len(sizes)
            row = NodeRound(number, 0, 0, 1, 2, 3, counted, False, False, 1, "{}", "[[], []]")
            phases = [_phase(number, 0, "learn", sizes[number - 1])] if counted else []
            phases += [_phase(1, 0, "send", sizes[0])] * (number == 1)
            store.commit(run, number, vector, versions, 1.0, [row], phases=phases)
        executed = Executed(store, run, sampled=True)
        (stretch,) = executed.stretches(1)
        assert (executed.phases, executed.cores) == (("learn", "send"), ("a", "b"))
        for i, size in enumerate(sizes):
            sent = sizes[0] * (i == 0)
            assert stretch.executed[i, :, 0].tolist() == [size, sent]
        mean = [np.mean(sizes), sizes[0] / len(sizes)]
        factors = [1, 1, 2, 3, 1, 1, 1]
        for row in stretch.executed[len(sizes) :]:
            assert row == pytest.approx(np.outer(mean, factors), abs=0.5)
        assert stretch.counted.all()
        for phase, sums in executed.by_class().items():
            whole = stretch.executed[:, executed.phases.index(phase), 0].sum()
            assert sums == {"FP": pytest.approx(whole, abs=0.5 * others)}
        store.close()


def test_without_a_sample_nothing_is_executed(tmp_path: Path):
    store, run = created(tmp_path)
    assert not Executed(store, run, sampled=True).phases


def test_what_is_shown_of_a_run_is_all_of_its_rounds(tmp_path: Path, experiment: MakeExperiment):
    """Four rounds, one of them emulated: four times what its nodes executed."""
    settings = experiment("nodes.emulate=1")
    store, run = execute(settings, tmp_path)
    text = " ".join(printed(*summary.summary(store, run, None)).split())
    assert "A sample of the rounds was counted" in text
    assert "Not counted" not in text
    counted = sum(_instructions(store, run).values())
    shown = int(re.findall(r"│ all │ [\d,]+ │ [\d,]+ │ ([\d,]+)", text)[0].replace(",", ""))
    assert shown == pytest.approx(4 * counted, rel=1e-4)
    joules = balance(ledger(store, run)).joules
    assert f"{joules * 1e3:,.2f} │" in text
