"""A round is stored whole or not at all, whenever the process ends."""

import dataclasses
import json
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

import killing
from conftest import SMALL, MakeExperiment
from running import STRATEGIES, created, execute, play
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import runner
from tinymetafed.experiments.experiment import parse
from tinymetafed.results.store import NodeRound, Store

FEEDBACK = SMALL.replace("query = 6", "query = 6, percent = 20, error_feedback = true")


@pytest.mark.parametrize(
    ("text", "seed"),
    [*((SMALL, seed) for seed in range(6)), *((FEEDBACK, seed) for seed in range(2))],
)
def test_a_run_that_is_killed_goes_on_to_the_same_weights(tmp_path: Path, text: str, seed: int):
    """kill -9 at two statements of the database, so within rounds as well as between them. What
    nodes keep of their updates is that of the rounds in the store."""
    rng = np.random.default_rng(seed)
    folder, settings = tmp_path / "killed", parse(text, "text")
    between = killing.until_killed(settings, folder, int(rng.integers(13, 41)))
    assert between is not None
    store = Store(folder)
    _whole(store, between.id, between.done)
    if between.done < 3:
        between = killing.until_killed(settings, folder, int(rng.integers(4, 13)))
        assert between is not None
        _whole(store, between.id, between.done)
    end, _ = runner.execute(settings, store, between, lambda done, doing: None)
    _whole(store, end.id, 4)

    undisturbed_store, undisturbed = execute(settings, tmp_path / "undisturbed")
    assert end.theta == undisturbed.theta
    assert store.node_rounds(end.id) == undisturbed_store.node_rounds(undisturbed.id)
    kept = [some.kept(end.id) for some in (store, undisturbed_store)]
    assert set(kept[0]) == ({0, 1, 2} if text == FEEDBACK else set())
    for node, residual in kept[0].items():
        assert residual.any()
        assert residual.tobytes() == kept[1][node].tobytes()
    assert store.evaluations(end.id) == undisturbed_store.evaluations(undisturbed.id)


@pytest.mark.parametrize("statement", [3, 6])
def test_a_run_that_is_killed_before_it_was_judged_leaves_nothing(tmp_path: Path, statement: int):
    assert killing.until_killed(parse(SMALL, "SMALL"), tmp_path / "killed", statement) is None


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


_ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=8),
    arrays(
        st.sampled_from(
            ["?", "i1", "u1", "<i2", ">i4", "<u8", "<f2", "<f4", ">f4", "<f8", "<c8", "<c16"]
        ).map(np.dtype),
        array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    max_size=4,
)


def _exactly(server: dict[str, NDArray[Any]]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (one.dtype.str, one.shape, one.tobytes()) for name, one in server.items()}


@given(_ARRAYS, _ARRAYS)
def test_what_a_server_keeps_is_there_again_whatever_it_is(
    first: dict[str, NDArray[Any]], second: dict[str, NDArray[Any]]
):
    """Of any numeric type and byte order, in any shape, under any name, to the last bit."""
    with TemporaryDirectory() as folder:
        store, run = created(Path(folder), first)
        assert _exactly(store.server_state(run)) == _exactly(first)
        theta, changed = np.zeros(2, np.float32), np.ones(2, np.int64)
        store.commit(run, 1, theta, changed, 1.0, [], server=second)
        assert _exactly(Store(Path(folder)).server_state(run)) == _exactly(second)
        store.close()


@pytest.mark.parametrize("breaks", ["row", "server"])
def test_a_round_that_cannot_be_stored_takes_nothing_away(tmp_path: Path, breaks: str):
    """Neither of the server's state, nor of what nodes keep, nor of the weights."""
    before = {"momentum": np.arange(3.0), "count": np.array(7)}
    store, run = created(tmp_path, before)
    one, ones = np.ones(2, np.float32), np.ones(2, np.int64)
    rows = [NodeRound(1, 0, 0, 1, 1, 1, False, False, False, 1, "{}", "[[], []]")]
    store.commit(run, 1, one, ones, 1.0, rows, kept={4: one}, server=before)
    after: dict[str, Any] = {"momentum": 2 * np.arange(3.0), "other": np.array(8)}
    times = 1
    if breaks == "row":  # the same one twice
        times = 2
    else:  # no array of numbers
        after["what"] = np.array([object()])
    rows = [dataclasses.replace(rows[0], round=2)]
    with pytest.raises((sqlite3.IntegrityError, ValueError)):
        store.commit(
            run, 2, 2 * one, 2 * ones, 1.0, times * rows, kept={4: 2 * one, 5: one}, server=after
        )
    for seen in (store, Store(tmp_path)):
        assert seen.run("last").done == 1
        assert seen.run("last").theta == one.tobytes()
        assert {owner: vector.tobytes() for owner, vector in seen.kept(run).items()} == {
            4: one.tobytes()
        }
        assert _exactly(seen.server_state(run)) == _exactly(before)
        assert [row.round for row in seen.node_rounds(run)] == [1]
    store.commit(run, 2, 2 * one, 2 * ones, 1.0, rows, server={"other": np.array(8)})
    assert _exactly(store.server_state(run)) == _exactly({"other": np.array(8)})
    store._db.execute("DELETE FROM run")
    assert store.server_state(run) == {}


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
    with pytest.raises(TinyMetaFedError, match="this is no store of tinymetafed"):
        Store(tmp_path)


def test_a_store_of_another_version(tmp_path: Path):
    Store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "runs.sqlite", isolation_level=None)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(TinyMetaFedError, match="made by a newer version"):
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


def test_frozen_weights_that_are_damaged_are_said_to_be(tmp_path: Path):
    store, run = created(tmp_path)
    assert store.backbone(run).size == 0
    with closing(sqlite3.connect(store.path)) as db, db:
        db.execute("INSERT INTO backbone VALUES (?, X'0000803F00')", (run,))
    with pytest.raises(TinyMetaFedError, match="run 1: what is stored of it is damaged"):
        store.backbone(run)


def test_a_store_without_its_frozen_weights_is_a_line(tmp_path: Path):
    store, run = created(tmp_path)
    with closing(sqlite3.connect(store.path)) as db, db:
        db.execute("DROP TABLE backbone")
    with pytest.raises(TinyMetaFedError, match=r"runs.sqlite: no such table: backbone"):
        store.backbone(run)


def test_several_threads_make_the_same_new_store(tmp_path: Path):
    for i in range(20):
        together, failed = threading.Barrier(4), list[str]()

        def make(i: int = i, together: threading.Barrier = together) -> None:
            together.wait()
            try:
                Store(tmp_path / str(i)).close()
            except TinyMetaFedError as error:
                failed.append(str(error))  # noqa: B023

        threads = [threading.Thread(target=make) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert failed == []
