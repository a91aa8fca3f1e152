"""What devices hold, as tables for the terminal and as a picture."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..errors import printable
from ..experiments.data import Holding
from ..experiments.experiment import Experiment
from ..files import replacing
from ..models.layers import Shape
from ..tasks.base import Range

MOST_CLASSES = 5
"""That have a column each."""
MOST_RANGES = 20
MOST_COLOURS = 10  # that differ
SHOWN = 6
"""Samples of a device in the picture."""
TALLEST = 2000  # values of a feature that are drawn


def summary(
    experiment: Experiment, made_of: Mapping[str, str], holdings: Sequence[Holding]
) -> Iterator[RenderableType]:
    """Tables of what devices hold; made_of: what Task.prepare returned."""
    task = experiment.task
    sample = f"{task.shape} values ({task.inputs})"
    targets = f"{task.outputs} classes" if task.target_is_class else f"{task.outputs} values"
    yield Text.assemble(
        (f"Data of {experiment.name}", "bold"),
        f"\n{task.name}, seed {experiment.seed}; a sample is {sample}, its target of {targets}",
    )
    yield _devices(experiment, holdings)
    if ranges := task.ranges(experiment.seed):
        yield _ranges(ranges)
    for name, what in made_of.items():
        yield Text(f"{name}: {printable(what)}")


def _devices(experiment: Experiment, holdings: Sequence[Holding]) -> Table:
    names = _class_names(holdings)
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
        if i and one.unseen != holdings[i - 1].unseen:
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
        kind = "unseen" if one.unseen else "seen"
        table.add_row(kind, escape(printable(one.held.name)), *cells)
    counts = {one.unseen: one.held.count for one in holdings}
    if not holdings[0].drawn:
        table.caption = f"There are {counts[False]} seen and {counts.get(True, 0)} unseen."
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


def _class_names(holdings: Sequence[Holding]) -> tuple[str, ...]:
    """Of the classes by number; the numbers where they have no names."""
    if any(one.held.classes for one in holdings):
        return next(one.held.classes for one in holdings if one.held.classes)
    if holdings[0].held.samples.targets.ndim == 2:
        return ()
    most = max(int(one.held.samples.targets.max()) for one in holdings)
    return tuple(map(str, range(most + 1)))


def draw(experiment: Experiment, holdings: Sequence[Holding], path: Path) -> None:
    """Draws samples of the first seen and of the first unseen device. Raises TinyMetaFedError."""
    shown = [next(one for one in holdings if one.unseen == unseen) for unseen in (False, True)]
    shape, names = experiment.task.shape, _class_names(holdings)
    values = [one.name for one in experiment.task.ranges(experiment.seed)] or ["value 0", "value 1"]
    single = shape.height == shape.width == 1
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        size = (8.0, 3.4) if single else (9.5, 3.6)
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        if single:
            for axes, one in zip(figure.subplots(1, 2, squeeze=False)[0], shown, strict=True):
                _scatter(axes, one, names, values)
        else:
            grid = figure.subplots(2, SHOWN, squeeze=False)
            for row, one in zip(grid, shown, strict=True):
                _samples(row, one, shape, names)
        with replacing(path) as file:
            figure.savefig(file, format="png")


def _title(one: Holding) -> str:
    return f"{'unseen' if one.unseen else 'seen'} device {printable(one.held.name)}"


def _scatter(axes: Axes, one: Holding, names: Sequence[str], values: Sequence[str]) -> None:
    """The first two values of each sample, or the only one with its target."""
    samples = one.held.samples
    x, targets = samples.inputs[:TALLEST], samples.targets[:TALLEST]
    axes.set_title(_title(one), fontsize=9)
    axes.set_xlabel(printable(values[0]))
    axes.set_ylabel(printable(values[1]) if x.shape[1] > 1 else "target")
    y = x[:, 1] if x.shape[1] > 1 else targets.astype(np.float64).reshape(len(x), -1)[:, 0]
    if targets.ndim == 2:
        axes.scatter(x[:, 0], y, s=8)
        return
    for label in map(int, np.unique(targets)[:MOST_COLOURS]):
        of_class = targets == label
        axes.scatter(x[of_class, 0], y[of_class], s=8, label=printable(names[label]))
    axes.legend(frameon=False)


def _samples(row: NDArray[np.object_], one: Holding, shape: Shape, names: Sequence[str]) -> None:
    samples = one.held.samples
    for axes in row:
        axes.set_axis_off()
    for axes, i in zip(row, _various(samples.targets), strict=False):
        axes.set_axis_on()
        values = samples.inputs[i].reshape(shape)
        if shape.height == 1:
            axes.plot(values[0], linewidth=0.8)
        elif shape.channels == 3:
            low, high = values.min(), values.max()
            axes.imshow((values - low) / (high - low or 1))
        else:
            axes.imshow(values[:, :, 0], cmap="gray", aspect="auto" if _is_long(shape) else None)
        target = samples.targets[i]
        name = names[int(target)] if samples.targets.ndim == 1 else f"{target[0]:.3g}"
        axes.set_title(printable(name), fontsize=8)
        axes.tick_params(labelsize=6)
    row[0].set_ylabel(_title(one))


def _is_long(shape: Shape) -> bool:
    return max(shape.height, shape.width) > 2 * min(shape.height, shape.width)


def _various(targets: NDArray[np.generic]) -> list[int]:
    """Rows of as many classes as there are, then more of them."""
    if targets.ndim == 2:
        return list(range(min(SHOWN, len(targets))))
    rank = np.zeros(len(targets), np.intp)
    for label in np.unique(targets):
        of_class = np.flatnonzero(targets == label)
        rank[of_class] = np.arange(len(of_class))
    return np.lexsort((targets, rank))[:SHOWN].tolist()
