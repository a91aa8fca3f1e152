"""What devices hold, as tables for the terminal."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..errors import printable
from ..experiments.data import Holding
from ..experiments.experiment import Experiment
from ..tasks.base import PARTS, Range

MOST_CLASSES = 5
"""That have a column each."""
MOST_RANGES = 20


def summary(
    experiment: Experiment, made_of: Mapping[str, str], holdings: Sequence[Holding]
) -> Iterator[RenderableType]:
    """Tables of what devices hold; made_of: what Task.prepare returned."""
    task = experiment.task
    outputs = task.outputs
    target = f"is one of {outputs} classes" if task.target_is_class else f"has {outputs} values"
    yield Text.assemble(
        (f"Data of {experiment.name}", "bold"),
        f"\n{task.name}, seed {experiment.seed}; a sample has {task.shape} values, its target "
        f"{target}",
    )
    yield _devices(experiment, holdings)
    if ranges := task.ranges(experiment.seed):
        yield _ranges(ranges)
    for name, what in made_of.items():
        yield Text(f"{name}: {printable(what)}")


def _devices(experiment: Experiment, holdings: Sequence[Holding]) -> Table:
    names = class_names(holdings)
    drawn = "as much as they are asked for" if holdings[0].drawn else "all of it"
    table = Table(title=f"What devices hold: {drawn}", title_justify="left")
    by_class = experiment.task.target_is_class and len(names) <= MOST_CLASSES
    classes = names if by_class else ("classes",) if experiment.task.target_is_class else ()
    for column in ("", "device"):
        table.add_column(column)
    for column in ("samples", *classes, "least", "greatest"):
        table.add_column(escape(printable(column)), justify="right")
    if not experiment.task.target_is_class:
        table.add_column("targets", justify="right")
    for i, one in enumerate(holdings):
        if i and one.part != holdings[i - 1].part:
            table.add_section()
        samples = one.held.samples
        cells = [f"{len(samples):,}"]
        if experiment.task.target_is_class:
            counts = np.bincount(samples.targets.astype(np.intp), minlength=len(names))
            cells += [f"{n:,}" for n in counts] if by_class else [f"{(counts > 0).sum():,}"]
        values = samples.inputs
        cells += [f"{one:.3g}" for one in (values.min(), values.max())]
        if not experiment.task.target_is_class:
            cells.append(f"{samples.targets.min():.3g} … {samples.targets.max():.3g}")
        table.add_row(one.part, escape(printable(one.held.name)), *cells)
    counts = {one.part: one.held.count for one in holdings}
    if not holdings[0].drawn:
        every = [
            f"{counts.get(part, 0)} {'for validation' if part == 'validation' else part}"
            for part in PARTS
        ]
        table.caption = f"There are {every[0]}, {every[1]} and {every[2]}."
        table.caption_justify = "left"
    return table


def _ranges(ranges: Sequence[Range]) -> Table:
    table = Table(title="Seen devices' values as read", title_justify="left")
    table.add_column("")
    for column in ("least", "mean", "deviation", "greatest"):
        table.add_column(column, justify="right")
    for one in ranges[:MOST_RANGES]:
        numbers = (f"{value:.4g}" for value in _figures(one))
        table.add_row(escape(printable(one.name)), *numbers)
    if len(ranges) > MOST_RANGES:
        table.caption = f"The first {MOST_RANGES} of {len(ranges)}."
        table.caption_justify = "left"
    return table


def _figures(one: Range) -> tuple[float, ...]:
    return one.least, one.mean, one.deviation, one.greatest


def class_names(holdings: Sequence[Holding]) -> tuple[str, ...]:
    """Of the classes by number; the numbers where they have no names."""
    if any(one.held.classes for one in holdings):
        return next(one.held.classes for one in holdings if one.held.classes)
    if holdings[0].held.samples.targets.ndim == 2:
        return ()
    most = max(int(one.held.samples.targets.max()) for one in holdings)
    return tuple(map(str, range(most + 1)))
