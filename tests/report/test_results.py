"""What is compared with what."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import MakeExperiment
from running import execute
from tinymetafed.energy.ledger import balance
from tinymetafed.report import described, groups, results
from tinymetafed.report.groups import compare
from tinymetafed.report.results import Result
from tinymetafed.report.verdict import reaches
from tinymetafed.results.store import Store


def _read(store: Store) -> list[Result]:
    return [Result.read(store, run) for run in store.runs()]


def _numbers(found: list[Result]) -> list[int]:
    return [one.run.id for one in found]


def test_runs_that_differ_by_seed_alone_are_one_group(compared: Store):
    (comparison,) = compare(_read(compared))
    assert comparison.task == "sine"
    assert {group.label: _numbers(group.results) for group in comparison.groups} == {
        "tinymetafed, percent=50": [5, 2, 3],
        "tinymetafed, percent=10": [4],
        "reptile": [6, 7],
    }
    assert _numbers(comparison.repeated) == [1]


def test_wall_time_is_that_of_each_round(compared: Store):
    for one in _read(compared):
        by_round = np.diff(one.seconds)
        assert by_round.tolist() == pytest.approx([*compared.wall_times(one.run.id).values()])
        assert len(set(by_round.tolist())) > 1
        assert one.seconds[-1] == pytest.approx(one.run.seconds)
        older = replace(one, wall_times={1: by_round[0]})  # what followed was done by another
        rest = (one.run.seconds - by_round[0]) / (one.run.done - 1)
        assert np.diff(older.seconds).tolist() == pytest.approx(
            [by_round[0], *[rest] * (one.run.done - 1)]
        )


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
    assert labels[1] == "sine, task.phase.1=1"


def test_runs_that_go_on_are_of_the_group_of_those_that_are_done(compared: Store):
    _, second, third, *_ = _read(compared)
    begun = replace(third, run=replace(third.run, done=2), judged=third.judged[:2])
    (comparison,) = compare([second, begun], going_on=True)
    (group,) = comparison.groups
    assert group.label == "tinymetafed"
    assert _numbers(group.settled) == [2]
    assert group.rounds == [0, 2, 4]
    assert [len(group.at(number)) for number in group.rounds] == [2, 2, 1]


def test_runs_whose_names_tell_them_apart_are_called_so(compared: Store):
    first, _, _, fourth, *_ = _read(compared)
    named = [
        replace(one, run=replace(one.run, name=name))
        for one, name in ((first, "half"), (fourth, "tenth"))
    ]
    (comparison,) = compare(named)
    assert [group.label for group in comparison.groups] == ["half", "tenth"]


def test_costs_run_up_to_those_of_the_whole_run(compared: Store):
    for one in _read(compared):
        rows = compared.node_rounds(one.run.id)
        moved = [
            sum(row.bytes_down + row.bytes_up for row in rows if row.round <= done)
            for done in range(5)
        ]
        assert one.bytes.tolist() == moved


def test_a_course_is_the_ledger_for_each_device_and_radio(compared: Store):
    one = Result.read(compared, compared.run("6"))
    assert next(iter(one.courses)) == ("nrf52840", "ble1m")
    assert len(one.courses) == 20
    for device, radio in (("nrf52840", "ble1m"), ("stm32l476", "lora7")):
        changes = {"device": device, "radio": radio}
        priced = [(n, was.model_copy(update=changes)) for n, was in one.experiment.priced]
        entries = list(described.of(one.experiment).account(compared, one.run, priced).entries())
        course = one.courses[device, radio]
        assert course.seconds is not None
        for done in range(5):
            until = [entry for entry in entries if entry.round <= done]
            assert course.joules[done] == pytest.approx(balance(until).joules)
            # A round is as long for each node, since it sleeps until the slowest has done.
            assert course.seconds[done] * 2 == pytest.approx(balance(until).seconds)
        whole = balance(entries)
        assert (course.low, course.high) == (pytest.approx(whole.low), pytest.approx(whole.high))
        for account, joules in course.accounts.items():
            mine = balance([entry for entry in entries if entry.account == account])
            assert joules == pytest.approx(mine.joules)
        assert sum(course.accounts.values()) == pytest.approx(whole.joules)


def test_what_was_not_counted_has_no_course(compared: Store):
    assert Result.read(compared, compared.run("1")).courses == {}


def test_messages_add_up_to_the_bytes_of_a_run(compared: Store):
    for one in _read(compared):
        moved = np.sum(list(one.messages.values()), axis=0)
        assert sum(moved) == pytest.approx(one.bytes[-1])


def test_many_evaluations_are_thinned_evenly(compared: Store, monkeypatch: pytest.MonkeyPatch):
    assert not _read(compared)[0].thinned
    monkeypatch.setattr(results, "MOST_POINTS", 2)
    first = _read(compared)[0]
    assert first.thinned
    assert [point.round for point in first.judged] == [0, 4]
    assert first.places == {0: 0, 4: 1}


def test_a_target_is_told_by_all_evaluations_also_of_a_thinned_curve(
    compared: Store, monkeypatch: pytest.MonkeyPatch
):
    every = _read(compared)
    monkeypatch.setattr(results, "MOST_POINTS", 2)
    there = 0
    for whole, thinned in zip(every, _read(compared), strict=True):
        between = whole.judged[1]
        assert between.round not in thinned.places
        if between.after < whole.judged[0].after:
            assert reaches(thinned, between.after) == between.round
            there += 1
    assert there


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
    joules = one.courses["nrf52840", "ble1m"].joules
    assert (np.diff(joules) > 0).all()
    assert joules[-1] == pytest.approx(one.spent.balance().joules)


_KEYS = st.sampled_from(["a", "b", "c", "d", "e", "f"])


@given(st.lists(st.dictionaries(_KEYS, st.sampled_from("01")), min_size=1, max_size=8))
def test_labels_tell_apart_whatever_settings(flats: list[dict[str, str]]):
    distinct = list({tuple(sorted(flat.items())): flat for flat in flats}.values())
    labels = groups._labels(["reptile"] * len(distinct), [(flat, []) for flat in distinct])
    assert len(set(labels)) == len(distinct)
    assert len(distinct) > 1 or labels == ["reptile"]
