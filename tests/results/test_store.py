"""A round is stored whole or not at all, whenever the process ends."""

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from conftest import SMALL, MakeExperiment
from running import STRATEGIES, execute, play
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import runner
from tinymetafed.experiments.experiment import parse
from tinymetafed.results.store import NodeRound, Store

# Ends itself with SIGKILL when SQLite begins the statement with a given number.
KILLED = """
import os, signal, sys
from pathlib import Path
from tinymetafed.experiments import runner
from tinymetafed.experiments.experiment import parse
from tinymetafed.results.store import Store

folder, text, statement, resume = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
store = Store(folder)

def trace(sql):
    global statement
    statement -= 1
    if statement == 0:
        os.kill(os.getpid(), signal.SIGKILL)

store._db.set_trace_callback(trace)
run = store.run("last") if resume == "yes" else None
runner.execute(parse(text, "text"), store, run, lambda done, doing: None)
"""


def _run_until_killed(folder: Path, statement: int, resume: bool, text: str = SMALL) -> int:
    arguments = [str(folder), text, str(statement), "yes" if resume else "no"]
    # What a killed process leaves of temporary files goes with the test's own.
    environment = os.environ | {"TMPDIR": str(folder.parent)}
    command = [sys.executable, "-c", KILLED, *arguments]
    return subprocess.run(command, check=False, env=environment).returncode


FEEDBACK = SMALL.replace("query = 6", "query = 6, percent = 20, error_feedback = true")


@pytest.mark.parametrize(
    ("text", "seed"),
    [*((SMALL, seed) for seed in range(6)), *((FEEDBACK, seed) for seed in range(2))],
)
def test_a_run_that_is_killed_goes_on_to_the_same_weights(tmp_path: Path, text: str, seed: int):
    """kill -9 at two statements of the database, so within rounds as well as between them. What
    nodes keep of their updates is that of the rounds in the store."""
    rng = np.random.default_rng(seed)
    folder = tmp_path / "killed"
    assert _run_until_killed(folder, int(rng.integers(12, 40)), False, text) == -signal.SIGKILL
    store = Store(folder)
    between = store.run("last")
    _whole(store, between.id, between.done)
    if between.done < 3:
        assert _run_until_killed(folder, int(rng.integers(3, 12)), True, text) == -signal.SIGKILL
        between = store.run("last")
        _whole(store, between.id, between.done)
    end, _ = runner.execute(parse(text, "text"), store, between, lambda done, doing: None)
    _whole(store, end.id, 4)

    undisturbed_store, undisturbed = execute(parse(text, "text"), tmp_path / "undisturbed")
    assert end.theta == undisturbed.theta
    kept = [some.kept(end.id) for some in (store, undisturbed_store)]
    assert set(kept[0]) == ({0, 1, 2} if text == FEEDBACK else set())
    for node, residual in kept[0].items():
        assert residual.any()
        assert residual.tobytes() == kept[1][node].tobytes()
    assert store.evaluations(end.id) == undisturbed_store.evaluations(undisturbed.id)


@pytest.mark.parametrize("statement", [2, 5])
def test_a_run_that_is_killed_before_it_was_judged_leaves_nothing(tmp_path: Path, statement: int):
    assert _run_until_killed(tmp_path, statement, False) == -signal.SIGKILL
    assert Store(tmp_path).runs() == []


def _whole(store: Store, run: int, done: int) -> None:
    """Every round up to `done` has all of its rows, and no other has any."""
    assert store.run(str(run)).done == done
    rows = store.node_rounds(run)
    assert [(row.round, row.node) for row in rows] == [
        (number, node) for number in range(1, done + 1) for node in range(3)
    ]
    judged = {row.round for row in store.evaluations(run)}
    assert judged == {number for number in (0, 2, 4) if number <= done}


def test_of_a_node_the_last_residual_is_there(tmp_path: Path, experiment: MakeExperiment):
    """Also of one that was not in the last rounds."""
    settings = experiment(*STRATEGIES["feedback"], "nodes.per_round=1", "nodes.count=3", rounds=8)
    states = play(settings, 8)
    store, run = execute(settings, tmp_path)
    kept = store.kept(run.id)
    assert set(kept) == {row.node for row in store.node_rounds(run.id)} == {0, 1, 2}
    for node, residual in kept.items():
        assert residual.tobytes() == states[-1].kept[node].tobytes()
    store._db.execute("DELETE FROM run")
    assert store.kept(run.id) == {}


