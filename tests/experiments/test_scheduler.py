"""The runs of a comparison: what is done, what is not done again, what fails."""

import json
import logging
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import running
from calling import call
from comparing import DIVERGING, STOPPING, execute, read, write
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import runner
from tinymetafed.experiments import scheduler as compare
from tinymetafed.nodes import backends
from tinymetafed.results.store import Store


def test_its_runs_are_those_of_the_experiments(tmp_path: Path):
    _, cells = read(tmp_path)
    store, compared, seen = execute(tmp_path, cells)
    assert compared.failed == {}
    assert compared.unfinished == []
    assert {(i, done) for i in range(4) for done in range(5)} == seen
    for i, cell in enumerate(cells):
        own, run = running.execute(cell.experiment, tmp_path / str(i))
        found = compared.runs[i]
        assert found is not None
        assert found.theta == run.theta
        assert store.evaluations(found.id) == own.evaluations(run.id)
        assert store.node_rounds(found.id) == own.node_rounds(run.id)


def test_what_is_in_the_store_is_not_done_again(tmp_path: Path):
    _, cells = read(tmp_path)
    execute(tmp_path, cells)
    _, compared, seen = execute(tmp_path, cells)
    assert seen == set()
    assert sorted(run.id for run in compared.runs if run) == [1, 2, 3, 4]


def test_another_setting_is_another_run(tmp_path: Path):
    _, cells = read(tmp_path)
    execute(tmp_path, cells)
    _, cells = read(tmp_path, ("percent = 10", "percent = 20"), ('"few"', '"less few"'))
    store, _, seen = execute(tmp_path, cells)
    assert {i for i, _ in seen} == {0, 1}
    assert len(store.runs()) == 6


@pytest.mark.parametrize("column", ["firmware", "versions"])
def test_another_build_or_version_is_another_run(tmp_path: Path, column: str):
    _, cells = read(tmp_path)
    store, _, _ = execute(tmp_path, cells)
    store._db.execute(f"UPDATE run SET {column} = '' || {column} || ' ' WHERE seed = 2")
    _, _, seen = execute(tmp_path, cells)
    assert {i for i, _ in seen} == {1, 3}


def test_a_run_that_stopped_goes_on_at_its_next_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, cells = read(tmp_path)
    store = Store(tmp_path / "runs")
    stop = 2

    def stopping(done: int, doing: str) -> None:
        if (done, doing) == (stop, "training"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.execute(cells[1].experiment, store, None, stopping)
    _, compared, seen = execute(tmp_path, cells)
    assert {done for i, done in seen if i == 1} == {2, 3, 4}
    assert len(store.runs()) == 4
    _, whole = running.execute(cells[1].experiment, tmp_path / "whole")
    assert compared.runs[1] is not None
    assert compared.runs[1].theta == whole.theta


def test_a_run_that_fails_leaves_the_others(tmp_path: Path):
    _, cells = read(tmp_path, DIVERGING, STOPPING)
    _, compared, _ = execute(tmp_path, cells)
    assert set(compared.failed) == set(compared.unfinished) == {0, 1}
    assert re.fullmatch(r"round 1: training of device \d+ on node-0 diverged", compared.failed[0])
    assert all(run and run.done == 4 for run in compared.runs[2:])


def test_a_process_that_is_killed_is_a_run_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, cells = read(tmp_path)
    start = compare.Comparison._start

    def kill(self: compare.Comparison, i: int, threads: int):
        pipe, process = start(self, i, threads)
        if i == 0:
            process.kill()
        return pipe, process

    monkeypatch.setattr(compare.Comparison, "_start", kill)
    _, compared, _ = execute(tmp_path, cells)
    assert compared.failed == {0: "its process ended with status -9"}
    assert compared.unfinished == [0]
    monkeypatch.undo()
    _, compared, _ = execute(tmp_path, cells)
    assert compared.unfinished == []


def test_nodes_that_cannot_run_are_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, cells = read(tmp_path, ("seeds", "emulate = 1\nseeds"))
    monkeypatch.setattr(backends, "MPS2_IMAGE", tmp_path / "no.elf")
    with pytest.raises(TinyMetaFedError, match=r"no\.elf: no firmware image; run 'make firmware'"):
        compare.Comparison(cells, Store(tmp_path / "runs"))


def test_jobs_by_cores_and_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    _, on_host = read(tmp_path)
    assert compare.default_jobs(on_host) == 8
    _, on_qemu = read(tmp_path, ("target = 100", "target = 1\nchanges.nodes.backend = 'qemu'"))
    assert compare.default_jobs(on_qemu) == 2  # three nodes each
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert compare.default_jobs(on_qemu) == 1


def _call(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True,
        check=False, timeout=120, env=os.environ | {"COLUMNS": "120"},
    )  # fmt: skip


def test_the_command_shows_what_failed_and_ends_with_status_1(tmp_path: Path):
    write(tmp_path, DIVERGING, STOPPING)
    called = _call(tmp_path, COMPARE, "--csv", "out", "--json", "out.json")
    assert called.returncode == 1
    assert called.stderr == ""
    assert called.stdout.count("diverged") == 2
    assert "2 of 2" in called.stdout  # the other strategy
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "runs.csv", "values.csv", "results.csv", "until_target.csv",
    }  # fmt: skip
    assert (tmp_path / "out.json").is_file()


