"""`tinymetafed tune`: what it prints and writes, and what compare makes of it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from calling import call
from comparing import write
from tinymetafed.experiments import comparison, tuning
from tinymetafed.experiments.trials import Tuning
from tuning import TUNE, alone

SPACE = """[tune]
seeds = [11]
[tune.space]
rate = { choices = [0.01, 0.02] }
epochs = { choices = [1, 2, 3] }
batch = { searched = false }
global_rate = { low = 0.001, high = 0.1, log = true }
"""


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with two.toml, which says what is searched."""
    write(tmp_path, ("[[tasks]]", f"{SPACE}[[tasks]]"))
    return tmp_path


def test_what_is_found_is_shown_and_written_and_taken_up(two: Path):
    text = (two / "two.toml").read_text()
    (two / "two.toml").write_text(f'tuned = "chosen.toml"\n{text}')
    too_early = call(two, "compare", "two.toml")
    assert too_early.stderr == (
        "error: two.toml: tuned: chosen.toml: no such file; 'tinymetafed tune two.toml' writes it\n"
    )
    ended = call(two, "tune", "two.toml", "--trials", "3", "--jobs", "2")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "sine: loss of devices for validation, after adaptation" in ended.stdout
    assert "3 complete" in ended.stdout
    assert ended.stdout.endswith("Settings written to chosen.toml\n")
    written = (two / "chosen.toml").read_text()
    assert written.startswith("# Found by 'tinymetafed tune two.toml --trials 3', the best of each")
    assert "# on the seeds 11. tinymetafed 0." in written
    assert "unseen depends on the seed" not in written
    settings, path = comparison.parse(two / "two.toml")
    digests = comparison.digests(comparison.untuned(settings, path))
    assert f'\n"sine" = "{digests["sine"]}"\n' in written
    assert not (two / "runs/runs.sqlite").exists()

    found = json.loads(call(two, "tune", "two.toml", "--show", "--json").stdout)
    assert [(one["strategy"], len(one["trials"])) for one in found] == [("few", 3), ("Reptile", 3)]
    _, cells = comparison.read(two / "two.toml")
    for one in found:
        best = one["trials"][one["best"]]
        assert best["value"] == min(trial["value"] for trial in one["trials"])
        for cell in cells:
            if cell.strategy == one["strategy"]:
                strategy = cell.experiment.strategy.model_dump()
                assert {key: strategy[key] for key in best["settings"]} == best["settings"]
    compared = call(two, "compare", "two.toml", "--report", "page.html")
    assert compared.returncode == 0
    assert "settings of the strategies as tuned (chosen.toml)" in (two / "page.html").read_text()
    assert compared.stdout.startswith("Settings of the strategies: as tuned, chosen.toml\n")


def test_before_any_trial_nothing_is_made(two: Path):
    shown = call(two, "tune", "two.toml", "--show")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "none" in shown.stdout
    assert not (two / "runs").exists()


def test_what_cannot_be_written_is_said_before_any_trial(two: Path):
    for output, says in (("two.toml/x", "Not a directory"), ("runs", "Is a directory")):
        (two / "runs").mkdir(exist_ok=True)
        ended = call(two, "tune", "two.toml", "-o", output)
        assert ended.returncode == 1
        assert ended.stderr.endswith(f"cannot be written: {says}\n")
        assert ended.stderr.count("\n") == 1
        assert not list((two / "runs").iterdir())


def test_json_is_of_what_is_shown(two: Path):
    ended = call(two, "tune", "two.toml", "--json")
    assert ended.returncode == 2
    assert "--json goes with --show" in ended.stderr


def test_one_that_diverges_whatever_is_tried(tmp_path: Path):
    wild = "epochs = 2\nrate = 10\nspace = { rate = { choices = [9, 10] } }"
    write(tmp_path, TUNE, ("epochs = 2", wild))
    ended = call(tmp_path, "tune", "two.toml", "--trials", "2")
    assert ended.returncode == 1
    assert ended.stderr == (
        "error: sine × Reptile: none of its trials is complete; give it another space\n"
    )
    assert "2 diverged" in ended.stdout
    assert not (tmp_path / "tuned/two.toml").exists()


def test_the_extra_is_named_where_it_is_missing(two: Path):
    code = "import sys; sys.modules['optuna'] = None; from tinymetafed import cli; cli.main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, "tune", "two.toml"],
        cwd=two, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "error: tuning needs the extra tune (optuna is not installed): pip install "
        "'tinymetafed[tune]'\n"
    )


# Sent a signal by itself when a search says that it has done a trial, and is at the next.
INTERRUPTED = """
import os, signal, sys
from tinymetafed import cli
from tinymetafed.experiments import scheduler

receive = scheduler.SideBySide._receive

def receive_and_signal(self, i, pipe, progress):
    def seen(i, done, doing):
        progress(i, done, doing)
        if done == 1 and "round 2" in doing:
            os.kill(os.getpid(), {how})
    return receive(self, i, pipe, seen)

signal.signal(signal.SIGINT, signal.default_int_handler)
scheduler.SideBySide._receive = receive_and_signal
cli.main()
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_stopped_goes_on(two: Path, how: signal.Signals):
    arguments = "tune", "two.toml", "--trials", "3"
    stopped = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(how=int(how)), *arguments],
        cwd=two, capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip
    if how == signal.SIGKILL:
        assert stopped.returncode == -how
    else:
        assert stopped.returncode == 130
        assert stopped.stderr == "Interrupted. The same command goes on where it was.\n"
    assert not (two / "tuned/two.toml").exists()
    went_on = call(two, *arguments)
    assert went_on.returncode == 0
    assert went_on.stdout.endswith(
        'takes them up by a line before its tables: tuned = "tuned/two.toml"\n'
    )
    _, _, found = tuning.read(two / "two.toml")
    for one in Tuning(found, None, two / "runs").results:
        assert alone(one.search, two / one.search.strategy, 3) == one.trials
