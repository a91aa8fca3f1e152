"""What is shown of a comparison, against the store's rows."""

import csv
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from comparing import DIVERGING, STOPPING, execute, read
from conftest import UseCard
from printing import printed
from tiny import ON_TABLE, make_table
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import runner
from tinymetafed.experiments.comparison import ComparisonSettings
from tinymetafed.experiments.scheduler import Comparison
from tinymetafed.report import comparison as report
from tinymetafed.report.comparison import Outcome, RunState, Value
from tinymetafed.report.comparison_tables import tables
from tinymetafed.report.over_seeds import Result, UntilTarget
from tinymetafed.results.store import Store

Done = tuple[ComparisonSettings, Comparison, Outcome, Path]


def _compare(folder: Path, *changes: tuple[str, str]) -> Done:
    settings, cells = read(folder, *changes)
    store, compared, _ = execute(folder, cells)
    return settings, compared, report.outcome(settings, compared, store), store.path


def _target(folder: Path) -> float:
    """A loss that one strategy comes to with both seeds, the other with none or one."""
    _, _, found, path = _compare(folder)
    last = (
        "SELECT avg(loss_after) FROM evaluation WHERE run = ? AND part = 'validation' AND round = 4"
    )
    return sorted(_query(path, last, one.run or 0) for one in found.runs)[1] + 1e-9


def _values(found: Outcome, quantity: str) -> dict[tuple[str, int], float]:
    return {(one.strategy, one.seed): one.value for one in found.values if one.quantity == quantity}


def _is_until(value: Value, run: RunState) -> bool:
    mine = (value.strategy, value.seed) == (run.strategy, run.seed)
    return mine and value.quantity.endswith("until target")


def _query(path: Path, query: str, run: int, *arguments: float) -> float:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query, (run, *arguments)).fetchone()[0]


def test_quantities_are_those_of_the_rows(tmp_path: Path):
    target = _target(tmp_path)
    _, _, found, path = _compare(tmp_path, ("target = 100", f"target = {target!r}"))
    assert [(one.rounds, one.failed) for one in found.runs] == [(4, "")] * 4
    reached = 0
    for one in found.runs:
        assert one.run is not None
        mine = {
            value.quantity: value.value
            for value in found.values
            if (value.strategy, value.seed) == (one.strategy, one.seed)
        }
        for when in ("before", "after"):
            mean = f"SELECT avg(loss_{when}) FROM evaluation WHERE run = ? AND part = 'unseen'"
            assert mine[f"loss {when} adaptation"] == pytest.approx(_query(path, mean, one.run))
        for way in ("down", "up"):
            total = f"SELECT sum(bytes_{way}) FROM node_round WHERE run = ?"
            assert mine[f"bytes {way}"] == _query(path, total, one.run)
        assert mine["memory"] == _query(path, "SELECT memory FROM run WHERE id = ?", one.run)
        first = _query(
            path,
            "SELECT min(round) FROM (SELECT round, avg(loss_after) AS loss FROM evaluation "
            "WHERE run = ? AND part = 'validation' GROUP BY round) WHERE loss <= ?",
            one.run,
            target,
        )  # fmt: skip
        censored = first is None
        if first is None:
            first = 4
        assert {value.censored for value in found.values if _is_until(value, one)} == {censored}
        reached += not censored
        assert mine["rounds until target"] == first
        total = "SELECT total(bytes_down + bytes_up) FROM node_round WHERE run = ? AND round <= ?"
        assert mine["bytes until target"] == _query(path, total, one.run, first)
        assert not any("joules" in quantity for quantity in mine)  # host nodes
    assert 0 < reached < 4


def test_results_are_over_the_seeds(tmp_path: Path):
    _, _, found, _ = _compare(tmp_path)
    values = _values(found, "loss after adaptation")
    results = {
        one.strategy: one for one in found.results if one.quantity == "loss after adaptation"
    }
    for strategy in ("few", "Reptile"):
        both = [values[strategy, seed] for seed in (1, 2)]
        one = results[strategy]
        assert (one.seeds, one.mean) == (2, pytest.approx(np.mean(both)))
        assert one.low is not None
        assert one.high is not None
        # t of one degree of freedom is 12.706; of two values the deviation is |a − b| ÷ √2.
        half = 12.7062 * abs(both[0] - both[1]) / 2
        assert one.high - one.mean == pytest.approx(half, rel=1e-5)
        assert one.low == pytest.approx(max(0.0, one.mean - half), rel=1e-5)  # a loss is no less


