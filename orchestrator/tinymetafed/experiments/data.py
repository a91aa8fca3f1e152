"""What the devices of an experiment hold, before anything is trained."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..tasks.base import PARTS, Held, Part
from ..tasks.samples import Samples
from .experiment import Experiment


@dataclass(frozen=True)
class Holding:
    """What a device holds. drawn: whether that is what the experiment asks it for, of as much as it
    can have."""

    part: Part
    held: Held
    drawn: bool


def holdings(experiment: Experiment, most: int) -> list[Holding]:
    """Of the first devices of each part, `most` of each. Raises TinyMetaFedError."""
    return [one for part in PARTS for one in _of_part(experiment, most, part)]


def _of_part(experiment: Experiment, most: int, part: Part) -> list[Holding]:
    task, seed = experiment.task, experiment.seed
    asked = experiment.strategy if part == "seen" else experiment.evaluation
    found: list[Holding] = []
    for number in experiment.devices_of(part)[:most]:
        held = task.held(seed, number, part=part)
        if held is not None and len(found) == held.count:
            break
        if held is not None:
            found.append(Holding(part, held, drawn=False))
            continue
        query = experiment.query(number) if part == "seen" else asked.query
        parts = task.device(seed, number, asked.support, query, part=part)
        inputs = np.concatenate([part.inputs for part in parts])
        targets: Any = np.concatenate([part.targets for part in parts])
        samples = Samples(inputs, targets)
        found.append(Holding(part, Held(str(number), samples, 0), drawn=True))
    return found
