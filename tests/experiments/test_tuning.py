"""What is tuned of a comparison, the trials, and what becomes of them when they are stopped."""

import json
import math
import sqlite3
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

import running
from comparing import read, write
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import comparison, search_space, trials, tuned, tuning
from tinymetafed.experiments.trials import Tuning
from tinymetafed.experiments.tuning import Measure, Search
from tinymetafed.link.messages import Error
from tinymetafed.nodes.answers import NodeRefused
from tinymetafed.places import PROJECT
from tinymetafed.results.store import Judged, Store
from tinymetafed.strategies.base import OnlineSGD, ServerState
from tuning import TUNE, alone, execute, searches, until_killed

MORE = ("seeds = [11, 12]", "seeds = [11, 12]\n{}")


def more(text: str) -> tuple[str, str]:
    """A change by which [tune] has another line."""
    return MORE[0], MORE[1].format(text)


# ---- what is tuned ------------------------------------------------------------------------------


def test_a_trial_is_the_run_on_other_seeds_judged_evenly_by_devices_for_validation(tmp_path: Path):
    rounds = ("target = 100", "target = 100\nchanges.rounds = 40\nchanges.nodes.emulate = 2")
    found = searches(tmp_path, rounds, more("share = 0.5\nchanges.devices.seen = 99"))
    assert [str(one) for one in found] == ["sine × few", "sine × Reptile"]
    _, cells = read(tmp_path, rounds)
    for search, cell in zip(found, cells[::2], strict=True):
        assert search.judged == [4, 8, 12, 16, 20]
        for seed, one in zip((11, 12), search.experiments, strict=True):
            assert (one.seed, one.rounds, one.nodes.emulate, one.devices.seen) == (seed, 20, 0, 99)
            assert one.strategy == cell.experiment.strategy
            assert one.evaluation.devices == cell.experiment.evaluation.devices


@pytest.mark.parametrize(("rounds", "judged"), [(1, [1]), (3, [1, 2, 3]), (7, [2, 4, 6, 7])])
def test_the_last_judgement_is_after_the_last_round(tmp_path: Path, rounds: int, judged: list[int]):
    change = ("target = 100", f"target = 100\nchanges.rounds = {rounds}")
    assert searches(tmp_path, change)[0].judged == judged


@pytest.mark.parametrize("name", ["comparison", "feedback", "paper"])
def test_strategies_that_have_a_setting_search_it_over_the_same_range(name: str):
    _, _, found = tuning.read(PROJECT / f"experiments/{name}.toml")
    ranges: dict[str, set[str]] = {}
    for one in found:
        assert one.parameters
        for parameter in one.parameters:
            ranges.setdefault(parameter.path, set()).add(str(parameter.range))
    assert all(len(different) == 1 for different in ranges.values())
    rates = ("rate", "local_rate", "global_rate", "meta_rate", "client.rate")
    assert {str(ranges[one]) for one in rates if one in ranges} == {"{'0.001 to 0.3'}"}
    assert "percent" not in ranges
    assert "client.outer_rate" not in ranges  # the server of FedAdam has no use for it