@pytest.mark.parametrize("option", ["--csv", "--json", "--markdown", "--figures", "--report"])
@pytest.mark.parametrize(
    "command", ["compare two.toml", "sweep small.toml --set seed=1,2"], ids=["compare", "sweep"]
)
def test_what_cannot_be_written_is_said_before_anything_runs(
    tmp_path: Path, command: str, option: str
):
    write(tmp_path)
    (tmp_path / "file").touch()
    called = call(tmp_path, *command.split(), option, "file/below")
    assert (called.returncode, called.stdout) == (1, "")
    assert called.stderr == "error: file/below: cannot be written: Not a directory\n"
    assert {one.name for one in tmp_path.iterdir()} == {"file", "small.toml", "two.toml"}


# What it prints goes to a pipe that nobody reads any more.
UNREAD = """
import os
reading, writing = os.pipe()
os.close(reading)
os.dup2(writing, 1)
from tinymetafed.cli import terminal
terminal.SECONDS = 0
"""


def test_files_are_written_whoever_reads_what_is_printed(tmp_path: Path):
    write(tmp_path)
    files = ("--json", "c.json", "--markdown", "c.md", "--csv", "csv", "--report", "c.html")
    called = _call(tmp_path, UNREAD + COMPARE, *files)
    assert called.stderr == ""
    assert len(json.loads((tmp_path / "c.json").read_text())["runs"]) == 4
    for name in ("c.md", "c.html", "csv/runs.csv"):
        assert (tmp_path / name).stat().st_size > 0


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path):
    write(tmp_path, ("percent = 10", "percent = 101"))
    called = _call(tmp_path, COMPARE)
    assert called.returncode == 1
    assert called.stderr.startswith("error: two.toml: sine × few: strategy.percent: 101 is not")
    assert called.stderr.count("\n") == 1
    assert called.stdout == ""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_comparison_goes_on_where_it_was(tmp_path: Path, how: signal.Signals):
    """Interrupted twice, since its runs would take hours."""
    write(tmp_path, ("target = 100", "target = 1\nchanges.rounds = 1_000_000"))
    ids: list[int] = []
    done = [0, 0]
    for _ in range(2):
        interrupted = _call(tmp_path, INTERRUPTED.format(how=int(how), at=max(done) + 2) + COMPARE)
        assert interrupted.returncode == 130
        assert interrupted.stderr == "Interrupted. The same command goes on where it was.\n"
        runs = Store(tmp_path / "runs").runs()
        assert max(run.done for run in runs) >= max(done) + 2
        assert [run.id for run in runs][: len(ids)] == ids
        assert len(runs) <= 2  # side by side
        ids, done = [run.id for run in runs], [run.done for run in runs]


COMPARE = """
import sys
from tinymetafed import cli
sys.argv[1:] = ["compare", "two.toml", "--jobs", "2", *sys.argv[1:]]
cli.main()
"""

# Sent a signal by itself when a run says that it has done so many rounds.
INTERRUPTED = """
import os, signal, sys
from tinymetafed.experiments import scheduler as compare

receive = compare.Comparison._receive
how = {how}

def receive_and_signal(self, i, pipe, progress):
    def seen(i, done, doing):
        progress(i, done, doing)
        if done == {at} and doing.startswith("training"):  # and so in the store
            os.kill(os.getpid(), how)
    return receive(self, i, pipe, seen)

ignored = how == signal.SIGTERM  # as by a shell for its background jobs
signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
compare.Comparison._receive = receive_and_signal
"""


def test_a_run_s_process_does_not_repeat_what_was_said_of_the_data():
    ours, theirs = multiprocessing.Pipe(duplex=False)
    handler = compare._PipeHandler(theirs)
    for name in ("tinymetafed.tasks.base", "tinymetafed.federation.federation"):
        handler.emit(logging.makeLogRecord({"name": name, "msg": f"warning of {name}"}))
    assert ours.recv() == ("warning", "warning of tinymetafed.federation.federation")
    assert not ours.poll()
