"""Progress where nobody watches: a line now and then."""

import io

import pytest
from rich.console import Console

from tinymetafed.cli import terminal


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


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch):
    file = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=file, force_terminal=True, width=80))
    with terminal.progress_bar() as bar:
        bar.update(bar.add_task("demo", total=3), completed=3)
    assert "3/3" in file.getvalue()