def test_the_nearest_range_holds(tmp_path: Path):
    found = searches(
        tmp_path,
        more("space.outer_rate = { low = 0.5, high = 4 }\nspace.epochs = { searched = false }"),
        ("target = 100", "target = 100\nspace.outer_rate = { low = 1, high = 5 }"),
        ("epochs = 2", "epochs = 2\nspace.batch = { choices = [1, 3] }"),
        ("percent = 10", "percent = 10\nspace.percent = { low = 1, high = 20, log = true }"),
    )
    ranges = [{one.path: str(one.range) for one in search.parameters} for search in found]
    few, reptile = ranges
    assert few == {
        "outer_rate": "1 to 5", "local_rate": "0.001 to 0.3", "global_rate": "0.001 to 0.3",
        "percent": "1 to 20",
    }  # fmt: skip
    assert reptile == {"outer_rate": "1 to 5", "rate": "0.001 to 0.3", "batch": "one of 1, 3"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("seeds = [1]", "tune.seeds: 1 is one of the comparison's seeds; tune with others"),
        ("seeds = [7, 7]", "tune.seeds: 7 is there twice"),
        ("seeds = []", "tune.seeds: [] is not allowed; use a list of values at least 1"),
        ("share = 0", "tune.share: 0 is not allowed; use a number more than 0"),
        ("trials = 3", "tune.trials: unknown key; known are: seeds, share, changes, space"),
        ("changes.rounds = 0", "sine × few: rounds: 0 is not allowed; use a whole number at"),
        ("space.ratte = { low = 1, high = 2 }", "tune.space.ratte: is no setting of its strat"),
        ("space.rate = { low = 1 }", "tune.space.rate.low: give low and high, or choices, or"),
        ("space.rate = { low = 2, high = 1 }", "tune.space.rate.high: 1 is not above low"),
        ("space.rate = { low = 0, high = 1, log = true }", "tune.space.rate.low: 0 has no log"),
        ("space.rate = { low = 1, high = 2, choices = [1] }", "tune.space.rate.choices: give eith"),
        ("space.rate = { choices = [[1]] }", "tune.space.rate.choices: use numbers, texts, true"),
        ("space.rate = { choices = [1, 1] }", "tune.space.rate.choices: one is there twice"),
        ("space.rate = { low = 1, searched = false }", "tune.space.rate.searched: what is not"),
        (
            "space.rate = { low = 0.1, high = 1 }",
            "sine × Reptile: tune.space.rate: rate = 0.01 is outside of what is searched, 0.1 to 1",
        ),
        (
            "space.rate = { low = 0.001, high = 20 }",
            "sine × Reptile: tune.space.rate: rate cannot be 20.0: Input should be less than or",
        ),
        (
            "space.batch = { low = 1.5, high = 9 }",
            "sine × Reptile: tune.space.batch: batch is a whole number; give whole ones",
        ),
        (
            "space.values = { low = 1, high = 9 }",
            "sine × few: tune.space.values: values is 'float32', which is no number; give choices",
        ),
        (
            "space.values = { choices = ['float32', 'int4'] }",
            "sine × few: tune.space.values: values cannot be 'int4': Input should be",
        ),
    ],
)  # fmt: skip
def test_a_wrong_file_is_said_in_one_line(tmp_path: Path, line: str, says: str):
    change = ("seeds = [11, 12]", line) if line.startswith("seeds") else more(line)
    with pytest.raises(TinyMetaFedError) as error:
        searches(tmp_path, change)
    assert str(error.value).startswith(f"{tmp_path / 'two.toml'}: {says}")
    assert "\n" not in str(error.value)


def test_a_key_near_a_strategy_is_of_that_strategy(tmp_path: Path):
    wrong = ("percent = 10", "percent = 10\nspace.rate = { low = 0.1, high = 1 }")
    with pytest.raises(TinyMetaFedError, match=r"two\.toml: strategies\.0\.space\.rate: is no set"):
        searches(tmp_path, wrong)


def test_what_the_page_says_is_searched(tmp_path: Path):
    text = (PROJECT / "docs/tuning.md").read_text()
    path = tmp_path / "three.toml"
    path.write_text(text.partition("```toml\n")[2].partition("```")[0])
    _, _, found = tuning.read(path)
    assert [one.judged for one in found] == [[20, 40, 60, 80, 100]] * 3
    table = text.partition("| --- | --- | --- |\n")[2].partition("\n\n")[0]
    said: dict[str, str] = {}
    for line in table.splitlines():
        names, span, _ = line.strip("| ").split(" | ", 2)
        said |= dict.fromkeys(names.replace("`", "").split(", "), span)
    known = {name: str(span) for name, span in search_space.DEFAULT.items() if span.searched}
    assert said == known


def test_seeds_that_nobody_gave_are_not_those_of_the_comparison(tmp_path: Path):
    path = write(tmp_path, ("seeds = [1, 2]", "seeds = [1, 1002]"))
    comparison.read(path)
    with pytest.raises(TinyMetaFedError, match="tune.seeds: 1002 is one of the comparison's"):
        tuning.read(path)


