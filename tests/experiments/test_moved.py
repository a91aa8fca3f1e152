"""Runs of a folder are there when it has been moved, as long as its files are the same."""

import shutil
from pathlib import Path

import pytest

import owning
from comparing import execute, write
from tinymetafed.experiments import comparison
from tinymetafed.experiments.moved import placeless
from tinymetafed.experiments.scheduler import Comparison
from tinymetafed.report import compared
from tinymetafed.results.store import Store

TABLE = (
    "target = 100",
    "target = 100\nchanges.task = { name = 'table', path = 'rows.csv', device_column = 'device', "
    "target = 'y', regression = true }\nchanges.devices.seen = 4\n"
    "changes.evaluation = { devices = 1, unseen = 1, support = 4, query = 6 }",
)
OWN = (
    ('name = "reptile"', 'name = "./momentum.py:Momentum"'),
    ("tasks.strategies.reptile", "tasks.strategies.'./momentum.py:Momentum'"),
)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with a comparison on its own data, whose runs are in its store."""
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = (f"d{i % 8},{i},{i * 2}" for i in range(80))
    (folder / "rows.csv").write_text("\n".join(["device,x,y", *rows]) + "\n")
    owning.write(folder)
    path = write(folder, TABLE, *OWN)
    _, done, _ = execute(folder, comparison.read(path)[1])
    assert not done.failed
    return folder


def missing(folder: Path) -> tuple[int, int]:
    """How many runs `compare` would do, and how many `report` has not."""
    _, cells = comparison.read(folder / "two.toml")
    store = Store(folder / "runs")
    found = compared.find(cells, store)
    return len(Comparison(cells, store).unfinished), sum(run is None for run in found)


def test_runs_are_found_in_a_folder_that_was_moved(mine: Path):
    assert missing(mine) == (0, 0)
    moved = mine.parent / "moved"
    mine.rename(moved)
    assert missing(moved) == (0, 0)


def test_runs_of_other_files_are_not(mine: Path):
    moved = mine.parent / "moved"
    shutil.copytree(mine, moved)
    with (moved / "rows.csv").open("a") as file:
        file.write("d0,80,160\n")
    assert missing(moved) == (4, 4)
    shutil.copy(mine / "rows.csv", moved)
    with (moved / "momentum.py").open("a") as file:
        file.write("# changed\n")
    assert missing(moved)[0] == 2


def test_what_is_no_settings_stays_as_it_is():
    for text in ("{", "[]", '{"task": 1}', '{"task": {"path": "/a"}}'):
        assert placeless(text) == text
