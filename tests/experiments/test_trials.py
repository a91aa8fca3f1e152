"""Trials: what they come to, which are pruned, and what becomes of those that are stopped."""

import json
import math
import sqlite3
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

import running
from comparing import read
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import trials, tuned
from tinymetafed.experiments.trials import Tuning
from tinymetafed.experiments.tuning import Measure, Search
from tinymetafed.link.messages import Error
from tinymetafed.nodes.answers import NodeRefused
from tinymetafed.results.store import Judged, Store
from tinymetafed.strategies.base import OnlineSGD, ServerState
from tuning import alone, execute, more, searches, until_killed


def test_trials_are_the_same_whatever_is_side_by_side(tmp_path: Path):
    found = searches(tmp_path)
    both = execute(found, tmp_path / "runs", 4).results
    assert [[one.number for one in of.trials] for of in both] == [[0, 1, 2, 3]] * 2
    for search, of in zip(found, both, strict=True):
        assert alone(search, tmp_path / search.strategy, 4) == of.trials
        assert of.trials[0].values == search.own
        assert len({json.dumps(one.values) for one in of.trials}) == 4
        assert of.best is not None
        assert of.best.value is not None
        assert of.best.value == min(one.value for one in of.trials if one.value is not None)
        assert of.trials[0].value is not None
        assert of.best.value <= of.trials[0].value


def test_the_value_is_what_runs_with_these_settings_come_to(tmp_path: Path):
    """Runs of the comparison itself, with the seeds and the judgements of the trial."""
    search = searches(tmp_path)[1]
    one = alone(search, tmp_path / "runs", 2)[1]
    assert one.values != search.own
    chosen = [("sine", "few", {}, ""), ("sine", "Reptile", one.values, "")]
    tuned.write(tmp_path / "found.toml", [], chosen, {})
    seeds = ("seeds = [1, 2]", "tuned = 'found.toml'\nseeds = [11, 12]")
    every = ("target = 100", "target = 100\nchanges.evaluation.every = 1")
    _, cells = read(tmp_path, seeds, every)
    losses: list[dict[int, float | None]] = []
    for cell in cells[2:]:
        store, run = running.execute(cell.experiment, tmp_path / str(cell.experiment.seed))
        found = store.judged(run.id, "validation")
        losses.append({it.round: it.loss_after for it in found})
    assert one.curve == {
        rounds: fmean(by_round[rounds] or 0.0 for by_round in losses) for rounds in search.judged
    }
    assert one.value == one.curve[search.rounds]


@pytest.mark.parametrize("kill_at", [2, 25])
def test_trials_that_were_killed_go_on_as_if_they_had_not(tmp_path: Path, kill_at: int):
    search, _ = searches(tmp_path)
    until_killed(search, tmp_path / "killed", 3, kill_at)
    assert len(Tuning([search], None, tmp_path / "killed").results[0].trials) < 3
    whole = alone(search, tmp_path / "whole", 3)
    assert alone(search, tmp_path / "killed", 3) == whole
    assert Store(tmp_path / "killed/tune").runs() == []


def test_more_trials_are_those_that_follow(tmp_path: Path):
    search, _ = searches(tmp_path)
    first = alone(search, tmp_path / "runs", 2)
    more = alone(search, tmp_path / "runs", 4)
    assert more[:2] == first
    assert more == alone(search, tmp_path / "other", 4)
    # As many of each, also where one has more.
    assert Tuning([search], 2, tmp_path / "runs").results[0].trials == first


def test_other_settings_are_another_search(tmp_path: Path):
    search, _ = searches(tmp_path)
    alone(search, tmp_path / "runs", 1)
    for change in (
        more("share = 0.5"), more("space.outer_rate = { low = 1, high = 3 }"),
        ("percent = 10", "percent = 11"), ("seeds = [11, 12]", "seeds = [11]"),
    ):  # fmt: skip
        work = Tuning(searches(tmp_path, change)[:1], None, tmp_path / "runs")
        assert (work.results[0].trials, work.others) == ((), 1)


def test_a_strategy_without_anything_to_search_has_one_trial(tmp_path: Path):
    fixed = "\n".join(
        f"space.{name} = {{ searched = false }}"
        for name in ("local_rate", "global_rate", "outer_rate")
    )
    search, _ = searches(tmp_path, ("percent = 10", f"percent = 10\n{fixed}"))
    work = execute([search], tmp_path / "runs", 3)
    assert work.unfinished == []
    assert [one.values for one in work.results[0].trials] == [{}]


