"""What devices hold, as a picture."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..errors import printable
from ..experiments.data import Holding
from ..experiments.experiment import Experiment
from ..files import replacing
from ..models.layers import Shape
from .data import class_names

MOST_COLOURS = 10  # that differ
SHOWN = 6
"""Samples of a device in the picture."""
TALLEST = 2000  # values of a feature that are drawn


def draw(experiment: Experiment, holdings: Sequence[Holding], path: Path) -> None:
    """Draws samples of the first seen and of the first unseen device, or where there is none of one
    for validation. Raises TinyMetaFedError."""
    first = {one.part: one for one in reversed(holdings)}
    shown = [first["seen"], first.get("unseen", holdings[-1])]
    shape, names = experiment.task.shape, class_names(holdings)
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
    return f"{one.part} device {printable(one.held.name)}"


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
