"""A project that `tinymetafed init` writes runs at once, all of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from calling import call
from tinymetafed.places import TEMPLATES

TEMPLATE = TEMPLATES / "project"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("init")
    done = call(folder, "init", "mine")
    assert done.returncode == 0, done.stderr
    files = {one.removeprefix("mine/") for one in done.stdout.splitlines()[:-1]}
    there = {str(one.relative_to(folder / "mine")) for one in (folder / "mine").rglob("*")}
    assert files <= there
    assert {"pumps.csv", "pumps.robot", ".gitignore", ".github/workflows/ci.yml"} <= files
    return folder / "mine"


def run(project: Path, command: str) -> None:
    """As a shell does where the package is installed, with its entry point of pytest."""
    program, *arguments = command.split()
    plugin = ["-p", "tinymetafed.pytest_plugin"] if program == "pytest" else []

    done = subprocess.run(
        [sys.executable, "-m", program, *plugin, *arguments], cwd=project, check=False,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_step_of_the_workflow(project: Path):
    steps = re.findall(r"- run: (.*)", (project / ".github/workflows/ci.yml").read_text())
    ours = [one for one in steps if not one.startswith(("sudo apt-get ", "pip install "))]
    assert [one.split()[0] for one in ours] == ["tinymetafed", "tinymetafed", "pytest", "robot"]
    for step in ours:
        run(project, step)
    assert 'failures="0"' in (project / "junit.xml").read_text()


def test_the_comparison_and_its_report(project: Path):
    text = (project / "comparison.toml").read_text()
    (project / "short.toml").write_text(text.replace("seeds = [1, 2, 3]", "seeds = [1, 2]"))
    run(project, "tinymetafed compare short.toml")
    run(project, "tinymetafed report short.toml -o report.html")
    page = (project / "report.html").read_text()
    labels = re.findall(r'label = "(.*)"', text)
    assert len(labels) >= 2
    assert all(f">{label}</option>" in page for label in labels[1:])  # of the strategies


def test_each_command_and_file_of_the_readme_is_there(project: Path):
    text = (project / "README.md").read_text()
    named = re.findall(r"`([\w./]+\.\w+)`", text)
    assert len(named) >= 6
    assert all((project / name).is_file() for name in named)
    run(project, "tinymetafed data pumps.toml")


def test_the_strategy_is_a_short_file():
    assert (TEMPLATE / "strategy.py").read_text().count("\n") < 40


def test_what_is_there_is_not_overwritten(tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name, what in (("full", "is not empty"), ("file", "is no folder")):
        done = call(tmp_path, "init", name)
        assert done.returncode == 1
        assert done.stderr == f"error: {name}: {what}; give one that is not there yet\n"
    assert [one.name for one in (tmp_path / "full").iterdir()] == ["mine"]
    assert call(tmp_path, "init", "empty").returncode == 0
    assert (tmp_path / "empty/pumps.csv").is_file()


def test_what_cannot_be_written_is_one_line(tmp_path: Path):
    done = call(tmp_path, "init", "/proc/mine")
    assert done.returncode == 1
    assert done.stderr.startswith("error: /proc/mine: cannot be written: ")
    assert done.stderr.count("\n") == 1
