"""What the devices of an experiment hold, before anything is trained."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..tasks.base import Held
from ..tasks.samples import Samples
from .experiment import Experiment


@dataclass(frozen=True)
class Holding:
    """What a device holds. drawn: whether that is what the experiment asks it for, of as much as it
    can have."""

    unseen: bool
    held: Held
    drawn: bool


def holdings(experiment: Experiment, most: int) -> list[Holding]:
    """Of the first seen and the first unseen devices, `most` of each. Raises TinyMetaFedError."""
    return [
        one
        for unseen, devices in (
            (False, experiment.devices.seen), (True, experiment.evaluation.devices),
        )
        for one in _of_kind(experiment, min(most, devices), unseen=unseen)
    ]  # fmt: skip


def _of_kind(experiment: Experiment, most: int, *, unseen: bool) -> list[Holding]:
    task, seed = experiment.task, experiment.seed
    first = experiment.devices.seen if unseen else 0
    asked = experiment.evaluation if unseen else experiment.strategy
    found: list[Holding] = []
    for number in range(first, first + most):
        held = task.held(seed, number, unseen=unseen)
        if held is not None and len(found) == held.count:
            break
        if held is not None:
            found.append(Holding(unseen, held, drawn=False))
            continue
        query = asked.query if unseen else experiment.query(number)
        parts = task.device(seed, number, asked.support, query, unseen=unseen)
        inputs = np.concatenate([part.inputs for part in parts])
        targets: Any = np.concatenate([part.targets for part in parts])
        samples = Samples(inputs, targets)
        found.append(Holding(unseen, Held(str(number), samples, 0), drawn=True))
    return found
