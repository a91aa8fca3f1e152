"""What tuning came to: the chosen settings beside those of the file, as a table and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..experiments.search_space import Value
from ..experiments.tuning import State, Trial, Tuned

STATES: Sequence[State] = ("complete", "pruned", "diverged", "failed")


def tables(results: Sequence[Tuned]) -> Iterator[RenderableType]:
    """For each task the best settings of each strategy; then what failed, and why."""
    for task, some in groupby(results, key=lambda one: one.search.task):
        every = list(some)
        title = f"{task}: {every[0].search.measure} of devices for validation, after adaptation"
        table = Table(title=escape(title), title_justify="left")
        table.add_column("strategy")
        for column in ("the file's", "best"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("settings", no_wrap=True)
        table.add_column("trials", no_wrap=True)
        for one in every:
            before = one.trials[0] if one.trials else None
            values = _value(one, before), _value(one, one.best)
            trials = counts(one).replace(", ", "\n")
            table.add_row(*map(Text, (one.search.strategy, *values, settings(one), trials)))
        yield table
    for one in results:
        for trial in one.trials:
            if trial.why:
                yield f"{one.search}: trial {trial.number} failed: {trial.why}"


def settings(one: Tuned) -> str:
    """Those that are searched, a line each: the file's and, where it is another, the best."""
    if not one.search.parameters:
        return "none is searched"
    best = one.best.values if one.best else one.search.own
    parts: list[str] = []
    for path, before in one.search.own.items():
        first, last = _short(before), _short(best[path])
        parts.append(f"{path} {first} → {last}" if best[path] != before else f"{path} {first}")
    return "\n".join(parts)


def counts(one: Tuned) -> str:
    """How many trials there are, and how they ended."""
    ended = ", ".join(f"{n} {state}" for state in STATES if (n := one.count(state)))
    return ended or "none"


def chosen(one: Tuned) -> tuple[str, str, Mapping[str, Value], str]:
    """The best trial, for experiments.tuned: labels, settings, and what is said of them."""
    assert one.best is not None
    before = "" if one.best.number == 0 else f", {_value(one, one.trials[0])} by those of the file"
    said = f"{one.search.measure} {_value(one, one.best)}{before}; trials: {counts(one)}"
    return one.search.task, one.search.strategy, one.best.values, said


def as_json(results: Sequence[Tuned]) -> list[dict[str, Any]]:
    """All trials of each task and strategy, and the number of the best."""
    return [
        {
            "task": one.search.task,
            "strategy": one.search.strategy,
            "measure": one.search.measure,
            "seeds": [experiment.seed for experiment in one.search.experiments],
            "rounds": one.search.rounds,
            "searched": {
                parameter.path: parameter.range.model_dump(exclude_defaults=True)
                for parameter in one.search.parameters
            },
            "best": one.best and one.best.number,
            "trials": [_trial(trial) for trial in one.trials],
        }
        for one in results
    ]


def _trial(trial: Trial) -> Mapping[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state,
        "settings": trial.values,
        "value": trial.value,
        "by_round": trial.curve,
        "why": trial.why or None,
    }


def _value(one: Tuned, trial: Trial | None) -> str:
    if trial is None:
        return ""
    if trial.value is None:
        return trial.state
    return f"{trial.value:.1%}" if one.search.measure == "accuracy" else f"{trial.value:.3f}"


def _short(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
