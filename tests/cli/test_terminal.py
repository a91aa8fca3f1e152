"""Progress where nobody watches: a line now and then."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from comparing import read
from conftest import SMALL
from tinymetafed.cli import run, terminal
from tinymetafed.experiments.experiment import parse
from tinymetafed.experiments.round_report import LastJudged, RoundReport
from tinymetafed.experiments.scheduler import Comparison
from tinymetafed.results.store import DeviceEvaluation, Store


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed, to no terminal."""
    file = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=file, width=80))
    return file


def test_a_line_when_it_is_time(output: io.StringIO, monkeypatch: pytest.MonkeyPatch):
    now = 100
    monkeypatch.setattr(terminal, "monotonic", lambda: now)
    with terminal.progress_bar() as bar:
        task = bar.add_task("demo", total=300)
        other = bar.add_task("", total=10, visible=False)
        for done in range(1, 301):
            now += 1
            bar.update(task, completed=done, description="demo [it]: rounds")
            bar.update(other, completed=1, visible=True)
    assert output.getvalue().splitlines() == [
        f"demo [it]: rounds, {done} of 300 rounds" for done in range(10, 301, 10)
    ]


def test_nothing_of_what_is_short(output: io.StringIO):
    with terminal.progress_bar() as bar:
        bar.update(bar.add_task("demo", total=3), completed=3)
    assert output.getvalue() == ""


def test_the_last_loss_is_in_the_line(
    output: io.StringIO, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(terminal, "SECONDS", 0.0)
    store = Store(folder / "runs")
    run._execute(parse(SMALL, "SMALL"), store, None, None, None)
    losses = {one.round: f"{one.loss_after:.3f}" for one in store.judged(1, "validation")}
    [final] = store.judged(1, "unseen")
    lines = output.getvalue().splitlines()
    assert "test: training, 1 of 4 rounds" in lines
    assert f"test: training, validation: loss {losses[2]}, 3 of 4 rounds" in lines
    assert lines[-1] == f"test: done, unseen: loss {final.loss_after:.3f}, 4 of 4 rounds"


def test_runs_side_by_side_say_it_too(tmp_path: Path):
    _, cells = read(tmp_path)
    store = Store(tmp_path / "runs")
    seen: list[tuple[int, str]] = []
    compared = Comparison(cells[:1], store)
    compared.execute(1, lambda i, done, doing: seen.append((done, doing)))
    losses = {one.round: f"{one.loss_after:.3f}" for one in store.judged(1, "validation")}
    [final] = store.judged(1, "unseen")
    assert (3, f"training, validation: loss {losses[2]}") in seen
    assert (4, f"done, unseen: loss {final.loss_after:.3f}") in seen


@pytest.mark.parametrize(
    ("losses", "accuracies", "classes", "text"),
    [
        ((1.0, 2.0, None), (0.0, 0.0, None), False, ", validation: loss 1.500"),
        ((1.0, 2.0, None), (0.5, 1.0, None), True, ", validation: loss 1.500 (75.0%)"),
        ((None, None), (None, None), True, ", validation: diverged"),
    ],
)
def test_what_was_judged(
    losses: tuple[float | None, ...],
    accuracies: tuple[float | None, ...],
    classes: bool,
    text: str,
):
    judged = LastJudged()
    rows = [
        DeviceEvaluation(1, i, None, loss, None, accuracy, "validation")
        for i, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True))
    ]
    report = RoundReport(1, 1, 4, np.zeros(1, np.float32), [], rows, [], 0.0, classes)
    judged(report)
    assert str(judged) == text
    judged(dataclasses.replace(report, evaluations=[]))  # it stays until the next
    assert str(judged) == text


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch):
    file = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=file, force_terminal=True, width=80))
    with terminal.progress_bar() as bar:
        bar.update(bar.add_task("demo", total=3), completed=3)
    assert "3/3" in file.getvalue()
