"""A task with classes whose devices need no data."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from conftest import SMALL
from tinymetafed.experiments.experiment import Experiment, parse
from tinymetafed.models.layers import Shape
from tinymetafed.tasks.base import Part, Task
from tinymetafed.tasks.samples import Samples


class Blobs(Task):
    """Points around the centres of their classes, others on each device; a device may lack a class.
    Class i of device d is called "d-i" where the classes have no names."""

    name: str = f"{__file__}:Blobs"
    names: tuple[str, ...] = ()
    ways: int = 3
    width: int = 2
    scale: float = 1.0

    @property
    def shape(self) -> Shape:
        return Shape(1, 1, self.width)

    @property
    def outputs(self) -> int:
        return self.ways

    def device(
        self, seed: int, device: int, support: int, query: int, *, part: Part = "seen"
    ) -> tuple[Samples, Samples]:
        rng = np.random.default_rng([seed, device])
        labels = rng.integers(self.ways, size=support + query)
        centres = rng.normal(0, 2, (self.ways, self.width))
        points = self.scale * (centres[labels] + rng.normal(size=(len(labels), self.width)))
        every = Samples(points.astype(np.float32), labels.astype(np.uint32))
        return every[:support], every[support:]

    def class_names(
        self, seed: int, device: int, support: int, query: int, *, part: Part = "seen"
    ) -> list[str]:
        return [*self.names] or [f"{device}-{i}" for i in range(self.ways)]


def on_blobs(task: Task, changes: Mapping[str, Any] = MappingProxyType({})) -> Experiment:
    """The small experiment on such a task, with changes by key."""
    model = {"loss": "softmax_cross_entropy", "layers": [{"units": 4}, {"units": task.outputs}]}
    strategy = {"name": "fedavg", "query": 6, "batch": 3}
    own: dict[str, Any] = {"task": task, "model": model, "strategy": strategy}
    return parse(SMALL, "SMALL", own | dict(changes))
