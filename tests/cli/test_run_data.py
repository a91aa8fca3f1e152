"""Running an experiment on a table of one's own: what the user reads of it."""

import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from tinymetafed.places import PROJECT

# The command line, with the cards of the working folder.
WITH_CARDS = """
import sys
from pathlib import Path
from tinymetafed import cli
from tinymetafed.tasks import datasets

datasets.FOLDER, datasets.CACHE = Path.cwd(), Path.cwd() / "cache"
cli.main()
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs iris.toml for two rounds on a table with these cells of column 2."""

    def run(*cells: str) -> subprocess.CompletedProcess[str]:
        rng = np.random.default_rng(1)
        lines = [f"{rng.normal():.3f},{cells[i % len(cells)]},0,{i},{i % 3}" for i in range(150)]
        content = "\n".join(["a,b,c,d,class", *lines]).encode()
        (tmp_path / "mine.csv").write_bytes(content)
        card = (PROJECT / "datasets/iris.toml").read_text().replace("iris.csv", "mine.csv")
        known = card.rpartition('sha256 = "')[2][:64]
        (tmp_path / "iris.toml").write_text(card.replace(known, sha256(content).hexdigest()))
        settings = {"rounds": "2", "evaluation.every": "2", "evaluation.devices": "2"}
        overrides = [part for key in settings for part in ("--set", f"{key}={settings[key]}")]
        experiment = str(PROJECT / "experiments/iris.toml")
        return subprocess.run(
            [sys.executable, "-c", WITH_CARDS, "run", experiment, *overrides],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
            env=os.environ | {"COLUMNS": "120", "NO_COLOR": "1", "TMF_DATA": str(tmp_path)},
        )  # fmt: skip

    return run


def test_a_missing_value_ends_the_run_before_it_starts(run: Run, tmp_path: Path):
    called = run("1", "nan")
    assert called.returncode == 1
    assert called.stderr == (
        f"error: {tmp_path}/mine.csv: line 3, column 2 ('b'): the value is missing; enter it, or "
        'set task.missing to "drop" or "mean"\n'
    )


def test_constant_columns_are_told_once_and_named(run: Run, tmp_path: Path):
    called = run("1", "2")
    assert called.returncode == 0, called.stderr
    said = " ".join(called.stderr.split())
    assert said == (
        f"WARNING {tmp_path}/mine.csv: constant in the rows of the seen devices, so 0 in every "
        "sample: column 3 ('c')"
    )
