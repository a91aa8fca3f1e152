"""Runs are named, tagged, noted, found, and deleted with all that is stored of them."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from older import QEMU
from running import created
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.results.selecting import select
from tinymetafed.results.store import Labels, Store


@pytest.fixture
def store(compared: Store, tmp_path: Path) -> Store:
    """A copy of the compared runs, of schema 11."""
    shutil.copytree(compared.folder, tmp_path / "runs")
    with closing(sqlite3.connect(tmp_path / "runs/runs.sqlite", isolation_level=None)) as db:
        for table in ("tag", "note", "extension"):
            db.execute(f"DROP TABLE {table}")
        db.execute("PRAGMA user_version = 11")
    return Store(tmp_path / "runs")


def _numbers(store: Store, *where: str, tags: tuple[str, ...] = ()) -> list[int]:
    return [run.id for run in select(store, where, tags)]


def test_what_is_said_of_runs(store: Store):
    before = store.runs()
    assert {store.labels_of(run.id) for run in before} == {Labels()}
    store.edit([1, 2], tag=["b", "a", "a"], note="first\nsecond")
    store.edit([2, 3], name="best", tag=["a"], untag=["b"])
    store.edit([3], note="third")
    store.edit([1], note="")
    assert [store.labels_of(one) for one in (1, 2, 3, 4)] == [
        Labels(("a", "b"), ""), Labels(("a",), "first\nsecond"), Labels(("a",), "third"), Labels()
    ]  # fmt: skip
    for old, new in zip(before, store.runs(), strict=True):
        assert new.name == ("best" if new.id in (2, 3) else old.name)
        assert (new.settings, new.theta) == (old.settings, old.theta)


def test_a_run_by_its_name(store: Store):
    store.edit([4], name="fine")
    assert store.run("fine") == store.run("4")
    with pytest.raises(TinyMetaFedError, match=r"4 runs are called 'test'; give a number: 1, 2, 3"):
        store.run("test")
    with pytest.raises(TinyMetaFedError, match="no run 'fin'; there are: 1, 2"):
        store.run("fin")


def test_runs_by_their_settings(store: Store):
    assert _numbers(store) == [1, 2, 3, 4, 5, 6, 7]
    assert _numbers(store, "strategy.name=reptile") == [6, 7]
    assert _numbers(store, "strategy.name = 'reptile'", "seed=2") == [7]
    assert _numbers(store, "strategy.percent=10.0") == [4]
    assert _numbers(store, "model.layers.2.local=true", "seed=2") == [2, 7]
    assert _numbers(store, "model.layers.0.units=6.5") == []
    assert _numbers(store, "nodes.per_round=none", "nodes.count=2") == [6, 7]
    assert _numbers(store, "model.layers.2.local=1") == []
    store.edit([1, 2], name="best", tag=["x"])
    store.edit([2], tag=["y"])
    assert _numbers(store, "name=best") == [1, 2]
    assert _numbers(store, "name=best", tags=("x", "y")) == [2]


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("strategy.nam=x", "no run has such a setting; is it strategy.name"),
        ("percent=10", "no run has such a setting; is it strategy.percent?"),
        ("zzz=10", "no run has such a setting$"),
        ("strategy=reptile", "a table; give one of its keys: query, "),
        ("seed", "expected KEY=VALUE"),
        ("=1", "expected KEY=VALUE"),
    ],
)
def test_a_condition_that_is_wrong(store: Store, where: str, says: str):
    with pytest.raises(TinyMetaFedError, match=says):
        select(store, [where])
    with pytest.raises(TinyMetaFedError, match="no run has this tag; there is none yet"):
        select(store, tags=["z"])


def _rows(store: Store) -> dict[str, set[tuple[object, ...]]]:
    """Of each table that has rows by run; the run is the first column."""
    tables = [name for (name,) in store._all("SELECT name FROM sqlite_master WHERE type = 'table'")]
    columns = {one: [row[1] for row in store._all(f"PRAGMA table_info({one})")] for one in tables}
    return {one: set(store._all(f"SELECT * FROM {one}")) for one in tables if "run" in columns[one]}


def test_a_deleted_run_leaves_nothing(store: Store):
    store.edit([1, QEMU], tag=["x"], note="y")
    before = _rows(store)
    assert {"profile", "evaluation", "node_round", "tag", "note"} <= {
        name for name, rows in before.items() if any(row[0] == QEMU for row in rows)
    }
    size = store.path.stat().st_size
    store.delete([QEMU, 2])
    assert [run.id for run in store.runs()] == [1, 3, 4, 5, 7]
    for name, rows in _rows(store).items():
        assert rows == {row for row in before[name] if row[0] not in (QEMU, 2)}
    assert store.shrink()
    assert store.path.stat().st_size < size
    assert [run.id for run in Store(store.folder).runs()] == [1, 3, 4, 5, 7]
    _, run = created(store.folder)  # a number is not given again
    assert run == 8


def test_a_file_that_is_in_use_keeps_its_size(store: Store):
    reader = Store(store.folder, read_only=True)
    with reader.snapshot():
        reader.runs()
        store.delete([1])
        assert not store.shrink()
        assert len(reader.runs()) == 7
    assert store.shrink()


GOING_ON = """
import sys
from pathlib import Path
from tinymetafed.results.store import Store
with Store(Path(sys.argv[1])).going_on(2):
    print(flush=True)
    input()
"""


def test_a_run_that_goes_on_elsewhere_is_not_deleted(store: Store):
    holder = subprocess.Popen(
        [sys.executable, "-c", GOING_ON, str(store.folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(TinyMetaFedError, match="run 2 is going on in another process"):
            store.delete([1, 2])
        with (
            pytest.raises(TinyMetaFedError, match="run 2 is going on"),
            store.going_on(2),
        ):
            pass
        assert len(store.runs()) == 7  # all or none
        with store.going_on(3):
            pass
        holder.kill()
        holder.wait()
    store.delete([1, 2])
    assert len(store.runs()) == 5
