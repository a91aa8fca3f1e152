"""What is shown of a task with classes: accuracy beside loss."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from conftest import MakeExperiment, UseCard
from printing import printed
from running import execute
from tiny import ON_TABLE, make_table
from tinymetafed.report import drawn, figure, summary
from tinymetafed.results.store import Run, Store


@pytest.fixture
def stored(
    data: Path, use_card: UseCard, tmp_path: Path, experiment: MakeExperiment
) -> tuple[Store, Run]:
    """A run on the tiny table."""
    card, _ = make_table(data)
    use_card(card)
    return execute(experiment(*ON_TABLE), tmp_path / "runs")


def _accuracy(store: Store, run: Run, name: str) -> list[float]:
    """Mean over the devices for validation after 0, 2 and 4 rounds."""
    rows = [row for row in store.evaluations(run.id) if row.part == "validation"]
    return [
        float(np.mean([getattr(row, f"accuracy_{name}") for row in rows if row.round == done]))
        for done in (0, 2, 4)
    ]


def test_the_table_has_accuracy_too(stored: tuple[Store, Run]):
    store, run = stored
    text = printed(*summary.summary(store, run, None))
    assert "Mean loss (accuracy) before and after adaptation" in text
    shown = [line for line in text.splitlines() if "at the start" in line or "after 4" in line]
    before, after = (_accuracy(store, run, name) for name in ("before", "after"))
    assert [line.split("│")[1].strip() for line in shown] == ["1 validation"] * 2 + ["1 unseen"]
    for line, i in zip(shown[:2], (0, 2), strict=True):
        shown_before, shown_after = line.split("│")[3:5]
        assert f"({before[i]:.1%})" in shown_before
        assert f"({after[i]:.1%})" in shown_after
    [last] = store.judged(run.id, "unseen")
    assert f"({last.accuracy_after:.1%})" in shown[2]
    assert f"({last.accuracy_after:.1%})" in printed(summary.run_list(store, store.runs())[0])


def test_without_classes_there_is_no_accuracy(tmp_path: Path, experiment: MakeExperiment):
    store, run = execute(experiment(), tmp_path)
    assert "accuracy" not in printed(*summary.summary(store, run, None))
    assert "%" not in printed(summary.run_list(store, store.runs())[0])


def test_the_figure_draws_accuracy_and_loss(
    stored: tuple[Store, Run], monkeypatch: pytest.MonkeyPatch
):
    saved: list[Figure] = []
    save = Figure.savefig

    def savefig(self: Figure, file: Any, **options: Any) -> None:
        saved.append(self)
        save(self, file, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    store, run = stored
    assert figure.draw(store, run).read_bytes().startswith(b"\x89PNG")
    left, right = saved[0].axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("accuracy", "cross-entropy")
    for line, name in zip(left.get_lines(), ("before", "after"), strict=True):
        assert line.get_label() == f"{name} adaptation"
        np.testing.assert_array_equal(line.get_xdata(), [0, 2, 4])
        np.testing.assert_allclose(np.array(line.get_ydata()), _accuracy(store, run, name))


def test_a_run_says_what_data_it_was_made_of(stored: tuple[Store, Run]):
    _, run = stored
    assert '"table.csv": "sha256:' in run.versions
    assert '"task.unseen": "rows ' in run.versions


def test_a_figure_that_is_there_is_not_drawn_again(stored: tuple[Store, Run]):
    """It is another run's, or of another state, where anything of the run differs."""
    store, run = stored
    assert drawn.find(store, run) is None
    path = figure.draw(store, run)
    assert drawn.find(store, run) == path
    others: dict[str, Any] = {"done": 3, "created": "2020", "theta": bytes(8), "settings": "{}"}
    for key, value in others.items():
        assert drawn.find(store, replace(run, **{key: value})) is None
    path.write_bytes(b"\x89PNG")
    assert drawn.find(store, run) is None