def test_the_tables_of_a_comparison(tmp_path: Path):
    settings, compared, found, _ = _compare(tmp_path)
    text = printed(*tables(settings, compared, found))
    assert "sine: at the end of training, on 5 unseen devices" in text
    assert "sine: until loss ≤ 100 after adaptation" in text
    assert "Judged on devices for validation every 2 rounds" in " ".join(text.split())
    assert "Nothing is counted on host nodes" in text
    result = next(one for one in found.results if one.quantity == "loss after adaptation")
    assert result.high is not None
    assert result.low == 0  # cut, as a loss is no less
    assert f"{result.mean:.3f} [0.000, {result.high:.3f}]" in text
    beside, _, until = text.partition("sine: until loss")
    assert beside.count("2 of 2 before training") == until.count("2 of 2, 2 before training") == 2
    for part in (beside, until):
        assert "2 of 2 seeds are at the target before training; choose another." in " ".join(
            part.split()
        )
    row = next(line for line in until.splitlines() if "2 of 2" in line)
    assert row.split("│")[3].strip() == "0"
    assert "Failed" not in text


def test_a_ratio_that_is_a_bound_is_shown_as_one(tmp_path: Path):
    """The interval's other end is not known."""
    settings, compared, found, _ = _compare(tmp_path)
    for bound, low, high, shown in (
        ("lower", 2.06, None, "> 600% (> 206)"), ("upper", None, 17.46, "< 600% (< 1,746)"),
        ("lower", None, None, "> 600%"), ("", 2.06, 17.46, "600% (206–1,746)"),
    ):  # fmt: skip
        results = [
            replace(
                one, bound=bound, ratio=6.0, ratio_low=low, ratio_high=high, at_start=0
            ) if (one.strategy, one.quantity) == ("Reptile", "rounds until target")
            else replace(one, at_start=0)
            for one in found.results
        ]  # fmt: skip
        text = printed(*tables(settings, compared, replace(found, results=results)))
        cells = [line.split("│")[-2].strip() for line in text.splitlines() if "│" in line]
        assert shown in cells


def test_what_is_not_the_same_of_all_strategies_is_said_of_each(tmp_path: Path):
    changes = "changes.evaluation = { every = 3, devices = 4 }"
    done = _compare(
        tmp_path,
        ("seeds = [1, 2]", "seeds = [1]\nemulate = 1"),
        ("percent = 10", f"percent = 10\n{changes}"),
    )
    text = " ".join(printed(*tables(*done[:3])).split())
    assert "at the end of training, on 4 (few), 5 (Reptile) unseen devices" in text
    assert (
        "for validation every 3 (few), 2 (Reptile) rounds, so it may have been reached up to as"
        in text
    )
    assert "Emulated: 1 of each run's rounds" in text


def test_labels_are_shown_as_they_are_written(tmp_path: Path):
    labels = ('"few"', '"few [p=10]"'), ('"sine"', '"sine [easy]"')
    text = printed(*tables(*_compare(tmp_path, *labels)[:3]))
    assert text.count("│ few [p=10]") == 4
    assert "sine [easy]: at the end" in text


def test_where_the_target_is_not_reached_by_all(tmp_path: Path):
    target = _target(tmp_path)
    settings, compared, found, _ = _compare(tmp_path, ("target = 100", f"target = {target!r}"))
    text = printed(*tables(settings, compared, found)).partition("until loss")[2]
    rounds = {
        (one.strategy, one.seed): one for one in found.values
        if one.quantity == "rounds until target"
    }  # fmt: skip
    results = {one.strategy: one for one in found.results if one.quantity == "rounds until target"}
    assert any(one.censored for one in rounds.values())
    for one in found.until_target:
        if one.quantity != "rounds until target":
            continue
        mine = [rounds[one.strategy, seed] for seed in (1, 2)]
        reached = sum(not value.censored for value in mine)
        assert (one.runs, one.reached, one.target) == (2, reached, target)
        result = results[one.strategy]
        assert result.censored == 2 - reached
        assert result.mean == np.mean([value.value for value in mine])  # all end after 4 rounds
        # The median is known where half of them have reached it.
        first = min((value.value for value in mine if not value.censored), default=None)
        assert one.median == first
        line = next(line for line in text.splitlines() if line.startswith(f"│ {one.strategy}"))
        assert one.at_start == sum(value.value == 0 for value in mine)
        before = f", {one.at_start} before training" if one.at_start else ""
        assert line.split("│")[2].strip() == f"{reached} of 2{before}"
        if reached < 2:
            shown = "> 4" if not reached else f"≥ {result.mean:,.0f}, median {first:,.0f}"
            assert line.split("│")[3].strip() == shown


