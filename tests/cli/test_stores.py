"""Commands on stores of every kind: what can be shown is shown, one line says what cannot."""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from conftest import SMALL
from older import as_old
from running import execute
from tinymetafed.cli import app, compare, run, terminal
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import parse
from tinymetafed.nodes.folder import private_directory
from tinymetafed.results import opening
from tinymetafed.results.store import Store

Call = Callable[..., Result]

READING = (
    ("runs",), ("show", "1"), ("report", "1"), ("energy", "1"),
    ("runs", "--json"), ("show", "1", "--json"), ("energy", "1", "--json"),
)  # fmt: skip
RESUMING = ("run", "--resume", "1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of a user's strategy that is not there any more, and a good one."""
    folder = tmp_path_factory.mktemp("whole")
    for _ in range(2):
        store, _ = execute(parse(SMALL, "SMALL"), folder)
        store.close()
    _change(
        folder, "UPDATE run SET settings = replace(settings, 'tinymetafed', 'mine') WHERE id = 1"
    )
    return folder


@pytest.fixture
def runs(whole: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(whole, tmp_path / "runs")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls a command on the store in `runs`, in this process; fails where it raises what would be
    a traceback."""
    monkeypatch.chdir(tmp_path)
    for module in (terminal, run, compare):
        monkeypatch.setattr(module, "STORE", Path("runs"))

    def invoke(*arguments: str) -> Result:
        result = CliRunner().invoke(app, arguments)
        error = result.exception
        assert error is None or isinstance(error, (TinyMetaFedError, SystemExit)), repr(error)
        if isinstance(error, TinyMetaFedError):
            assert len(str(error).splitlines()) == 1
        return result

    return invoke


def _change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "runs.sqlite", isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize("arguments", [*READING, RESUMING], ids=" ".join)
def test_a_run_that_this_version_cannot_read_is_alone(
    runs: Path, call: Call, arguments: tuple[str, ...], caplog: pytest.LogCaptureFixture
):
    result = call(*arguments)
    says = f"{result.output}{result.exception}{caplog.text}"
    assert "run 1" in says
    assert "strategy.name" in says
    assert "is unknown; use" in says
    if arguments[0] in ("runs", "show"):
        assert result.exit_code == 0
        assert "mine" in result.output
    if arguments == ("show", "1"):
        assert "4 of 4 rounds" in result.output
        assert '"outer_rate": 2.0' in result.output
    other = tuple("2" if one == "1" else one for one in arguments)
    if arguments[0] != "energy":  # nothing was counted on host nodes
        assert call(*other).exit_code == 0


@pytest.mark.parametrize("settings", ["", "{", "[]", "null", '{"strategy": 3, "nodes": []}'])
def test_settings_that_are_damaged_are_shown_as_they_are(runs: Path, call: Call, settings: str):
    _change(runs, f"UPDATE run SET settings = '{settings}', versions = '{settings}' WHERE id = 2")
    assert call("runs").exit_code == 0
    shown = call("show", "2")
    assert shown.exit_code == 0
    assert "4 of 4 rounds" in shown.output
    assert [one["rounds_done"] for one in json.loads(call("runs", "--json").stdout)] == [4, 4]
    assert json.loads(call("show", "2", "--json").stdout)["rounds_done"] == 4
    assert call("run", "--resume", "2").exit_code == 1


def test_commands_that_read_make_nothing(tmp_path: Path, call: Call):
    assert call("runs").exit_code == 0
    assert json.loads(call("runs", "--json").stdout) == []
    for arguments in (one for one in READING if one[0] != "runs"):
        assert "there is none yet" in str(call(*arguments).exception)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", ["text", "folder", "another", "newer", "empty"])
def test_what_is_no_store_of_this_version_is_left_alone(
    runs: Path, call: Call, kind: str, caplog: pytest.LogCaptureFixture
):
    file = runs / "runs.sqlite"
    if kind == "newer":
        _change(runs, "PRAGMA user_version = 99")
    else:
        file.unlink()
    if kind == "text":
        file.write_text("something else entirely, and long enough to be read" * 100)
    elif kind == "folder":
        file.mkdir()
    elif kind == "another":
        _change(runs, "CREATE TABLE people (name TEXT)")
    elif kind == "empty":
        file.touch()
    before = file.read_bytes() if file.is_file() else b""
    (runs.parent / "small.toml").write_text(SMALL)
    for arguments in (*READING, RESUMING, ("run", "small.toml")):
        result = call(*arguments)
        if kind == "empty":
            continue
        if kind == "newer" and arguments[0] in ("runs", "show"):
            assert result.exit_code == 0
            assert "made by a newer version of tinymetafed (schema 99" in caplog.text
        elif arguments[0] != "energy":
            assert result.exit_code == (
                0 if kind == "newer" and arguments[0] == "report" else 1
            ) or (arguments == ("report", "1"))
    if kind != "empty":
        assert (file.read_bytes() if file.is_file() else b"") == before


@pytest.mark.parametrize("page", range(1, 12))
def test_damaged_pages_are_one_line(runs: Path, call: Call, page: int):
    file = runs / "runs.sqlite"
    size = file.stat().st_size // 4096
    if page >= size:
        pytest.skip(f"the store has {size} pages")
    with file.open("r+b") as data:
        data.seek(4096 * page)
        data.write(b"\xa5" * 4096)
    for arguments in (*READING, RESUMING, ("show", "2"), ("report", "2")):
        call(*arguments)


def _entries(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def _read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for root, who may write what nobody may."""
    for place in (folder / "runs.sqlite", folder):
        place.chmod(stat.S_IMODE(place.stat().st_mode) & ~0o222)
    if os.access(folder, os.W_OK):
        monkeypatch.setattr(opening, "_writable", lambda path: False)


@pytest.mark.parametrize("kind", ["closed", "log", "older", "running"])
def test_a_store_that_cannot_be_written_is_shown(
    runs: Path, call: Call, kind: str, monkeypatch: pytest.MonkeyPatch
):
    """Also where a process was killed that wrote it, and where one writes it now."""
    writer = None
    if kind in ("log", "running"):
        writer = Store(runs)
        writer._db.execute("UPDATE run SET name = 'renamed'")
    if kind == "log":
        copied = shutil.copytree(runs, runs.with_name("copy"))
        (copied / "runs.sqlite-shm").unlink()
        assert writer is not None
        writer.close()
        shutil.rmtree(runs)
        copied.rename(runs)
    if kind == "older":
        _older(runs)
    before = _entries(runs)
    _read_only(runs, monkeypatch)
    listed = call("runs")
    assert listed.exit_code == 0
    assert ("renamed" in listed.output) == (kind in ("log", "running"))
    assert "4 of 4 rounds" in call("show", "2").output
    assert call("report", "2").exit_code == 0
    runs.chmod(0o700)
    if kind != "running":
        (runs / "2-test.png").unlink(missing_ok=True)
        (runs / "2-renamed.png").unlink(missing_ok=True)
        assert _entries(runs) == before


def test_the_copy_of_a_store_is_in_a_folder_that_goes_with_its_process(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Another command leaves it alone while the process lives, and removes it where it was
    killed."""
    _older(runs)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    program = (
        "from pathlib import Path; from tinymetafed.results import opening, store;"
        "opening._writable = lambda path: False;"
        f"found = store.Store(Path({str(runs)!r}), read_only=True); print(flush=True); input()"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
    )  # fmt: skip
    with reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        [copy] = (tmp_path / "tmp").glob("tinymetafed-*")
        with private_directory():
            assert (copy / "migrated.sqlite").exists()
        reader.kill()
    assert copy.exists()
    with private_directory():
        assert not copy.exists()


def _older(folder: Path) -> None:
    """The store as schema 6 had it."""
    new = folder.with_name("new")
    folder.rename(new)
    as_old(6, Store(new), folder)


def test_a_store_that_another_process_has_locked(
    runs: Path, call: Call, monkeypatch: pytest.MonkeyPatch
):
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *given, **named: connect(*given, **(named | {"timeout": 0}))
    )
    (runs.parent / "small.toml").write_text(SMALL)
    with closing(connect(runs / "runs.sqlite", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        assert call("runs").exit_code == 0
        result = call("run", "small.toml")
        assert "another process has locked the store" in str(result.exception)
        db.execute("ROLLBACK")
    assert call("run", "small.toml").exit_code == 0
