"""The list of runs, their names, tags and notes, more rounds, grids, and how runs are deleted."""

import io
import json
from pathlib import Path

import pytest

from calling import call
from conftest import SMALL
from tinymetafed import cli
from tinymetafed.cli import compare, run, runs, terminal
from tinymetafed.results.store import Store

FEDAVG = "strategy={name='fedavg', query=8, batch=3, epochs=2}"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store: a grid of four runs, one of them with more rounds since."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "small.toml").write_text(SMALL)
    grid = ("--set", "seed=1,2", "--set", "nodes.count=2,3", "--set", FEDAVG)
    called = call(folder, "sweep", "small.toml", *grid, "--tag", "grid", "--note", "a\nb\x1b[2J")
    assert called.returncode == 0, called.stderr
    assert "count=2" in called.stdout
    assert "until" not in called.stdout
    number = _runs(folder, "--where", "seed=2", "--where", "nodes.count=3")[0]["run"]
    called = call(folder, "run", "--resume", str(number), "--rounds", "6")
    assert called.returncode == 0, called.stderr
    assert "Rounds were added: there were to be 4, now 6." in called.stdout
    return folder


def _runs(folder: Path, *arguments: str) -> list[dict[str, object]]:
    called = call(folder, "runs", *arguments, "--json")
    assert called.returncode == 0, called.stderr
    return json.loads(called.stdout)


def test_a_grid_is_tagged_and_goes_on(ran: Path):
    assert [one["tags"] for one in _runs(ran)] == [["grid"]] * 4
    assert len(_runs(ran, "--tag", "grid", "--where", "nodes.count=2")) == 2
    again = call(
        ran, "sweep", "small.toml", "--set", "seed=1,2", "--set", FEDAVG, "--set", "nodes.count=2",
        "--target", "100",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "until loss ≤ 100 after adaptation" in again.stdout
    assert len(_runs(ran)) == 4


def test_rounds_that_were_added_are_said(ran: Path):
    [one] = [one for one in _runs(ran) if one["rounds"] == 6]
    assert (one["rounds_done"], one["rounds_added_after"]) == (6, [4])
    assert "6/6 (was 4)" in call(ran, "runs").stdout
    assert "there were to be 4, now 6" in call(ran, "show", str(one["run"])).stdout
    called = call(ran, "report", str(one["run"]), "-o", "page.html")
    assert called.returncode == 0, called.stderr
    assert "Rounds were added: there were to be 4, now 6." in (ran / "page.html").read_text()


def test_a_note_has_no_power_over_the_terminal(ran: Path):
    shown = call(ran, "show", "1").stdout
    assert "Tags: grid\na\nb\\x1b[2J\n" in shown
    assert _runs(ran)[0]["note"] == "a\nb\x1b[2J"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("run", "--resume", "1", "--name", "x"), 2, "'tinymetafed runs edit' changes others"),
        (("run", "--resume", "1", "--set", "rounds=9"), 2, "--rounds gives that more rounds"),
        (("run", "small.toml", "--rounds", "9"), 2, "a new run has --set rounds=N"),
        (("run", "small.toml", "--tag", "a b"), 2, "use up to 64 letters"),
        (("run", "small.toml", "--name", "7"), 2, "no number"),
        (("run", "--resume", "1", "--rounds", "3"), 1, "--rounds: 3, but run 1 has 4; give more"),
        (("runs", "edit", "1"), 2, "give --name, --tag, --untag or --note"),
        (("runs", "edit", "nobody", "--tag", "x"), 1, "no run 'nobody'; there are: 1, 2, 3, 4"),
        (("runs", "--json", "delete", "1"), 2, "options of 'runs delete' follow it"),
        (("runs", "delete", "1"), 1, "error: nothing was deleted: nobody has said yes; give --yes"),
        (("runs", "delete", "1", "9", "--yes"), 1, "no run '9'"),
        (("show", "test"), 1, "4 runs are called 'test'; give a number: 1, 2, 3, 4"),
        (("sweep", "small.toml"), 1, "one run; give several values"),
    ],
)
def test_what_is_refused_changes_nothing(
    ran: Path,
    arguments: tuple[str, ...],
    status: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(ran)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.argv", ["tinymetafed", *arguments])
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for module in (compare, run, runs, terminal):
        monkeypatch.setattr(module, "STORE", Path("runs"))
    before = Store(Path("runs"), read_only=True).runs()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == status
    assert says in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert Store(Path("runs"), read_only=True).runs() == before


def test_a_run_is_renamed_and_deleted(folder: Path):
    for name in ("one", "two"):
        assert call(folder, "run", "small.toml", "--name", name, "--tag", "x").returncode == 0
    edited = call(
        folder, "runs", "edit", "one", "--name", "best", "--untag", "x", "--tag", "y",
        "--note", "that is it",
    )  # fmt: skip
    assert edited.returncode == 0, edited.stderr
    assert [(one["name"], one["tags"], one["note"]) for one in _runs(folder)] == [
        ("best", ["y"], "that is it"), ("two", ["x"], "")
    ]  # fmt: skip
    assert not (folder / "runs/1-one.png").exists()
    assert call(folder, "show", "best").returncode == 0
    assert (folder / "runs/1-best.png").exists()
    deleted = call(folder, "runs", "delete", "best", "--yes")
    assert deleted.returncode == 0, deleted.stderr
    assert "Deleted 1 run." in deleted.stdout
    assert [one["name"] for one in _runs(folder)] == ["two"]
    assert sorted(one.name for one in (folder / "runs").iterdir()) == [
        "2-two.png", "runs.lock", "runs.sqlite"
    ]  # fmt: skip
