"""Firmware faults on the command line: exit status, show, report."""

import io
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from calling import call
from conftest import MakeExperiment
from planting import line, plant
from running import execute
from tinymetafed.report import events
from tinymetafed.results.store import Event, Store

# As `tinymetafed`, but for the image that nodes run.
FAULTY = """
import sys
from pathlib import Path
from tinymetafed import cli
from tinymetafed.nodes import backends
backends.MPS2_IMAGE = Path(sys.argv.pop(1))
cli.main()
"""
CHANGES = ("nodes.backend=qemu", "nodes.count=1", "rounds=3", "evaluation.devices=1")


def _faulty(folder: Path, image: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FAULTY, str(image), *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_a_run_with_faults_exits_with_3_and_names_them(folder: Path):
    image = plant("bad_write", folder)
    changes = [word for change in CHANGES for word in ("--set", change)]
    ran = _faulty(folder, image, "run", "small.toml", *changes)
    assert ran.returncode == 3
    place = f"HardFault in bad_write, planted_faults.c:{line('line: bad_write')}"
    assert f"Run 1: 2 firmware faults, the first on node-0 in round 2: {place}" in ran.stderr
    shown = call(folder, "show", "1", COLUMNS="200")
    assert shown.returncode == 0
    assert "Events: 4" in shown.stdout
    assert f"fault   │ {place}" in shown.stdout
    assert "r0 0x" in shown.stdout
    assert "pc 0x" in shown.stdout
    assert call(folder, "report", "1", "-o", "page.html", "--figures", "parts").returncode == 0
    assert place in (folder / "page.html").read_text()
    assert place in (folder / "parts/events.csv").read_text()
    assert (folder / "parts/events-by-kind.csv").read_text() == "run,fault,restart\n1,2,2\n"

    tolerated = _faulty(
        folder, image, "run", "small.toml", *changes, "--set", "faults.tolerate=true"
    )
    assert tolerated.returncode == 0
    assert "firmware fault" not in tolerated.stderr
    assert "Events: 4" in call(folder, "show", "2").stdout


def test_a_fault_that_ends_a_run_exits_with_3(folder: Path):
    image = plant("undefined", folder, 0)
    changes = [word for change in CHANGES for word in ("--set", change)]
    ran = _faulty(folder, image, "run", "small.toml", *changes)
    assert ran.returncode == 3
    assert "error: node-0: HardFault in undefined, planted_faults.c:" in ran.stderr
    assert "Traceback" not in ran.stderr


COMPARISON = """
name = "compared"
seeds = [1, 2]
[[tasks]]
label = "sine"
experiment = "small.toml"
target = 1.0
[[strategies]]
label = "Ours"
name = "tinymetafed"
"""


def test_a_comparison_and_a_resumed_run_exit_with_3(folder: Path):
    """Where a run of theirs that is in the store has seen a fault, not where another event."""
    (folder / "comparison.toml").write_text(COMPARISON)
    assert call(folder, "compare", "comparison.toml", "--markdown", "a.md").returncode == 0
    page = (folder / "a.md").read_text()
    assert page.startswith("# Comparison compared\n")
    assert "| Ours |" in page
    store = Store(folder / "runs")
    for kind, status in (("timeout", 0), ("hang", 3)):
        store.add_events(1, [Event(2, 1, 7, kind, '{"text": "what it was"}')])
        compared = call(folder, "compare", "comparison.toml")
        assert compared.returncode == status
        said = "Run 1: 1 firmware fault, the first on node-1 in round 2" in compared.stderr
        assert said == (status == 3)
        assert call(folder, "run", "--resume", "1").returncode == status
    assert call(folder, "run", "--resume", "2").returncode == 0


def test_many_events_are_shown_by_kind(tmp_path: Path, experiment: MakeExperiment):
    store, run = execute(experiment(rounds=1), tmp_path)
    many = [
        Event(number, node, 3, kind, f'{{"text": "the {kind} of {number}"}}')
        for number in range(1, 41)
        for node, kind in ((0, "timeout"), (0, "repetition"), (2, "timeout"))
    ]
    store.add_events(run.id, many)
    table = events.terminal(store, run)
    assert table is not None
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(table)
    shown = console.export_text()
    assert "Events: 120" in shown
    lines = [text for text in shown.splitlines() if "│ timeout" in text or "│ repetition" in text]
    cells = [[cell.strip() for cell in text.strip("│").split("│")] for text in lines]
    assert cells == [
        ["repetition", "40", "1", "1", "the repetition of 1"],
        ["timeout", "80", "2", "1", "the timeout of 1"],
    ]


def test_the_help_says_the_exit_statuses(folder: Path):
    shown = " ".join(call(folder, "--help").stdout.split())
    for text in ("1 after a failure", "2 for wrong arguments", "3 where", "130 after"):
        assert text in shown
    assert "faults.tolerate" in call(folder, "run", "--help").stdout
