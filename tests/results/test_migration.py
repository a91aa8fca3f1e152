"""A store of every older schema becomes today's, as far as its data go, or stays as it was."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import astuple
from pathlib import Path

import pytest

from conftest import SMALL
from older import QEMU, as_old
from printing import printed
from running import execute, ledger
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import runner
from tinymetafed.experiments.experiment import parse
from tinymetafed.report import summary
from tinymetafed.results import migration
from tinymetafed.results.store import Store


@pytest.mark.parametrize("version", range(1, 8))
def test_what_an_older_store_has_is_there(version: int, compared: Store, tmp_path: Path):
    store = Store(as_old(version, compared, tmp_path / "old"))
    old, new = store.runs(), compared.runs()
    assert [run.schema for run in old] == [version] * len(new)
    for one, two in zip(old, new, strict=True):
        assert (one.id, one.name, one.settings, one.theta) == (
            two.id, two.name, two.settings, two.theta,
        )  # fmt: skip
        assert store.evaluations(one.id) == compared.evaluations(two.id)
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
