"""A grid over settings of one experiment: the comparison of all combinations of their values."""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import TypeVar

from ..errors import TinyMetaFedError, printable
from . import comparison, experiment
from .comparison import Cell, ComparisonSettings, StrategyEntry, TaskEntry

T = TypeVar("T")
CLOSING = {"[": "]", "{": "}"}


def values(text: str) -> list[str]:
    """The parts between commas; those within brackets or quotes are of a value."""
    parts, closing, quote, escaped = [""], "", "", False
    for c in text:
        if c == "," and not closing and not quote:
            parts.append("")
            continue
        parts[-1] += c
        if quote:
            if c == quote and not escaped:
                quote = ""
            escaped = c == "\\" and quote == '"' and not escaped
        elif c in "\"'":
            quote = c
        elif c in CLOSING:
            closing = CLOSING[c] + closing
        elif closing.startswith(c):
            closing = closing[1:]
    return [part.strip() for part in parts]


def read(
    path: Path, changes: Iterable[str], target: float | None = None
) -> tuple[ComparisonSettings, list[Cell]]:
    """The comparison of an experiment with each combination of changes, KEY=VALUE or
    KEY=VALUE,VALUE,…: what is changed stands in the place of strategies, but for seeds and what is
    changed of the task. target: as a comparison's task has it.

    Raises TinyMetaFedError that names the run, as a comparison's does, or where it is one run.
    """
    axes: dict[str, list[str]] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        key = key.strip()
        axes[key] = values(text) if equals else [""]
        if not equals or not all(axes[key]):
            raise TinyMetaFedError(
                f"--set {printable(change)}: expected KEY=VALUE,VALUE,…, e.g. nodes.count=4,8"
            )
    grid = {key: some for key, some in axes.items() if len(some) > 1}
    if not grid:
        raise TinyMetaFedError(
            f"{path}: one run; give several values, as --set seed=1,2,3, or use 'tinymetafed run'"
        )
    tasks = [key for key in grid if key.partition(".")[0] == "task"]  # each has tables of its own
    shown = _short([key for key in grid if key != "seed" and key not in tasks])
    labels: list[str] = []
    cells: list[Cell] = []
    for chosen in product(*axes.values()):
        point = dict(zip(axes, chosen, strict=True))
        label = ", ".join(f"{name}={point[key]}" for key, name in shown.items())
        try:
            one = experiment.read(path, tuple(f"{key}={text}" for key, text in point.items()))
        except TinyMetaFedError as error:
            where = ", ".join(f"{key}={point[key]}" for key in grid)
            lines = str(error).splitlines()
            raise TinyMetaFedError("\n".join(f"{line} ({where})" for line in lines)) from None
        label = label or one.strategy.name
        comparison.check_target(target, one, f"{path}: --target")
        task = ", ".join([one.name, *(f"{key}={point[key]}" for key in tasks)])
        cells.append(Cell(task, label, one))
        labels.append(label)
    comparison.check_distinct(cells, str(path))
    found = _settings(cells, list(dict.fromkeys(labels)), target)
    for cell in cells:
        comparison.check_devices(found.devices, cell.experiment, f"{path}: {cell}")
    return found, cells


def _settings(cells: Sequence[Cell], labels: list[str], target: float | None) -> ComparisonSettings:
    """What the tables of a comparison need to know."""
    every = [cell.experiment for cell in cells]
    names = {cell.strategy: cell.experiment.strategy.name for cell in cells}
    return ComparisonSettings.model_construct(  # a label may be longer than in a file
        name=every[0].name,
        seeds=tuple(dict.fromkeys(one.seed for one in every)),
        devices=_distinct(one.energy.device for one in every),
        radios=_distinct(one.energy.radio for one in every),
        tasks=tuple(
            TaskEntry.model_construct(label=name, target=target)
            for name in dict.fromkeys(cell.task for cell in cells)
        ),
        strategies=tuple(
            StrategyEntry.model_construct(label=label, name=names[label]) for label in labels
        ),
    )


def _distinct(values: Iterable[T]) -> tuple[T, ...]:
    found: list[T] = []
    for one in values:
        if one not in found:
            found.append(one)
    return tuple(found)


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Each key by its last step, where that tells it from the others."""
    last = [key.rpartition(".")[2] for key in keys]
    return {
        key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)
    }
