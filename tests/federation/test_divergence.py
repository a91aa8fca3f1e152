"""Training or judging that is not finite any more: nobody learns from it, everybody is told."""

import asyncio
import dataclasses
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from comparing import DIVERGING
from comparing import execute as compare
from comparing import read as read_comparison
from conftest import MakeExperiment
from printing import printed
from running import STRATEGIES, came_to, execute, in_pieces
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import Experiment
from tinymetafed.federation.client import Client
from tinymetafed.federation.engines import HostEngine
from tinymetafed.federation.federation import Federation, RoundResult
from tinymetafed.federation.state import FederationState
from tinymetafed.nodes.update import Update
from tinymetafed.report import comparison, comparison_tables, figure, happened, page, summary, units
from tinymetafed.report import groups as compared_runs
from tinymetafed.report.results import Result
from tinymetafed.results.store import NodeRound, Store
from tinymetafed.strategies import Reptile, Round, ServerState

SOME = ("strategy={name='reptile', query=30, batch=3, epochs=4, rate=0.3}", "rounds=6")
"""Training diverges on some of the devices."""
SOME_WITH_RESIDUALS = (
    "strategy.query=30", "strategy.global_rate=10", "strategy.local_rate=1",
    "strategy.error_feedback=true", "strategy.percent=20", "devices.fraction=[0.02, 1.0]",
    "rounds=6",
)  # fmt: skip
ALL = ("strategy.global_rate=10", "strategy.local_rate=10", "strategy.query=500")
"""It diverges on all of them."""


def _played(settings: Experiment) -> list[tuple[FederationState, RoundResult]]:
    """The rounds of an experiment: the state before each, and what each came to."""

    async def session() -> list[tuple[FederationState, RoundResult]]:
        federation = Federation(settings, HostEngine(Client(settings), 1))
        state, found = await federation.start(), list[tuple[FederationState, RoundResult]]()
        for _ in range(settings.rounds):
            found.append((state, await federation.round(state)))
            state = found[-1][1].state
        await federation.close()
        return found

    return asyncio.run(session())


def _said(rows: Sequence[NodeRound]) -> list[str]:
    return [
        f"round {row.round}: training of device {row.device} on node-{row.node} diverged; it is "
        "left out"
        for row in rows
        if row.diverged
    ]