# ---- trials -------------------------------------------------------------------------------------


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
    tuned.write(tmp_path / "found.toml", [], chosen)
    seeds = ("seeds = [1, 2]", "tuned = 'found.toml'\nseeds = [11, 12]")
    every = ("target = 100", "target = 100\nchanges.evaluation.every = 1")
    _, cells = read(tmp_path, seeds, every)
    losses: list[dict[int, float | None]] = []
    for cell in cells[2:]:
        store, run = running.execute(cell.experiment, tmp_path / str(cell.experiment.seed))
        losses.append({judged.round: judged.loss_after for judged in store.judged(run.id)})
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
    before = Judged(0, 5, 1, 4.0, 6.0, 0.2, 0.2)
    assert trials._value(search, before, Judged(9, 5, 0, 4.0, 0.1, 0.2, 0.7)) == 0.1
    assert trials._value(search, before, Judged(9, 5, 1, 4.0, 0.5, 0.2, 0.7)) == 0.8 * 0.5 + 0.2 * 4
    assert trials._value(search, before, Judged(9, 5, 5, None, None, None, None)) == math.inf
    classes = Classes(search.task, search.strategy, search.experiments, search.parameters)
    assert trials._value(classes, before, Judged(9, 5, 0, 4.0, 0.5, 0.2, 0.7)) == 0.7
    assert trials._value(classes, before, Judged(9, 5, 1, 4.0, 0.5, 0.2, 0.5)) == 0.8 * 0.5
    assert trials._value(classes, before, Judged(9, 5, 5, None, None, None, None)) == -math.inf


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


# ---- the file of what is chosen -----------------------------------------------------------------

FOUND = '["sine"."few"]\nglobal_rate = 0.02\n["sine"."Reptile"]\nbatch = 2\n'


def test_settings_that_were_chosen_hold_before_those_of_the_file(tmp_path: Path):
    _, before = read(tmp_path)
    (tmp_path / "found.toml").write_text(FOUND)
    _, cells = read(tmp_path, ("seeds", "tuned = 'found.toml'\nseeds"))
    for cell, old in zip(cells, before, strict=True):
        changes = {"few": {"global_rate": 0.02}, "Reptile": {"batch": 2}}[cell.strategy]
        strategy = old.experiment.strategy.model_copy(update=changes)
        assert cell.experiment == old.experiment.model_copy(update={"strategy": strategy})
    # They are no settings of the file for another search.
    path = write(tmp_path, TUNE, ("seeds = [1, 2]", "tuned = 'found.toml'\nseeds = [1, 2]"))
    assert [one.own for one in tuning.read(path)[2]] == [one.own for one in searches(tmp_path)]


def test_the_file_says_what_was_written(tmp_path: Path):
    labels = 'a "b"\\ # é', "P = 1%, FedAdam\x7f"
    values = {"client.rate": 1e-05, "batch": 3, "values": "int8", "error_feedback": True}
    tuned.write(tmp_path / "found.toml", ["head"], [(*labels, values, "said")])
    found = tuned.read(tmp_path / "found.toml", "two.toml", [labels[0]], [labels[1]])
    assert found[labels[0]][labels[1]] == {
        "client": {"rate": 1e-05}, "batch": 3, "values": "int8", "error_feedback": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "two.toml: tuned: {}: no such file; 'tinymetafed tune"),
        ("sine = 1", "{}: sine: is no table; run 'tinymetafed tune"),
        ("[sine]\nfew = 1\nReptile = 1", "{}: sine.few: is no table"),
        ("[sine.few]", "{}: sine.Reptile: missing; run 'tinymetafed tune"),
        (f"{FOUND}[sine.more]", "{}: sine.more: "),
        (f"{FOUND}[other]", "{}: other: "),
        (FOUND.replace("batch", "bacth"), "sine × Reptile: strategy.bacth: unknown key; known"),
        (FOUND.replace("batch = 2", "batch = 0"), "sine × Reptile: strategy.batch: 0 is not allo"),
        ("[", "{}: not TOML"),
    ],
)
def test_a_file_of_other_settings_is_said_so(tmp_path: Path, content: str | None, says: str):
    if content is not None:
        (tmp_path / "found.toml").write_text(content)
    with pytest.raises(TinyMetaFedError) as error:
        read(tmp_path, ("seeds", "tuned = 'found.toml'\nseeds"))
    assert says.format(tmp_path / "found.toml") in str(error.value)
    assert "\n" not in str(error.value)