@pytest.mark.parametrize("stop", ["leave_out", "stop"])
def test_what_diverges_is_never_chosen(tmp_path: Path, stop: str):
    """Nor does it end the command: neither where the run goes on, nor where it stops."""
    _, search = searches(
        tmp_path,
        more(f"changes.participation.diverged = '{stop}'"),
        ("epochs = 2", "epochs = 2\nrate = 10\nspace.rate = { choices = [10, 0.01] }"),
    )
    work = execute([search], tmp_path / "runs", 8)
    assert work.failed == {}
    [found] = work.results
    assert {(one.state == "diverged", one.values["rate"]) for one in found.trials} == {
        (True, 10.0), (False, 0.01),
    }  # fmt: skip
    assert found.trials[0].state == "diverged"
    assert found.trials[0].value is None
    assert found.best is not None
    assert found.best.values["rate"] == 0.01


def test_a_device_that_diverges_has_gained_nothing(tmp_path: Path):
    search = searches(tmp_path)[0]
    before = judged(1, 6.0, 0.2)
    assert trials._value(search, before, judged(0, 0.1, 0.7)) == 0.1
    assert trials._value(search, before, judged(1, 0.5, 0.7)) == 0.8 * 0.5 + 0.2 * 4
    assert trials._value(search, before, judged(5, None, None)) == math.inf
    classes = Classes(search.task, search.strategy, search.experiments, search.parameters)
    assert trials._value(classes, before, judged(0, 0.1, 0.7)) == 0.7
    assert trials._value(classes, before, judged(1, 0.1, 0.5)) == 0.8 * 0.5
    assert trials._value(classes, before, judged(5, None, None)) == -math.inf


def judged(diverged: int, loss: float | None, accuracy: float | None) -> Judged:
    """Five devices, of which some diverged; the loss before adaptation is 4."""
    return Judged(9, 5, diverged, 4.0, loss, 0.2, accuracy, "validation")


class Classes(Search):
    """As if its task had classes."""

    @property
    def measure(self) -> Measure:
        return "accuracy"


def test_weights_that_are_not_finite_are_a_trial_that_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    search, _ = searches(tmp_path)

    def overflow(self: OnlineSGD, state: ServerState, *arguments: object) -> ServerState:
        return state.moved(np.full(len(state.theta), 1e300))

    monkeypatch.setattr(OnlineSGD, "aggregate", overflow)
    assert [one.state for one in alone(search, tmp_path / "runs", 2)] == ["diverged"] * 2


def test_what_a_node_refuses_is_a_trial_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    search, _ = searches(tmp_path)
    judge = trials._Trials._judge

    def refuse(self: trials._Trials, trial: object, experiments: object):
        if trial.number == 1:  # type: ignore[attr-defined]
            raise NodeRefused("node-0", "load", Error(2, "out of memory", 9, 5))
        return judge(self, trial, experiments)  # type: ignore[arg-type]

    monkeypatch.setattr(trials._Trials, "_judge", refuse)
    found = alone(search, tmp_path / "runs", 3)
    assert [one.state for one in found] == ["complete", "failed", "complete"]
    assert found[1].why.startswith("node-0 refused 'load': out of memory")


def test_a_bench_that_fails_leaves_the_trial_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    search, _ = searches(tmp_path)

    def fail(self: trials._Trials, *arguments: object):
        raise TinyMetaFedError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(trials._Trials, "_execute", fail)
        with pytest.raises(TinyMetaFedError, match="the disk is full"):
            alone(search, tmp_path / "runs", 2)
    assert alone(search, tmp_path / "runs", 2) == alone(search, tmp_path / "other", 2)


def test_bad_trials_are_pruned(tmp_path: Path):
    change = ("target = 100", "target = 100\nchanges.rounds = 20")
    search = searches(tmp_path, change)[1]
    found = alone(search, tmp_path / "runs", 14)
    pruned = [one for one in found if one.state == "pruned"]
    assert pruned
    assert all(one.number >= trials.UNPRUNED and one.value is None for one in pruned)
    assert all(max(one.curve, default=99) < 20 for one in pruned)


def test_one_tunes_at_a_time(tmp_path: Path):
    found = searches(tmp_path)
    execute(found[:1], tmp_path / "runs", 1)
    with (
        trials._alone(tmp_path / "runs/tune"),
        pytest.raises(TinyMetaFedError, match="another 'tinymetafed tune' goes on; stop that fi"),
    ):
        execute(found, tmp_path / "runs", 2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no database " * 100, "optuna.sqlite: this is no store of tinymetafed"),
        (b"newer", "optuna.sqlite: The runtime optuna version"),
    ],
)
def test_a_file_that_is_none_of_studies_is_said_so(tmp_path: Path, content: bytes, says: str):
    found = searches(tmp_path)
    path = execute(found[:1], tmp_path / "runs", 1).folder / "optuna.sqlite"
    if content == b"newer":
        with sqlite3.connect(path) as db:
            db.execute("UPDATE version_info SET schema_version = 99")
            db.execute("UPDATE alembic_version SET version_num = 'v99.0.0'")
        db.close()
    else:
        path.write_bytes(content)
    with pytest.raises(TinyMetaFedError) as error:
        Tuning(found, None, tmp_path / "runs")
    assert says in str(error.value)
    assert "\n" not in str(error.value)
