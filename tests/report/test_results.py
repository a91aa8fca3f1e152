"""What is compared with what."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import MakeExperiment
from running import execute, ledger
from tinymetafed.energy.ledger import balance
from tinymetafed.report import results
from tinymetafed.report.results import Result, compare, pareto
from tinymetafed.results.statistics import mean_and_interval
from tinymetafed.results.store import Store


def _read(store: Store) -> list[Result]:
    return [Result.read(store, run) for run in store.runs()]


def _numbers(found: list[Result]) -> list[int]:
    return [one.run.id for one in found]


def test_runs_that_differ_by_seed_alone_are_one_group(compared: Store):
    (comparison,) = compare(_read(compared))
    assert comparison.task == "sine"
    assert {group.label: _numbers(group.results) for group in comparison.groups} == {
        "tinymetafed, strategy.percent=50.0": [5, 2, 3],
        "tinymetafed, strategy.percent=10.0": [4],
        "reptile": [6, 7],
    }
    assert _numbers(comparison.repeated) == [1]


def test_a_run_that_is_not_done_is_a_group_of_its_own(compared: Store):
    _, second, third, *_ = _read(compared)
    begun = replace(third, run=replace(third.run, done=2), judged=third.judged[:2])
    (comparison,) = compare([second, begun])
    assert [group.label for group in comparison.groups] == ["tinymetafed", "tinymetafed, done=2"]


def test_a_task_of_other_settings_is_another_task(compared: Store):
    first = _read(compared)[0]
    task = first.experiment.task.model_copy(update={"phase": (0.0, 1.0)})
    other = replace(first, experiment=first.experiment.model_copy(update={"task": task}))
    labels = [comparison.task for comparison in compare([first, other])]
    assert labels[1] == "sine, task.phase.1=1.0"


def test_a_curve_is_the_mean_over_seeds_of_the_mean_over_devices(compared: Store):
    group = compare(_read(compared))[0].groups[0]
    for done, *expected in group.curve("loss", "after"):
        judged = [
            [
                row.loss_after
                for row in compared.evaluations(run)
                if (row.round, row.part) == (done, "validation")
            ]
            for run in (1, 2, 3)
        ]
        means = np.array(judged, np.float64).mean(axis=1).tolist()
        assert expected == pytest.approx(mean_and_interval(means))
    assert [point[0] for point in group.curve("accuracy", "before")] == [0, 2, 4]


def test_costs_run_up_to_those_of_the_whole_run(compared: Store):
    for one in _read(compared):
        rows = compared.node_rounds(one.run.id)
        moved = [
            sum(row.bytes_down + row.bytes_up for row in rows if row.round <= done)
            for done in (0, 2, 4)
        ]
        assert one.megabytes == pytest.approx(np.array(moved) / 1e6)
        spent = [
            balance([e for e in ledger(compared, one.run) if e.round <= done]).joules
            for done in (0, 2, 4)
        ]
        assert one.joules == (pytest.approx(spent) if one.run.backend == "qemu" else [])


def test_messages_add_up_to_the_bytes_of_a_run(compared: Store):
    for one in _read(compared):
        moved = np.sum(list(one.messages.values()), axis=0) / 1e6
        assert sum(moved) == pytest.approx(one.megabytes[-1])


def test_many_evaluations_are_thinned_evenly(compared: Store, monkeypatch: pytest.MonkeyPatch):
    assert not _read(compared)[0].thinned
    monkeypatch.setattr(results, "MOST_POINTS", 2)
    first = _read(compared)[0]
    assert first.thinned
    assert [point.round for point in first.judged] == [0, 4]
    assert len(first.megabytes) == 2


def test_rounds_that_were_not_counted_are_said(compared: Store):
    one = _read(compared)[5]
    assert one.counting == "emulated on QEMU, every instruction counted"
    totals = [replace(one.totals[0], counted=3), *one.totals[1:]]
    lost = replace(one, totals=totals)
    assert lost.counting.endswith("counted, but 1 of 8 node rounds are missing")


def test_a_sample_of_rounds_stands_for_all(tmp_path: Path, experiment: MakeExperiment):
    one = Result.read(*execute(experiment("nodes={backend='host', count=2, emulate=1}"), tmp_path))
    assert one.counting.startswith("the firmware's core in-process, 1 of its rounds emulated")
    assert one.uncounted == 0
    assert one.spent is not None
    assert one.joules[0] < one.joules[1] < one.joules[2]
    assert one.joules[-1] == pytest.approx(one.spent.balance().joules)


_KEYS = st.sampled_from(["a", "b", "c", "d", "e", "f"])


@given(st.lists(st.dictionaries(_KEYS, st.sampled_from("01")), min_size=1, max_size=8))
def test_labels_tell_apart_whatever_settings(flats: list[dict[str, str]]):
    distinct = list({tuple(sorted(flat.items())): flat for flat in flats}.values())
    labels = results._labels(["reptile"] * len(distinct), [(flat, []) for flat in distinct])
    assert len(set(labels)) == len(distinct)
    assert len(distinct) > 1 or labels == ["reptile"]


_POINTS = st.lists(st.tuples(*[st.integers(0, 5)] * 2), min_size=1, max_size=12)


@given(_POINTS)
def test_the_front_is_what_nothing_betters(points: list[tuple[int, int]]):
    front = {point for point, best in zip(points, pareto(points), strict=True) if best}
    swept: set[tuple[int, int]] = set()
    for point in sorted(set(points)):  # the cheapest first: each has to be better than all before
        if all(point[1] < loss for _, loss in swept):
            swept.add(point)
    assert front == swept