def test_one_seed_has_no_interval(tmp_path: Path):
    settings, compared, found, _ = _compare(tmp_path, ("seeds = [1, 2]", "seeds = [1]"))
    assert all((one.low, one.high) == (None, None) for one in found.results)
    # But the devices of one seed have told the strategies apart or not.
    of_devices = {one.quantity for one in found.results if one.difference_low is not None}
    assert "loss after adaptation" in of_devices
    assert "bytes" not in of_devices
    text = printed(*tables(settings, compared, found))
    assert "over 1 seed." in text
    assert f"{_values(found, 'loss after adaptation')['few', 1]:.3f} ± –" in text


def test_a_run_that_failed_is_shown_with_its_reason(tmp_path: Path):
    settings, compared, found, _ = _compare(tmp_path, DIVERGING, STOPPING)
    text = printed(*tables(settings, compared, found))
    failed = text.partition("Failed")[2]
    assert failed.count("│ sine │ few") == 2
    assert "diverged" in failed
    assert {one.strategy for one in found.values} == {"Reptile"}
    at_the_end = text.partition("at the end of training")[2]
    learnt = next(line for line in at_the_end.splitlines() if line.startswith("│ few"))
    assert [cell.strip() for cell in learnt.split("│")[2:4]] == ["0", "–"]
    assert [one.failed == "" for one in found.runs] == [False, False, True, True]


def test_a_task_with_classes_is_judged_by_accuracy(data: Path, use_card: UseCard, tmp_path: Path):
    card, _ = make_table(data)
    use_card(card)
    changes = "\n".join(f"changes.{key}" for key in ON_TABLE)
    settings, cells = read(tmp_path, ("target = 100", f"target = 0.001\n{changes}"))
    store = Store(tmp_path / "runs")
    for cell in cells:  # here, since another process would have the project's card
        runner.execute(cell.experiment, store, None, lambda done, doing: None)
    compared = Comparison(cells, store)
    assert compared.unfinished == []
    found = report.outcome(settings, compared, store)
    text = printed(*tables(settings, compared, found))
    assert "until accuracy ≥ 0.1%" in text
    accuracy = _values(found, "accuracy after adaptation")
    mean = "SELECT avg(accuracy_after) FROM evaluation WHERE run = ? AND part = 'unseen'"
    for one in found.runs:
        assert one.run is not None
        value = accuracy[one.strategy, one.seed]
        assert value == pytest.approx(_query(store.path, mean, one.run))
    shown = [
        100 * np.mean([accuracy[name, seed] for seed in (1, 2)]) for name in ("few", "Reptile")
    ]
    ends = [one for one in found.results if one.quantity.startswith(("accuracy", "share"))]
    assert {one.high for one in ends if one.low == 0 and one.high != 0} == {1}
    assert "[0.0, 100.0]" in text
    for name, value in zip(("few", "Reptile"), shown, strict=True):
        lines = text.partition("at the end of training")[2].splitlines()
        line = next(line for line in lines if line.startswith(f"│ {name}"))
        assert line.split("│")[6].split("±")[0].split("[")[0].strip() == f"{value:.1f}"


def test_energy_of_an_emulated_sample(tmp_path: Path):
    """The radio by every round's own bytes; what is computed by the sample's mean."""
    changes = ("seeds = [1, 2]", "seeds = [1]\nemulate = 1\nradios = ['ble1m', 'lora7']")
    settings, compared, found, path = _compare(tmp_path, changes)
    text = " ".join(printed(*tables(settings, compared, found)).split())
    # In a unit in which what is shown is not all zeros.
    wholes = {(v.strategy, v.radio): v.value for v in found.values if v.quantity == "joules"}
    assert max(value for (_, radio), value in wholes.items() if radio == "ble1m") < 0.01
    for radio, unit, size in (("ble1m", "mJ", 1e-3), ("lora7", "mJ", 1e-3)):
        _, title, table = text.partition(f"sine: {unit} of the whole training, nrf52840, {radio}")
        assert title
        shown = table.partition("│ all │ ")[2].replace(" ± –", "").split(" │")[:2]
        expected = [f"{wholes[name, radio] / size:,.3f}" for name in ("few", "Reptile")]
        assert [one.strip() for one in shown] == expected
    until = next(one for one in found.values if one.quantity == "joules until target")
    assert until.value == 0  # so that it has a unit without a prefix
    assert "J, nrf52840, ble1m" in text
    assert "Emulated: 1 of each run's rounds" in text
    assert "What nodes execute in it stands for the others." in text
    one = found.runs[0]
    assert one.run is not None
    joules = {
        (v.radio, v.quantity): v.value
        for v in found.values
        if v.strategy == one.strategy and v.quantity.startswith("joules")
    }
    with closing(sqlite3.connect(path)) as db:
        phases = Store(path.parent, read_only=True).phases(one.run)
        learn = [row.cycles["cortex-m4"][1] for row in phases if row.phase == "learn"]
        assert db.execute("SELECT total(counted), count(*) FROM node_round").fetchone() == (6, 24)
    assert len(learn) == 3  # nodes, in one of the four rounds; 9.9 mW, and 3% of wait states
    by_hand = sum(learn) * 4 * 1.03 / 64e6 * 9.9e-3
    assert joules["ble1m", "joules learn"] == pytest.approx(by_hand, rel=1e-4)  # whole cycles
    assert joules["lora7", "joules learn"] == joules["ble1m", "joules learn"]
    assert joules["lora7", "joules radio transmit"] > joules["ble1m", "joules radio transmit"]
    for radio in ("ble1m", "lora7"):
        parts = [
            value for (r, name), value in joules.items()
            if r == radio and name not in ("joules", "joules until target")
        ]  # fmt: skip
        assert joules[radio, "joules"] == pytest.approx(sum(parts))
        assert joules[radio, "joules until target"] == 0  # it is so before training


