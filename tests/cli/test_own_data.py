"""Data of a user's own from the command line: shown, learnt from, and not changed in a run."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from calling import call
from recorded import recorded, write
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import comparison as comparing
from tinymetafed.experiments.experiment import read
from tinymetafed.places import PROJECT
from tinymetafed.report import described
from tinymetafed.results.store import Store
from tinymetafed.tasks.base import Part

EXPERIMENT = """
name = "mine"
rounds = 4
nodes = { backend = "host", count = 2 }
devices = { seen = 3 }
task = { name = "table", path = "data/t.csv", target = "activity", device_column = "user" }
strategy = { name = "reptile", query = 10, batch = 5 }
evaluation = { devices = 1, every = 2, support = 5, steps = 2, query = 20 }
[model]
loss = "softmax_cross_entropy"
layers = [{ units = 4, activation = "relu" }, { units = 3 }]
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with an experiment in exp/mine.toml and its data in exp/data/t.csv."""
    folder = tmp_path / "exp" / "data"
    folder.mkdir(parents=True)
    write(folder / "t.csv", recorded().rows())
    (tmp_path / "exp/mine.toml").write_text(EXPERIMENT)
    return tmp_path


def test_what_devices_hold_is_shown(mine: Path):
    called = call(mine, "data", "exp/mine.toml", "-o", "mine.png")
    assert called.returncode == 0, called.stderr
    lines = [" ".join(line.replace("│", " ").split()) for line in called.stdout.splitlines()]
    assert sum(line.startswith("seen user ") for line in lines) == 3
    for part in ("validation", "unseen"):
        [line] = [line for line in lines if line.startswith(f"{part} user ")]
        assert " 36 12 12 12 " in line
    assert "There are 3 seen, 1 for validation and 1 unseen." in lines
    digest = sha256((mine / "exp/data/t.csv").read_bytes()).hexdigest()
    assert f"t.csv: sha256:{digest}" in lines
    others = [line for line in lines if line.startswith(("task.validation: ", "task.unseen: "))]
    names = ", ".join(line.split(": ")[1] for line in others)
    low = recorded().values[~_is(names)].min(axis=0)
    assert any(line.startswith(f"ay {low[1]:.4g} ") for line in lines)
    with Image.open(mine / "mine.png") as image:
        assert image.width > 500
    assert not (mine / "runs").exists()


def _is(names: str) -> NDArray[np.bool_]:
    return np.isin(recorded().users, names.split(", "))


@pytest.mark.parametrize("name", ["demo", "smoke"])
def test_what_is_made_is_shown_too(tmp_path: Path, name: str):
    called = call(tmp_path, "data", str(PROJECT / f"experiments/{name}.toml"), "-o", "made.png",
                  "--devices", "2")  # fmt: skip
    assert called.returncode == 0, called.stderr
    assert "as much as they are asked for" in called.stdout
    with Image.open(tmp_path / "made.png") as image:
        assert image.width > 500


def test_a_run_knows_its_data_and_goes_on_with_no_other(
    mine: Path, monkeypatch: pytest.MonkeyPatch
):
    path = mine / "exp/data/t.csv"
    called = call(mine, "run", "exp/mine.toml")
    assert called.returncode == 0, called.stderr
    (run,) = Store(mine / "runs", read_only=True).runs()
    before = sha256(path.read_bytes()).hexdigest()
    assert json.loads(run.versions)["t.csv"] == f"sha256:{before}"
    experiment = described.settings(run)
    assert json.loads(run.settings)["task"]["path"] == str(path)
    assert experiment.task == read(mine / "exp/mine.toml").task
    elsewhere = mine / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert experiment.task.prepare(1)["t.csv"] == f"sha256:{before}"
    path.write_text(path.read_text().replace("walk", "hop", 1))
    after = sha256(path.read_bytes()).hexdigest()
    called = call(elsewhere, "run", "--resume", "1", TMF_RUNS=str(mine / "runs"))
    assert (called.returncode, called.stderr) == (
        1, f"error: {path}: changed since the run was begun: its SHA-256 is {after}, not {before}; "
        "put the data back, or run the experiment anew\n",
    )  # fmt: skip
    path.unlink()
    with pytest.raises(TinyMetaFedError, match=f"{path}: cannot be read: No such file"):
        experiment.task.prepare(2)
    called = call(elsewhere, "show", "1", TMF_RUNS=str(mine / "runs"))
    assert called.returncode == 0, called.stderr


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("task.target=mood", "data/t.csv: no column 'mood'; there are: ax, ay, activity, user"),
        ("task.path=t.csv", "t.csv: cannot be read: No such file or directory"),
        ("task.colour=red", "mine.toml: task.colour: unknown key; known are: "),
        ("task.found={}", "mine.toml: task.found: a run's row has it; leave it out"),
        ("task.unseen=0", "mine.toml: task.unseen: 0 is not allowed; use a number more than 0 "),
        (
            "task.unseen_devices=['Bob']", "mine.toml: task.unseen_devices: 'Bob' is none of them; "
            "there are: user 0, ",
        ),
        (
            "strategy.query=40", "mine.toml: strategy.query: 0 + 40 samples of a device, but the "
            "task has 36: user 0 has no more; task.min_samples leaves out those that have too few",
        ),
        ("devices.seen=4", "mine.toml: devices.seen: 4 seen devices, but the task has data for 3"),
        (
            "model.layers=[{units=2}]", "mine.toml: model.layers.0: the task has 3 outputs, the "
            "last layer 2",
        ),
        (
            "task.partition={name='iid', devices=1}", "mine.toml: task.partition.devices: 1 is not "
            "allowed; use a whole number at least 2",
        ),
        (
            "task.partition={name='fair', devices=3}", "mine.toml: task.partition.name: 'fair' is "
            "unknown; use ",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(mine: Path, change: str, problem: str):
    with pytest.raises(TinyMetaFedError) as caught:
        read(mine / "exp/mine.toml", (change,))
    assert str(caught.value).startswith(f"{mine}/exp/{problem}")
    assert len(str(caught.value).splitlines()) == 1


def test_windows_that_overlap_count_for_more_than_one(mine: Path):
    changes = (
        "task.name=signals", "task.window=4", "task.stride=2", "strategy.query=10",
        "evaluation.support=3", "evaluation.query=7",
    )  # fmt: skip
    with pytest.raises(TinyMetaFedError) as caught:
        read(mine / "exp/mine.toml", changes)
    assert str(caught.value) == (
        f"{mine}/exp/mine.toml: evaluation.query: 3 · 3, since windows overlap, + 7 samples of a "
        "device, but the task has 15: user 0 has no more; task.min_samples leaves out those that "
        "have too few"
    )
    experiment = read(mine / "exp/mine.toml", (*changes, "evaluation.query=6"))
    parts: tuple[tuple[int, Part], ...] = ((3, "validation"), (4, "unseen"))
    for number, part in parts:
        support, query = experiment.task.device(1, number, 3, 6, part=part)
        assert (len(support), len(query)) == (3, 6)


def test_a_cell_that_is_wrong_ends_the_run_before_it_begins(mine: Path):
    path = mine / "exp/data/t.csv"
    path.write_text(path.read_text() + "1,red,walk,user 0\n")
    called = call(mine, "run", "exp/mine.toml")
    assert (called.returncode, called.stderr) == (
        1, f"error: {path}: line 182, column ay: 'red' is no number\n"
    )  # fmt: skip
    assert not Store(mine / "runs").runs()


def test_a_comparison_reads_data_beside_its_experiments(mine: Path):
    comparison = """
name = "compared"
seeds = [1]
tasks = [{ label = "mine", experiment = "exp/mine.toml", target = 0.5 }]
strategies = [{ label = "Reptile", name = "reptile" }]
"""
    (mine / "compared.toml").write_text(comparison)
    _, (cell,) = comparing.read(mine / "compared.toml")
    assert cell.experiment.task == read(mine / "exp/mine.toml").task
