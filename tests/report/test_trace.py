"""The timeline is what the format asks for, and what the ledger has."""

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import from_json

from calling import call
from conftest import SMALL, MakeExperiment
from running import execute, ledger
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import parse
from tinymetafed.nodes.events import NodeEvent
from tinymetafed.report import trace
from tinymetafed.report.described import describe
from tinymetafed.results.store import Event, Run, Store

FIELDS = {
    "X": {"name", "cat", "pid", "tid", "ts", "dur", "args"},
    "i": {"name", "cat", "pid", "tid", "ts", "s", "args"},
    "C": {"name", "pid", "ts", "args"},
    "M": {"name", "pid", "tid", "ts", "args"},
}
"""Of the format, by kind of event."""
METADATA = {
    "process_name": "name", "process_sort_index": "sort_index", "thread_name": "name",
    "thread_sort_index": "sort_index",
}  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Run]:
    """On QEMU, with nodes that come and go and are late, and an event in round 3."""
    changes = (
        "nodes.backend=qemu", "rounds=6", "evaluation.every=3", "energy.radio=ble2m",
        "participation={leave=0.3, join=0.5, deadline=0.05, slow={share=0.4, factor=1000}}",
    )  # fmt: skip
    store, run = execute(parse(SMALL, "SMALL", changes), tmp_path_factory.mktemp("traced"))
    event = NodeEvent("repetition", "'weights' was sent again")
    store.add_events(run.id, [Event(3, 1, 7, event.kind, event.detail)])
    return store, run


def _traced(
    ran: tuple[Store, Run], folder: Path, first: int = 1, last: int | None = None
) -> dict[str, Any]:
    store, run = ran
    path = folder / "trace.json"
    number = trace.write(path, store, run, describe(store, run), first, last)
    found = from_json(path.read_bytes(), allow_inf_nan=False)
    assert len(found["traceEvents"]) == number
    return found


