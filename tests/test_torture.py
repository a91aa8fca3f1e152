"""A short campaign of tests/torture.py; `make torture` is a longer one."""

import sys
from pathlib import Path

import numpy as np
import pytest

import torture


@pytest.mark.parametrize(
    "event",
    [
        "node killed", "orchestrator killed as it writes", "emulator missing at restart",
        "disk full", "file system full",
    ],
)  # fmt: skip
def test_an_event_is_held(event: str, tmp_path: Path):
    try:
        torture.attempt(event, 1, 0, tmp_path / "try")
    except torture.NotPossible as reason:
        pytest.skip(str(reason))


def test_other_weights_are_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Those of another seed, as a run that went wrong might have them."""

    def other(trial: torture.Trial) -> None:
        with trial.started() as process:
            trial.end(process, 0)
        trial.change("seed=1001")

    monkeypatch.setitem(torture.EVENTS, "other", other)
    problems: list[str] = []
    lines = torture.campaign(["other"], 1, lambda done: done < 1, problems.append)
    assert (lines["other"].tries, lines["other"].held) == (1, 0)
    assert problems[0].startswith("other, seed 1, try 0: other theta, ")


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("raise SystemExit(2)", "exit status 2"),
        ("raise KeyError", "a traceback|exit status 1"),
        ("import sys; sys.exit('out of order')", "no error in one line: out of order"),
    ],
)
def test_an_end_that_says_nothing_to_a_user_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, says: str
):
    trial = torture.Trial(tmp_path / "try", np.random.default_rng(1))
    monkeypatch.setattr(torture.Trial, "command", lambda self: [sys.executable, "-c", program])
    with trial.started() as process, pytest.raises(torture.NotHeld, match=says):
        trial.end(process, 0, 1)
