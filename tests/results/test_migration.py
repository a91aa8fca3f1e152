"""A store of every older schema becomes today's, as far as its data go, or stays as it was."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from blobs import Blobs, on_blobs
from conftest import SMALL
from older import QEMU, as_old, in_two_parts
from printing import printed
from running import execute, in_pieces, ledger
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import runner
from tinymetafed.experiments.experiment import parse
from tinymetafed.report import described, summary
from tinymetafed.results import migration
from tinymetafed.results.store import Store


@pytest.mark.parametrize("version", range(1, 8))
def test_what_an_older_store_has_is_there(version: int, compared: Store, tmp_path: Path):
    store = Store(as_old(version, compared, tmp_path / "old"))
    old, new = store.runs(), compared.runs()
    assert [run.schema for run in old] == [version] * len(new)
    for one, two in zip(old, new, strict=True):
        assert (one.id, one.name, one.theta) == (two.id, two.name, two.theta)
        before = json.loads(two.settings)
        judged = {"devices": 0, "unseen": before["evaluation"]["devices"]}
        assert json.loads(one.settings) == before | {"evaluation": before["evaluation"] | judged}
        assert store.evaluations(one.id) == [
            replace(row, part="unseen")
            for row in compared.evaluations(two.id)
            if row.part == "validation"
        ]
        moved = [[(t.node, t.bytes_down, t.bytes_up) for t in some.node_totals(one.id)]
                 for some in (store, compared)]  # fmt: skip
        assert moved[0] == moved[1]
    instructions = [
        sum(row.instructions for row in some.phases(QEMU)) for some in (store, compared)
    ]
    assert instructions[0] == instructions[1] > 0
    if version > 1:
        packed = [
            {(row.round, row.node, row.phase): row for row in some.phases(QEMU)}
            for some in (store, compared)
        ]
        assert packed[0] == packed[1]
        for one, two in zip(old, new, strict=True):
            found, expected = (
                {astuple(entry)[:3]: entry.joules for entry in ledger(*given)}
                for given in ((store, one), (compared, two))
            )
            assert found == pytest.approx(expected, rel=1e-12, abs=1e-18)
    text = printed(*summary.summary(store, store.run(str(QEMU)), None))
    assert f"{instructions[1]:,}" in text
    # The number of a run that was deleted is not given again.
    assert store._all("SELECT seq FROM sqlite_sequence WHERE name = 'run'") == [(7,)]


@pytest.mark.parametrize("version", [1, 6, 7])
def test_only_a_run_of_which_all_is_stored_goes_on(version: int, tmp_path: Path):
    experiment = parse(SMALL, "SMALL")
    begun = Store(tmp_path / "begun")

    def stop(done: int, doing: str) -> None:
        if (done, doing) == (2, "training"):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        runner.execute(experiment, begun, None, stop)
    store = Store(as_old(version, begun, tmp_path / "old"))
    run = store.run("1")
    assert run.done == 2
    if version < 7:
        says = rf"run 1 was begun with tinymetafed .*\(schema {version}\), which did not store all"
        with pytest.raises(TinyMetaFedError, match=says):
            runner.execute(experiment, store, run, lambda done, doing: None)
    else:
        end, _ = runner.execute(experiment, store, run, lambda done, doing: None)
        _, undisturbed = execute(experiment, tmp_path / "undisturbed")
        assert end.theta == undisturbed.theta


def test_a_migration_that_fails_changes_nothing(
    compared: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = as_old(7, compared, tmp_path / "old")
    kept = shutil.copytree(folder, tmp_path / "kept")

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(migration, "_pack_phases", fail)
        with pytest.raises(TinyMetaFedError, match="database or disk is full"):
            Store(folder)
    with (
        closing(sqlite3.connect(folder / "runs.sqlite")) as db,
        closing(sqlite3.connect(kept / "runs.sqlite")) as other,
    ):
        assert list(db.iterdump()) == list(other.iterdump())
        assert db.execute("PRAGMA user_version").fetchone() == (7,)
    assert len(Store(folder).runs()) == len(compared.runs())


def test_a_damaged_row_of_what_was_executed_is_lost_alone(compared: Store, tmp_path: Path):
    folder = as_old(7, compared, tmp_path / "old")
    with closing(sqlite3.connect(folder / "runs.sqlite", isolation_level=None)) as db:
        db.execute("UPDATE phase SET cycles = '{' WHERE round = 2 AND node = 0")
    store = Store(folder)
    assert {row.round for row in store.phases(QEMU)} == {1, 3, 4}
    assert {row.round for row in store.node_rounds(QEMU) if not row.counted} == {2}


def test_runs_of_two_parts_keep_what_they_were_judged_on(compared: Store, tmp_path: Path):
    store = Store(in_two_parts(compared, tmp_path / "old"))
    assert [run.schema for run in store.runs()] == [12] * len(compared.runs())
    for run in store.runs():
        rows = compared.evaluations(run.id)
        judged = [replace(one, part="unseen") for one in rows if one.part == "validation"]
        assert store.evaluations(run.id) == judged
        assert store.node_rounds(run.id) == compared.node_rounds(run.id)
        settings = described.settings(run)
        assert [one.device for one in judged if one.round == 0] == [*settings.devices_of("unseen")]
        assert not settings.devices_of("validation")
        assert [one.round for one in store.learning(run.id)] == sorted({o.round for o in judged})
        text = printed(*summary.summary(store, run, None))
        assert "(schema 12), which had no devices for validation: its curve is that of" in text
        assert "5 unseen" in text
        assert "5 validation" not in text
    columns = [
        [row[:3] for row in one._all("SELECT name, type, pk FROM pragma_table_info('evaluation')")]
        for one in (store, compared)
    ]
    assert columns[0] == columns[1]


@pytest.mark.parametrize(
    ("task", "given", "expected"),
    [
        ("sine", {}, {}), ("tabular", {"data": "iris"}, {"validation": 0.0}),
        ("keywords", {"unseen": 0.3}, {"validation": 0.0}), ("omniglot", {}, {"validation": []}),
        ("table", {"path": "t.csv"}, {"validation": 0.0}), ("./mine.py:Mine", {"x": 1}, {}),
    ],
)  # fmt: skip
def test_a_run_of_two_parts_has_none_for_validation(
    compared: Store, tmp_path: Path, task: str, given: dict[str, object],
    expected: dict[str, object],
):  # fmt: skip
    folder = in_two_parts(compared, tmp_path / "old")
    with closing(sqlite3.connect(folder / "runs.sqlite", isolation_level=None)) as db:
        own = {"name": task, **given}
        db.execute("UPDATE run SET settings = json_set(settings, '$.task', json(?))",
                   (json.dumps(own),))  # fmt: skip
        db.execute("UPDATE run SET settings = '{' WHERE id = 2")  # damaged, and stays so
        db.execute("UPDATE run SET settings = '[1]' WHERE id = 3")
    first, *others = Store(folder).runs()
    tree = json.loads(first.settings)
    assert tree["task"] == own | expected
    assert (tree["evaluation"]["devices"], tree["evaluation"]["unseen"]) == (0, 5)
    assert [run.settings for run in others[:2]] == ["{", "[1]"]


def test_a_run_of_two_parts_goes_on_to_the_same_weights(tmp_path: Path):
    experiment = parse(SMALL, "SMALL")
    whole, undisturbed = execute(experiment, tmp_path / "undisturbed")
    begun, _ = in_pieces(experiment, tmp_path / "begun", [2], ends=False)
    store = Store(in_two_parts(begun, tmp_path / "old"))
    run = store.run("1")
    settings = described.settings(run)
    end, _ = runner.execute(settings, store, run, lambda done, doing: None)
    assert end.theta == undisturbed.theta
    # At the end on those that it was judged on before.
    last, expected = (
        [replace(one, part="unseen") for one in some.evaluations(1)
         if one.round == 4 and one.device < 1005]
        for some in (store, whole)
    )  # fmt: skip
    assert last == expected
    assert [one.round for one in store.judged(1)] == [0, 2, 4]


def test_a_run_of_which_no_classes_were_counted_is_the_same_without(tmp_path: Path):
    """Schema 13: a run that has ended has none, one that goes on will."""
    experiment = on_blobs(Blobs())
    whole, _ = execute(experiment, tmp_path / "store")
    in_pieces(experiment, tmp_path / "begun", [2], ends=False)
    expected = whole.evaluations(1)
    assert any(row.classes for row in expected)
    for name in ("store", "begun"):
        path = tmp_path / name / "runs.sqlite"
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("DROP TABLE class_count")
            db.execute("UPDATE run SET schema = 13")
            db.execute("PRAGMA user_version = 13")
    store = Store(tmp_path / "store")
    assert store.evaluations(1) == [replace(row, classes=()) for row in expected]
    assert store.class_counts(1, 4) == []
    assert "Classes of" not in printed(*summary.summary(store, store.run("1"), None))
    begun = Store(tmp_path / "begun")
    runner.execute(experiment, begun, begun.run("1"), lambda done, doing: None)
    assert begun.evaluations(1) == expected
