"""Running an experiment, and going on with a run that was stopped."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from calling import call
from tinymetafed.places import PROJECT


def test_run_show_and_list(folder: Path):
    ran = call(folder, "run", "small.toml", "--profile")
    assert ran.returncode == 0, ran.stderr
    for text in ("5 validation", "5 unseen", "after 4 rounds", "bytes up", "Stored in runs/"):
        assert text in ran.stdout
    assert "the orchestrator's own code" in ran.stdout
    assert (folder / "runs/1-test.png").read_bytes().startswith(b"\x89PNG")
    assert "4 of 4 rounds" in call(folder, "show").stdout
    assert "4/4" in call(folder, "runs").stdout


def test_a_model_that_does_not_fit_says_the_bytes(folder: Path):
    called = call(folder, "run", "small.toml", "--set", "model.layers=[{units=30000},{units=1}]")
    assert "bytes needed, 221184 available" in called.stderr


def test_arguments_that_do_not_go_together(folder: Path):
    for arguments in (("run",), ("run", "small.toml", "--resume", "1")):
        called = call(folder, *arguments)
        assert called.returncode == 2
        assert "either an experiment file or --resume" in called.stderr


def test_data_that_is_wrong_is_said_before_anything_starts(folder: Path):
    experiment = str(PROJECT / "experiments/iris.toml")
    (folder / "iris.csv").write_text("5.1,3.5,1.4,0.2,0\n")
    for place, says in (
        ("nowhere", "error: TMF_DATA: nowhere is no folder\n"),
        (".", "error: iris.csv: truncated or altered: its SHA-256 is "),
    ):
        called = call(folder, "run", experiment, TMF_DATA=place)
        assert called.returncode == 1
        assert called.stderr.startswith(says)
        assert len(called.stderr.splitlines()) == 1
        assert called.stdout == ""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_where_it_was(folder: Path, how: signal.Signals):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(int(how))],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "Interrupted. 'tinymetafed run --resume 1' goes on where it was.\n"
    assert "2/4" in call(folder, "runs").stdout
    gone_on = call(folder, "run", "--resume", "last")
    assert "4 of 4 rounds" in gone_on.stdout


# The command line, sent a signal by itself when two rounds are in the store.
INTERRUPTED = """
import os, signal, sys
from tinymetafed import cli
from tinymetafed.results import store


commit = store.Store.commit

def commit_and_signal(self, run, done, *arguments, **others):
    commit(self, run, done, *arguments, **others)
    if done == 2:
        os.kill(os.getpid(), how)

how = int(sys.argv[1])
# A background job of a shell is begun with SIGINT ignored; SIGTERM has to end it all the same.
ignored = how == signal.SIGTERM
signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
store.Store.commit = commit_and_signal
sys.argv[1:] = ["run", "small.toml"]
cli.main()
"""


def test_a_command_waits_for_no_library_that_it_does_not_use():
    """Each of these takes as long to import as all else that shows a run."""
    libraries = "capstone", "elftools", "matplotlib", "pooch", "scipy", "jinja2", "ray"
    program = f"import sys, tinymetafed.cli; print({set(libraries)} & {{*sys.modules}})"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == "set()\n"
