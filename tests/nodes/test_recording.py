"""Frames in a file: all of them, as they arrive, the same on every backend, and private."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from calling import call
from conftest import MakeExperiment
from running import came_to
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import runner
from tinymetafed.experiments.experiment import Experiment
from tinymetafed.link import Connection
from tinymetafed.nodes.recording import FrameRecorder
from tinymetafed.results.store import Run, Store

Line = dict[str, Any]


def _recorded(
    experiment: Experiment, folder: Path, run: Run | None = None
) -> tuple[list[Line], Store, Run]:
    file, store = folder / "frames.jsonl", Store(folder)
    run, _ = runner.execute(experiment, store, run, lambda done, doing: None, frames=file)
    return [json.loads(line) for line in file.read_text().splitlines()], store, run


@pytest.mark.parametrize("backend", ["host", "qemu"])
def test_the_bytes_are_those_that_the_store_accounts_for(
    experiment: MakeExperiment, tmp_path: Path, backend: str
):
    lines, store, run = _recorded(experiment(f"nodes.backend={backend}"), tmp_path)
    sizes: Counter[tuple[int, int, str]] = Counter()
    for line in lines:
        if line["round"] is not None:
            sizes[line["round"], line["node"], line["direction"]] += len(line["bytes"]) // 2
    later = [row for row in store.node_rounds(run.id) if row.round > 1]  # the first has the boots
    assert len(later) == 9
    for row in later:
        assert sizes[row.round, row.node, "down"] == row.bytes_down + row.bytes_sensor
        assert sizes[row.round, row.node, "up"] == row.bytes_up
    assert not any("refused" in line or "lost" in line for line in lines)
    times = [line["time"] for line in lines]
    assert times == sorted(times)


def test_emulated_nodes_and_those_of_the_host_have_the_same_frames(
    experiment: MakeExperiment, tmp_path: Path
):
    found: list[dict[int, list[Line]]] = []
    for backend in ("host", "qemu"):
        lines, _, _ = _recorded(experiment(f"nodes.backend={backend}"), tmp_path / backend)
        by_node: dict[int, list[Line]] = {0: [], 1: [], 2: []}
        for line in lines:
            if line["messages"][0]["kind"] != "hello":  # which tells of the build
                by_node[line["node"]].append({**line, "time": None})
        found.append(by_node)
    assert found[0] == found[1]
    assert len(found[0][0]) > 8


def test_a_recorded_run_comes_to_the_same(experiment: MakeExperiment, tmp_path: Path):
    settings = experiment("strategy.percent=20")
    plain = Store(tmp_path / "plain")
    run, _ = runner.execute(settings, plain, None, lambda done, doing: None)
    _, store, recorded = _recorded(settings, tmp_path / "recorded")
    assert came_to(store, recorded) == came_to(plain, run)


def test_noise_is_seen_as_the_link_saw_it(experiment: MakeExperiment, tmp_path: Path):
    noise = "{flipped_bytes=1e-3, lost_frames=0.1, doubled_frames=0.1, reordered_frames=0.1}"
    settings = experiment(f"faults.links=[{noise}]", "rounds=20", "evaluation.every=20")
    lines, store, run = _recorded(settings, tmp_path)
    refused = [line for line in lines if "refused" in line]
    assert {line["refused"] for line in refused} <= {"wrong CRC-32", "not COBS", "cut short"}
    lost = [line for line in lines if line.get("lost")]
    for some in (refused, lost):
        assert {line["direction"] for line in some} == {"up", "down"}
        assert all(line["round"] is not None for line in some)
    # Every frame that came up as a whole is one that a connection takes, and no other is.
    for line in lines:
        if line["direction"] == "up" and not line.get("lost"):
            connection = Connection()
            connection.receive(bytes.fromhex(line["bytes"]))
            assert connection.bad_frames == ("refused" in line)
    # Each repetition, and nothing else, is a frame that was sent before.
    events = store.event_counts(run.id)
    again = sum(n for (kind, _), n in events.items() if kind == "repetition")
    assert again > 0


@pytest.mark.parametrize("mode", [0o644, None])
def test_the_file_is_private(experiment: MakeExperiment, tmp_path: Path, mode: int | None):
    file = tmp_path / "frames.jsonl"
    if mode is not None:
        file.write_text("what was there before\n")
        file.chmod(mode)
    with FrameRecorder(file) as recorder:
        recorder.tap(0).down(b"\1\0", [b"\1\0"])
    assert file.stat().st_mode & 0o777 == 0o600
    (line,) = map(json.loads, file.read_text().splitlines())
    assert (line["bytes"], line["refused"]) == ("0100", "wrong CRC-32")


def test_what_a_node_never_ended_is_seen_when_it_starts_again(tmp_path: Path):
    file = tmp_path / "frames.jsonl"
    with FrameRecorder(file) as recorder:
        tap = recorder.tap(3)
        tap.up(b"\5abc", b"\5abc")
        tap.booted()
        tap.booted()
    (line,) = map(json.loads, file.read_text().splitlines())
    assert (line["node"], line["bytes"], line["refused"]) == (3, "05616263", "cut short")


@pytest.mark.parametrize(
    ("change", "file", "says"),
    [
        ("name=test", "no/such/folder", "no/such/folder: cannot be written: No such file"),
        ("nodes={backend='host', count=3, engine='ray', address='local'}", "f", "nodes.engine:"),
    ],
)
def test_what_cannot_be_recorded_is_said_in_one_line(
    folder: Path, change: str, file: str, says: str
):
    called = call(folder, "run", "small.toml", "--set", change, "--frames", file)
    assert called.returncode == 1
    assert called.stderr.startswith(f"error: {says}")
    assert len(called.stderr.splitlines()) == 1


def test_a_full_disk_ends_the_run_and_not_its_rounds(experiment: MakeExperiment, tmp_path: Path):
    store = Store(tmp_path)
    with pytest.raises(TinyMetaFedError, match="/dev/full: cannot be written: No space left"):
        runner.execute(
            experiment(), store, None, lambda done, doing: None, frames=Path("/dev/full")
        )
