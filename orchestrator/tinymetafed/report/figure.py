"""The picture of a run: its learning curve, and one unseen sine before and after adaptation. Where
the task has classes, the curves of accuracy and of loss."""

import asyncio
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..experiments.experiment import Experiment
from ..federation.client import Client
from ..files import replacing
from ..nodes.broadcast import Broadcast
from ..nodes.host import open_host
from ..nodes.node import Node, NodeRefused
from ..results.store import Run, Store
from ..tasks import Sine
from ..tasks.samples import Samples
from . import drawn
from .described import settings

BEFORE, AFTER, TRUE = "#c06014", "#1f5fa8", "#707070"


@dataclass(frozen=True)
class Fit:
    """A model on a device that training never saw, over its whole range of x.

    x, true, before, after: float32 [points]. support: the samples that it was adapted on.
    """

    x: NDArray[np.float32]
    true: NDArray[np.float32]
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    support: Samples


async def _fit(experiment: Experiment, task: Sine, theta: NDArray[np.float32], device: int) -> Fit:
    judged, client = experiment.evaluation, Client(experiment)
    part = experiment.part_of(device)
    node = Node("node-0", open_host)
    await client.boot(node)
    try:
        support, query = task.device(experiment.seed, device, judged.support, 1, part=part)
        x = np.linspace(*task.x, 200, dtype=np.float32)[:, None]
        await node.set_weights(Broadcast(theta, np.ones(len(theta), np.int64), 1))
        before = await node.predict(x)
        program = experiment.strategy.personalise(client.model, judged.support, judged.steps)
        try:
            await node.run(program, support, query)
            after = await node.predict(x)
        except NodeRefused as refused:
            if not refused.diverged:
                raise
            after = np.full_like(before, np.nan)
    finally:
        await node.close()
    amplitude, phase = task.wave(experiment.seed, device)
    true = (amplitude * np.sin(x + phase)).astype(np.float32)
    return Fit(x[:, 0], true[:, 0], before[:, 0], after[:, 0], support)


def draw(store: Store, run: Run) -> Path:
    """Draws the run and returns the PNG's path, in the store's folder.

    The firmware's core predicts, in-process: its results are those of an emulated node bit for bit.
    """
    experiment = settings(run)
    path = drawn.path(store, run)
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9.5, 3.6), dpi=150, layout="constrained")
        left, right = figure.subplots(1, 2)
        if isinstance(experiment.task, Sine):
            device = (experiment.devices_of("unseen") or experiment.devices_of("validation"))[0]
            fit = _fit(experiment, experiment.task, run.weights, device)
            _draw_curve(left, store, run, "loss", "mean squared error")
            _draw_fit(right, asyncio.run(fit))
        else:
            _draw_curve(left, store, run, "accuracy", "accuracy")
            left.set_ylim(top=1)
            _draw_curve(right, store, run, "loss", "cross-entropy")
        with replacing(path) as file:
            figure.savefig(file, format="png", metadata={"Comment": drawn.mark(run)})
    return path


def _draw_curve(axes: Axes, store: Store, run: Run, measure: str, label: str) -> None:
    every = store.evaluations(run.id)
    part = every[0].part if every else "validation"  # see Store.learning
    rows = [row for row in every if row.part == part]
    if not rows:
        axes.set_title("no device is judged before the last round", fontsize=9)
        return
    by_round = [(number, list(here)) for number, here in groupby(rows, lambda row: row.round)]
    rounds = [number for number, _ in by_round]
    for color, name in ((BEFORE, "before"), (AFTER, "after")):
        found = ([getattr(row, f"{measure}_{name}") for row in here] for _, here in by_round)
        values = [[one for one in some if one is not None] or [np.nan] for some in found]
        low, high = np.transpose([np.percentile(some, [25, 75]) for some in values])
        mean = [np.mean(some) for some in values]
        axes.fill_between(rounds, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(rounds, mean, color=color, marker="o", markersize=3, label=f"{name} adaptation")
    without = "" if all(row.loss_after is not None for row in rows) else " but those that diverged"
    axes.set_ylim(bottom=0)
    axes.set_xlabel("rounds")
    axes.set_ylabel(label)
    devices = len({row.device for row in rows})
    axes.set_title(
        f"{devices} {part} devices{without}: mean, and the middle half of them", fontsize=9
    )
    axes.legend(frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.18))


def _draw_fit(axes: Axes, fit: Fit) -> None:
    axes.plot(fit.x, fit.true, color=TRUE, linestyle="--", label="the device's sine")
    axes.plot(fit.x, fit.before, color=BEFORE, label="before adaptation")
    axes.plot(fit.x, fit.after, color=AFTER, label="after adaptation")
    axes.scatter(
        fit.support.inputs[:, 0], fit.support.targets[:, 0], color="black", s=14, zorder=3,
        label=f"{len(fit.support)} samples to adapt on",
    )  # fmt: skip
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    axes.set_title("the first unseen device, weights at the end of training", fontsize=9)
    axes.legend(frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.18))