def _check(found: dict[str, Any]) -> None:
    """Holds a trace to the rules of the format's JSON object form."""
    assert found["displayTimeUnit"] in ("ms", "ns")
    slices: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    named: dict[str, set[Any]] = defaultdict(set)
    for event in found["traceEvents"]:
        kind = event["ph"]
        assert set(event) - {"ph"} == FIELDS[kind]
        assert isinstance(event["name"], str)
        assert event["name"]
        assert type(event["pid"]) is int
        assert event["pid"] > 0  # 0 is the kernel's idle process
        assert event["ts"] >= 0
        if kind == "X":
            assert event["dur"] >= 0
            slices[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
        elif kind == "i":
            assert event["s"] in ("g", "p", "t")
        elif kind == "C":
            assert event["args"]
            assert all(type(value) is float for value in event["args"].values())
        else:
            key = METADATA[event["name"]]
            assert set(event["args"]) == {key}
            assert type(event["args"][key]) is (str if key == "name" else int)
            of = (event["pid"], event["tid"]) if "thread" in event["name"] else event["pid"]
            assert of not in named[event["name"]]  # once each
            named[event["name"]].add(of)
    for mine in slices.values():  # on a thread, one slice after the other
        mine.sort()
        for (_, end), (begin, _) in pairwise(mine):
            assert begin - end > -1e-6
    assert named["thread_name"] >= slices.keys()
    assert named["process_name"] >= {pid for pid, _ in slices}
    threads = [tid for _, tid in named["thread_name"]]
    assert len(set(threads)) == len(threads)


def test_it_keeps_to_the_format(ran: tuple[Store, Run], tmp_path: Path):
    found = _traced(ran, tmp_path)
    _check(found)
    assert found["otherData"]["run"] == ran[1].id
    names = {
        event["args"]["name"]: event["pid"]
        for event in found["traceEvents"] if event["name"] == "process_name"
    }  # fmt: skip
    assert names == {"server": 1, "node-0": 2, "node-1": 3, "node-2": 4}


def test_its_times_are_the_ledgers(ran: tuple[Store, Run], tmp_path: Path):
    """Each slice to the nanosecond, so that the sums by phase and node are."""
    found = _traced(ran, tmp_path)
    slices = {
        (event["args"]["round"], event["pid"] - 2, event["name"]): event
        for event in found["traceEvents"] if event["ph"] == "X" and event["pid"] > 1
    }  # fmt: skip
    entries = ledger(*ran)
    assert slices.keys() == {(one.round, one.node, one.account) for one in entries}
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for one in entries:
        event = slices[one.round, one.node, one.account]
        assert event["args"]["seconds"] == one.seconds
        assert event["args"]["joules"] == one.joules
        assert event["dur"] * 1e-6 == pytest.approx(one.seconds, abs=1.1e-9)
        sums[one.account][0] += one.seconds
        sums[one.account][1] += event["dur"] * 1e-6
        sums[one.account][2] += 1
    for expected, shown, count in sums.values():
        assert shown == pytest.approx(expected, abs=count * 1.1e-9)
    spent = describe(*ran).account(*ran).spent()
    assert spent is not None
    for account in spent.accounts:
        assert sums[account][0] == pytest.approx(spent.balance(account).seconds, rel=1e-12)


def test_a_node_does_one_thing_at_a_time_and_rounds_follow_each_other(
    ran: tuple[Store, Run], tmp_path: Path
):
    events = _traced(ran, tmp_path)["traceEvents"]
    rounds = [event for event in events if event.get("cat") == "round"]
    assert [event["name"] for event in rounds] == [f"round {n}" for n in range(1, 7)]
    ends = [0.0]
    for event in rounds:
        assert event["ts"] == pytest.approx(ends[-1], abs=1e-6)
        ends.append(event["ts"] + event["dur"])
    for pid in (2, 3, 4):
        mine = sorted(
            (event["ts"], event["dur"], event["args"]["round"])
            for event in events if event["ph"] == "X" and event["pid"] == pid
        )  # fmt: skip
        for (begin, lasts, _), (then, _, _) in pairwise(mine):
            assert begin + lasts <= then + 1e-6
        for begin, lasts, number in mine:
            assert ends[number - 1] - 1e-6 <= begin
            assert begin + lasts <= ends[number] + 1e-6
    order = [event["name"] for event in events if event["ph"] == "X" and event["pid"] == 2]
    assert order[: order.index("sleep")][-3:] == ["select", "send", "radio transmit"]


def test_what_happened_is_marked(ran: tuple[Store, Run], tmp_path: Path):
    store, run = ran
    events = _traced(ran, tmp_path)["traceEvents"]
    marks = [(e["name"], e["pid"] - 2, e["args"]["round"]) for e in events if e["ph"] == "i"]
    late = [("late", row.node, row.round) for row in store.node_rounds(run.id) if row.late]
    assert len(late) > 0
    assert sorted(marks) == sorted([*late, ("repetition", 1, 3)])
    losses = [e["args"]["after adaptation"] for e in events if e["ph"] == "C"]
    assert losses == [one.loss_after for one in store.judged(run.id, "validation")]
    sums = [event["args"] for event in events if event.get("cat") == "round"]
    rows = store.node_rounds(run.id)
    assert sum(one["bytes up"] for one in sums) == sum(row.bytes_up for row in rows)


def test_some_rounds_alone(ran: tuple[Store, Run], tmp_path: Path):
    found = _traced(ran, tmp_path, 2, 3)
    _check(found)
    slices = [event for event in found["traceEvents"] if event["ph"] == "X"]
    assert {e["args"]["round"] for e in slices if e["pid"] > 1} == {2, 3}
    assert min(event["ts"] for event in slices) == 0
    for first, last in ((7, None), (3, 2)):
        with pytest.raises(TinyMetaFedError, match="is done; it has 6 rounds"):
            _traced(ran, tmp_path, first, last)


def test_a_run_that_was_not_counted_is_said_to_be(experiment: MakeExperiment, folder: Path):
    execute(experiment(), folder / "runs")
    called = call(folder, "trace", "last", "-o", "trace.json")
    assert called.returncode == 1
    assert called.stderr.startswith("error: run 1: nothing was counted on its host nodes")
    assert len(called.stderr.splitlines()) == 1
    assert not (folder / "trace.json").exists()


def test_the_command_writes_one_of_a_sampled_run(experiment: MakeExperiment, folder: Path):
    execute(experiment("nodes.emulate=1"), folder / "runs")
    called = call(folder, "trace", "1", "-o", "trace.json", "--last", "2")
    assert called.returncode == 0, called.stderr
    found = json.loads((folder / "trace.json").read_text())
    _check(found)
    assert f"{len(found['traceEvents'])} events written to trace.json" in called.stdout