def test_two_processes_cannot_go_on_with_the_same_run(tmp_path: Path, experiment: MakeExperiment):
    store, run = execute(experiment(), tmp_path)
    row = NodeRound(5, 0, 0, 1, 1, 1, False, False, False, 1, "{}", "[[], []]")
    Store(tmp_path).commit(run.id, 5, run.weights, run.changes, 1.0, [row])
    with pytest.raises(TinyMetaFedError, match="being continued by another process"):
        store.commit(run.id, 5, run.weights, run.changes, 1.0, [row])
    assert store.run("last").done == 5


def test_files_are_private_to_the_user(tmp_path: Path, experiment: MakeExperiment):
    store, _ = execute(experiment(rounds=1), tmp_path / "runs")
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    for file in store.folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_row_says_what_the_run_depended_on(tmp_path: Path, experiment: MakeExperiment):
    settings = experiment(seed=9)
    _, run = execute(settings, tmp_path)
    assert type(settings).model_validate_json(run.settings) == settings
    assert (run.seed, run.backend, run.rounds, run.done) == (9, "host", 4, 4)
    assert '"numpy"' in run.versions
    assert '"build"' in run.firmware
    # Floats: 53 weights as broadcast and as trained; the layers' values, and behind the last ones
    # the derivative of the five before.
    assert run.memory == 4 * (2 * 53 + (1 + 6 + 5 + 1) + 5)


def test_of_runs_that_are_alike_the_one_with_the_most_rounds_is_found(
    tmp_path: Path, experiment: MakeExperiment
):
    store, first = execute(experiment(), tmp_path)
    for _ in range(2):
        execute(experiment(), tmp_path)
    execute(experiment(seed=2), tmp_path)
    for done, found in (("1, 3, 2, 4", 2), ("3, 2, 3, 4", 1), ("4, 4, 4, 4", 1)):
        for run, rounds in enumerate(done.split(", "), 1):
            store._db.execute("UPDATE run SET done = ? WHERE id = ?", (rounds, run))
        best = store.find(settings=first.settings, firmware=first.firmware)
        assert best is not None
        assert best.id == found
    assert store.find(settings=first.settings, firmware="another") is None


def test_another_build_of_the_firmware_does_not_go_on(tmp_path: Path, experiment: MakeExperiment):
    store, _ = execute(experiment(), tmp_path)
    store._db.execute("""UPDATE run SET done = 3, firmware = '{"version": "0", "build": "00"}'""")
    store._db.execute("DELETE FROM node_round WHERE round = 4")
    with pytest.raises(TinyMetaFedError, match="was begun with another build of the firmware"):
        runner.execute(experiment(), store, store.run("last"), lambda done, doing: None)


def test_a_file_that_is_no_store(tmp_path: Path):
    (tmp_path / "runs.sqlite").write_text("something else entirely, and long enough to be read")
    with pytest.raises(TinyMetaFedError, match="cannot be opened"):
        Store(tmp_path)


def test_a_store_of_another_version(tmp_path: Path):
    Store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "runs.sqlite", isolation_level=None)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(TinyMetaFedError, match="made by another version"):
        Store(tmp_path)


def test_messages_are_the_bytes_of_the_link(tmp_path: Path, experiment: MakeExperiment):
    store, run = execute(experiment(), tmp_path)
    for row in store.node_rounds(run.id):
        messages = json.loads(row.messages)
        down, up = np.sum(list(messages.values()), axis=0)
        assert (down, up) == (row.bytes_down, row.bytes_up)
        requests = {"weights", "train", "select", "update", "framing"}
        assert set(messages) - {"hello", "load"} == requests
        assert ("load" in messages) == ("hello" in messages) == (row.round == 1)
        # What the server says is longest in weights, what a node says in its update.
        assert max(messages, key=lambda name: messages[name][0]) == "weights"
        assert max(messages, key=lambda name: messages[name][1]) == "update"


def test_a_run_that_is_not_there(tmp_path: Path):
    with pytest.raises(TinyMetaFedError, match="no run '7'; there is none yet"):
        Store(tmp_path).run("7")
