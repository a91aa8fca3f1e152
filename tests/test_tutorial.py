"""Who follows docs/tutorial.md gets there. `make dist` does so with the wheel that it has built."""

import os
import sys
from pathlib import Path

import tinymetafed as tmf
from following import follow


def test_the_tutorial(tmp_path: Path):
    here = str(Path(sys.executable).parent)
    path = os.pathsep.join([here, os.environ["PATH"]])
    names = follow(tmp_path, os.environ | {"PATH": path})
    assert names == ["digits_csv.py", "digits.toml", "momentum.py", "two.toml"]
    assert (tmp_path / "momentum.py").read_text().count("\n") < 40
    runs = tmf.runs(store=tmp_path / "runs")
    assert [(one.name, one.done) for one in runs[:2]] == [("digits", 60), ("digits", 5)]
    assert len(runs) == 2 + 2 * 3
    assert (tmp_path / "digits.png").stat().st_size > 1000
    report = (tmp_path / "report.html").read_text()
    assert '"FedAvgM"' in report or ">FedAvgM<" in report
    assert "2 strategies, 3 seeds" in report