def test_what_a_node_did_that_was_not_counted_is_said(tmp_path: Path):
    """Of nodes that are emulated in every round."""
    settings, cells = read(
        tmp_path,
        ("seeds = [1, 2]", "seeds = [1]"),
        ("target = 100", "target = 1\nchanges = { nodes = { backend = 'qemu' }, rounds = 2 }"),
    )
    store, compared, _ = execute(tmp_path, cells)
    assert compared.runs[0] is not None

    def text() -> str:
        found = report.outcome(settings, compared, store)
        return " ".join(printed(*tables(settings, compared, found)).split())

    assert "not counted" not in text()
    store._db.execute(
        "UPDATE node_round SET counted = 0 WHERE run = ? AND round = 2 AND node < 2",
        (compared.runs[0].id,),
    )
    assert "few: of a node's rounds 2 were not counted, so not summed." in text()


def test_how_many_were_late_or_away(tmp_path: Path):
    participation = "{ leave = 0.4, join = 0.5, deadline = 1e-9 }"  # all but the first are late
    settings, compared, found, path = _compare(
        tmp_path,
        ("seeds = [1, 2]", "seeds = [1]"),
        ("percent = 10", f"percent = 10\nchanges.nodes.backend = 'qemu'\n"
            f"changes.participation = {participation}"),
    )  # fmt: skip
    run = found.runs[0].run
    assert run is not None
    rows = _query(path, "SELECT count(*) FROM node_round WHERE run = ?", run)
    late = _query(path, "SELECT total(late) FROM node_round WHERE run = ?", run)
    assert _values(found, "share of node rounds away") == {("few", 1): (12 - rows) / 12}
    assert _values(found, "share of updates late") == {("few", 1): late / rows}
    assert 0 < late < rows < 12
    learnt = " ".join(printed(list(tables(settings, compared, found))[3]).split())
    assert "% away ┃ % late" in learnt
    assert f"│ {100 * (12 - rows) / 12:.1f} ± – │ {100 * late / rows:.1f} ± – │" in learnt
    assert "– │ – │" in learnt  # of the other strategy


def test_files_have_what_was_found(tmp_path: Path):
    *_, found, _ = _compare(tmp_path, ("seeds = [1, 2]", "seeds = [1]"))
    report.write_csv(found, tmp_path / "out")
    report.write_json(found, tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    assert found == Outcome(
        [RunState(**row) for row in written["runs"]],
        [Value(**row) for row in written["values"]],
        [Result(**row) for row in written["results"]],
        [UntilTarget(**row) for row in written["until_target"]],
        written["baseline"],
        written["no_federation"],
    )
    for name in ("runs", "values", "results", "until_target"):
        with (tmp_path / f"out/{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        expected = [
            {key: "" if value is None else str(value) for key, value in row.items()}
            for row in written[name]
        ]
        assert rows == expected


def test_files_that_cannot_be_written(tmp_path: Path):
    found = Outcome([], [], [])
    (tmp_path / "file").touch()
    with pytest.raises(TinyMetaFedError, match="file: cannot be written: File exists"):
        report.write_csv(found, tmp_path / "file")
    with pytest.raises(TinyMetaFedError, match="nowhere/f.json: cannot be written: No such"):
        report.write_json(found, tmp_path / "nowhere/f.json")


def test_without_a_target_nothing_is_until_one(tmp_path: Path):
    settings, compared, found, _ = _compare(tmp_path, ("target = 100", ""))
    assert found.until_target == []
    assert found.values
    assert not [one for one in found.values if "target" in one.quantity]
    assert "target" not in "\n".join(printed(part) for part in tables(settings, compared, found))