def test_the_others_are_aggregated(
    experiment: MakeExperiment,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    """As if those that diverged had not taken part; and each of them is named."""
    aggregated: dict[int, list[int]] = {}
    aggregate = Reptile.aggregate

    def recorded(
        self: Reptile, state: ServerState, updates: Sequence[Update], server_round: Round
    ) -> ServerState:
        assert all(np.isfinite(one.values).all() for one in updates)
        aggregated[server_round.number] = [one.device for one in updates]
        return aggregate(self, state, updates, server_round)

    monkeypatch.setattr(Reptile, "aggregate", recorded)
    rounds = _played(experiment(*SOME))
    rows = [row for _, result in rounds for row in result.rows]
    assert 3 < sum(row.diverged for row in rows) < len(rows) - 3
    for number, (_, result) in enumerate(rounds):
        assert aggregated[number] == [row.device for row in result.rows if not row.diverged]
        assert np.isfinite(result.state.theta).all()
    assert [record.getMessage() for record in caplog.records] == _said(rows)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_what_a_node_kept_before_it_diverged_it_keeps(experiment: MakeExperiment):
    rounds = _played(experiment(*SOME_WITH_RESIDUALS))
    diverged = 0
    for before, result in rounds:
        for row in result.rows:
            then, now = (state.kept.get(row.node) for state in (before, result.state))
            assert (now is then) == row.diverged
            diverged += row.diverged and then is not None
    assert diverged > 3


@pytest.mark.parametrize("feedback", ["false", "true"])
def test_a_round_in_which_all_diverge_changes_nothing(
    experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch, feedback: str
):
    settings = experiment(*ALL, f"strategy.error_feedback={feedback}", rounds=2)

    def aggregate(*arguments: object) -> NoReturn:
        raise AssertionError("there is nothing to aggregate")

    monkeypatch.setattr(type(settings.strategy), "aggregate", aggregate)
    (start, _), (_, end) = _played(settings)
    assert end.state.server is start.server
    assert end.state.kept == {}
    assert (end.state.done, end.state.broadcast.version) == (2, 3)
    assert end.state.broadcast.changed.tolist() == start.broadcast.changed.tolist()
    assert all(row.diverged for row in end.rows)
    # They were told everything in the first round, and that nothing has changed in the next one.
    sent = [json.loads(row.messages)["weights"][0] for row in end.rows]
    assert max(sent) < 20


@pytest.mark.parametrize("changes", [SOME, SOME_WITH_RESIDUALS, ALL])
def test_a_run_that_goes_on_comes_to_the_same(
    experiment: MakeExperiment, tmp_path: Path, changes: tuple[str, ...]
):
    settings = experiment(*changes, "participation={leave=0.3, join=0.6}", "evaluation.steps=30")
    store, run = execute(settings, tmp_path / "whole")
    assert any(row.diverged for row in store.node_rounds(run.id))
    assert np.isfinite(run.weights).all()
    assert all(np.isfinite(one).all() for one in store.kept(run.id).values())
    pieces = in_pieces(settings, tmp_path / "pieces")
    assert came_to(*pieces) == came_to(store, run)


@pytest.mark.parametrize("changes", [SOME, SOME_WITH_RESIDUALS])
def test_an_emulated_node_diverges_where_the_host_s_does(
    experiment: MakeExperiment, tmp_path: Path, changes: tuple[str, ...]
):
    few = ("evaluation.steps=30", "rounds=3")
    store, run = execute(experiment(*changes, *few, "nodes.backend=qemu"), tmp_path / "qemu")
    on_host = came_to(*execute(experiment(*changes, *few), tmp_path / "host"))
    rows = store.node_rounds(run.id)
    assert 0 < sum(row.diverged for row in rows) < len(rows)
    assert all(row.counted for row in rows)
    same = [dataclasses.replace(row, counted=False) for row in rows]
    assert {**came_to(store, run), "rows": same} == on_host


def test_a_node_whose_training_diverged_is_not_late_and_nobody_waits_for_it(
    experiment: MakeExperiment, tmp_path: Path
):
    """All but the first update are late; it may be that one that diverged came before it."""
    changes = (*SOME, "nodes.backend=qemu", "participation.deadline=1e-9", "rounds=3")
    store, run = execute(experiment(*changes), tmp_path)
    rows = store.node_rounds(run.id)
    assert any(row.diverged for row in rows)
    for number in (1, 2, 3):
        here = [row for row in rows if row.round == number]
        assert sum(not row.late and not row.diverged for row in here) == 1
    assert not any(row.late and row.diverged for row in rows)
    updates = sum(not row.diverged for row in rows)
    text = " ".join(printed(*summary.summary(store, run, None)).split())
    assert f"{updates - 3} of {updates} updates were late" in text


def test_a_round_of_the_emulated_sample_warns_once(
    experiment: MakeExperiment, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    store, run = execute(experiment(*SOME, "nodes.emulate=1", "rounds=1"), tmp_path)
    said = [one.getMessage() for one in caplog.records if "diverged" in one.getMessage()]
    assert said == _said(store.node_rounds(run.id)) != []


def test_a_run_may_stop_at_the_first_that_diverges(experiment: MakeExperiment, tmp_path: Path):
    """With the rounds before in the store; another start comes to the same end."""
    changes = (*SOME, "participation.diverged=stop")
    first = next(
        row for _, result in _played(experiment(*SOME, seed=37)) for row in result.rows
        if row.diverged
    )  # fmt: skip
    assert first.round > 1
    says = f"round {first.round}: training of device {first.device} on node-{first.node} diverged"
    settings = experiment(*changes, seed=37)
    with pytest.raises(TinyMetaFedError, match=f"^{says}$"):
        execute(settings, tmp_path)
    store = Store(tmp_path)
    run = store.run("last")
    assert run.done == first.round - 1
    assert {row.round for row in store.node_rounds(run.id)} == set(range(1, first.round))


def test_a_setting_that_is_none(experiment: MakeExperiment):
    with pytest.raises(
        TinyMetaFedError,
        match=r"participation.diverged: 'ignore' is not allowed; use 'leave_out' or 'stop'",
    ):
        experiment("participation.diverged=ignore")


# ---- strategies that diverge ---------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_weights_of_a_strategy_that_are_not_finite_end_the_run(
    experiment: MakeExperiment, tmp_path: Path, value: float
):
    class Broken(Reptile):
        """Its weights are none after the first round."""

        def aggregate(
            self, state: ServerState, updates: Sequence[Update], server_round: Round
        ) -> ServerState:
            theta = state.theta.astype(np.float64)
            theta[3] = value if server_round.number else 1
            return state.moved(theta)

    strategy = Broken(name="reptile", query=6)
    settings = experiment().model_copy(update={"strategy": strategy})
    with pytest.raises(
        TinyMetaFedError,
        match=r"round 2: reptile: aggregate\(\): theta is not finite: entry 3 is (inf|nan)",
    ):
        execute(settings, tmp_path)
    run = Store(tmp_path).run("last")
    assert run.done == 1
    assert np.isfinite(run.weights).all()


def test_weights_of_another_kind_end_the_run(experiment: MakeExperiment, tmp_path: Path):
    class Broken(Reptile):
        """Its weights are of more bits than a node's."""

        def aggregate(
            self, state: ServerState, updates: Sequence[Update], server_round: Round
        ) -> ServerState:
            return ServerState(np.zeros(53))  # pyright: ignore[reportArgumentType]

    strategy = Broken(name="reptile", query=6)
    settings = experiment().model_copy(update={"strategy": strategy})
    says = re.escape("round 1: reptile: aggregate(): theta is float64 [53], not float32 [53]")
    with pytest.raises(TinyMetaFedError, match=says):
        execute(settings, tmp_path)


# ---- what is shown -------------------------------------------------------------------------------


def _table(store: Store, name: str) -> list[dict[str, str]]:
    shown = page.page(compared_runs.compare([Result.read(store, run) for run in store.runs()]))
    (found,) = (table for table in (*shown.tables, *shown.happened) if table.name == name)
    return [dict(zip(found.head, row, strict=True)) for row in found.rows]


def test_how_often_training_diverged_is_shown(experiment: MakeExperiment, tmp_path: Path):
    """In the summary and on the page, beside who was away; by node, and in the last round."""
    settings = experiment(*SOME, "nodes.backend=qemu", "participation={leave=0.2, join=0.6}")
    store, run = execute(settings, tmp_path)
    rows = store.node_rounds(run.id)
    diverged = sum(row.diverged for row in rows)
    assert 1 < diverged < len(rows)
    text = " ".join(printed(*summary.summary(store, run, None)).split())
    assert (
        f"Training diverged, and is left out, in {diverged} of {len(rows)} rounds of a node "
        f"({diverged / len(rows):.0%})"
    ) in text
    assert "Nodes were away in" in text
    other, _ = execute(experiment(rounds=2), tmp_path)
    by_node = [one for one in _table(other, "nodes") if one["run"] == str(run.id)]
    assert [one["diverged"] for one in by_node] == [
        str(sum(row.diverged for row in rows if row.node == node)) for node in range(3)
    ]
    assert by_node[0]["away"] != ""
    by_device = {one["device"]: one["diverged"] for one in _table(other, "devices")}
    for device in {row.device for row in rows if row.diverged}:
        mine = sum(row.diverged for row in rows if row.device == device)
        assert by_device[str(device)] == str(mine)
    this, without = _table(other, "absences")
    share = 100 * diverged / len(rows)
    assert float(this["node rounds diverged %"]) == pytest.approx(share, rel=1e-5)
    assert without["node rounds diverged %"] == ""
    result = Result.read(store, run)
    for number in range(1, run.done + 1):
        as_last = replace(
            result, last_rows=[row for row in rows if row.round == number],
            last=[replace(entry, round=number) for entry in result.last],
        )  # fmt: skip
        labels = {row[0] for row in happened.last_round(as_last).rows}
        mine = {f"node {r.node}, diverged" for r in rows if r.round == number and r.diverged}
        assert {label for label in labels if "diverged" in label} == mine


def test_where_nothing_diverged_nothing_is_said_of_it(experiment: MakeExperiment, tmp_path: Path):
    store, run = execute(experiment(), tmp_path)
    _, *parts, _ = summary.summary(store, run, None)
    assert "diverged" not in printed(*parts)
    shown = page.page(compared_runs.compare([Result.read(store, run)]))
    assert "absences" not in {table.name for table in shown.happened}
    assert {one["diverged"] for one in _table(store, "nodes")} == {""}


JUDGED = ("strategy.global_rate=0.5", "evaluation.steps=30")


def test_adaptation_that_diverges_has_no_loss_and_a_share_of_its_own(
    experiment: MakeExperiment, tmp_path: Path
):
    store, run = execute(experiment(*JUDGED), tmp_path)
    rows = [row for row in store.evaluations(run.id) if row.round == 4 and row.part == "validation"]
    gone = [row for row in rows if row.loss_after is None]
    assert 0 < len(gone) < len(rows) == 5
    for row in gone:
        assert {row.loss_before, row.accuracy_before, row.accuracy_after} == {None}
    *_, last = summary.losses(store.learning(run.id))
    assert (last.devices, last.diverged) == (5, len(gone))
    known = [row.loss_after for row in rows if row.loss_after is not None]
    assert last.after == pytest.approx(np.mean(known))
    table = printed(*list(summary.summary(store, run, None))[1:2])
    assert "diverged" in table
    line = next(line for line in table.splitlines() if "after 4 rounds" in line)
    assert line.split("│")[-2].strip() == f"{len(gone) / 5:.0%}"
    assert figure.draw(store, run).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("backend", ["host", "qemu"])
def test_a_run_whose_adaptation_always_diverges_is_shown(
    experiment: MakeExperiment, tmp_path: Path, backend: str
):
    """Without a number that would look like a loss, in any form, beside a run that has some."""
    always = ("strategy.global_rate=10", "strategy.local_rate=10", "evaluation.steps=100")
    changes = (*always, "evaluation.support=20", f"nodes.backend={backend}")
    store, run = execute(experiment(*changes, rounds=2), tmp_path)
    assert all(one.loss_after is None for one in store.evaluations(run.id))
    for found in (
        printed(*summary.summary(store, run, None)),
        printed(summary.run_list(store, store.runs())[0]),
    ):
        assert "diverged" in found
        assert "nan" not in found
    assert figure.draw(store, run).read_bytes().startswith(b"\x89PNG")
    other, good = execute(experiment(f"nodes.backend={backend}", rounds=2), tmp_path)
    shown = page.page(compared_runs.compare([Result.read(other, one) for one in other.runs()]))
    page.render(shown)
    (part,) = shown.tasks
    score = part.verdicts[0].column("score")
    assert score is not None
    best = summary.losses(other.judged(good.id, "unseen"))[-1].after
    assert [one.text for one in score.entries] == ["–", units.three(best)]
    (said, *_), *_ = part.verdicts[0].sentences
    assert str(said).startswith(f"{part.curves.labels[1]} has the lowest")


def test_a_comparison_has_what_did_not_diverge(tmp_path: Path):
    worse = (DIVERGING[0], f"{DIVERGING[1]}\nchanges.evaluation.steps = 200")
    settings, cells = read_comparison(tmp_path, worse)
    store, compared, _ = compare(tmp_path, cells)
    assert compared.failed == {}
    found = comparison.outcome(settings, compared, store)
    quantities = {
        strategy: {one.quantity for one in found.values if one.strategy == strategy}
        for strategy in ("few", "Reptile")
    }
    assert "loss after adaptation" in quantities["Reptile"]
    assert "loss after adaptation" not in quantities["few"]
    shares = {"share of node rounds diverged", "share of devices whose adaptation diverged"}
    assert shares <= quantities["few"]
    assert not shares & quantities["Reptile"]
    assert {one.value for one in found.values if one.quantity in shares} == {1}
    learnt = " ".join(printed(*comparison_tables.tables(settings, compared, found)).split())
    assert "% diverged ┃ % adaptation diverged" in learnt

    def no_number(text: str) -> NoReturn:
        raise AssertionError(f"{text} is no JSON")

    comparison.write_json(found, tmp_path / "out.json")
    json.loads((tmp_path / "out.json").read_text(), parse_constant=no_number)


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_strategy_learns_from_what_is_not_finite(experiment: MakeExperiment, name: str):
    """With rates that no training survives."""
    strategy = experiment(*STRATEGIES[name]).strategy
    client, key = getattr(strategy, "client", strategy), "strategy"
    if client is not strategy:
        key = "strategy.client"
    samples = ("query", "support") if client.support else ("query",)
    rates = [rate for rate in type(client).model_fields if rate.endswith("rate")]
    changes = [f"{key}.{rate}=10" for rate in rates if rate != "outer_rate"]
    changes += [f"{key}.{count}=200" for count in samples]
    if strategy.takes_fewer:
        changes.append("devices.fraction=[0.01, 1.0]")
    rounds = _played(experiment(*STRATEGIES[name], *changes, "seed=3"))
    assert any(row.diverged for _, result in rounds for row in result.rows)
    for _, result in rounds:
        server = result.state.server.kept.values()
        for array in (result.state.theta, *result.state.kept.values(), *server):
            assert np.isfinite(array).all()
