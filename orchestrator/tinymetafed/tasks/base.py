"""What a task is."""

import inspect
import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field

from ..models.layers import Shape
from ..plugins import Kind
from ..settings import Settings
from .samples import Samples, SamplesError

log = logging.getLogger(__name__)

Part = Literal["seen", "validation", "unseen"]
"""Of the devices: those that training learns from; those that are judged while it goes on, by which
settings are chosen; those that are judged once, when it is over, and by which nothing is chosen."""
PARTS: tuple[Part, ...] = get_args(Part)

ValidationShare = Annotated[float, Field(ge=0, lt=1)]
"""Of what training never sees."""

Split = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A seed of its own for which device is in which part, so that it is the same in all runs."""


def held_back(share: float, never_seen: int) -> int:
    """Of so many devices (or speakers, classes) that training never sees, those for validation: at
    least one, and not all; none where the share is 0, or there are no two of them."""
    if share == 0 or never_seen < 2:
        return 0
    return min(max(1, round(share * never_seen)), never_seen - 1)


@cache
def warn(text: str) -> None:
    """Tells the user what is odd about data, once, however many seeds and strategies use them."""
    log.warning("%s", text)


@dataclass(frozen=True)
class Limits:
    """What there is for the devices of a part.

    devices: how many. samples: of one device, support and query together. classes: over which both
    are shared out evenly. blocked: samples that one of the support set takes, more than itself
    where those that overlap it cannot be in the query set. who: has so few, where somebody has.
    """

    devices: float = math.inf
    samples: float = math.inf
    classes: int = 1
    blocked: int = 1
    who: str = ""


@dataclass(frozen=True)
class Held:
    """What a device has. count: devices of its part. classes: their names, where they have
    some."""

    name: str
    samples: Samples
    count: int
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Range:
    """The values of a column or channel, over all that seen devices have; deviation: the standard
    deviation."""

    name: str
    least: float
    mean: float
    deviation: float
    greatest: float


class Task(Settings):
    """A population of devices, each with a learning problem of its own.

    A task holds its settings; all else is a function of these and of the arguments.
    """

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """Of a sample's inputs as they lie, for layers with a window; 1 × 1 pixels where they are
        no image."""

    @property
    def inputs(self) -> int:
        """Values of a sample."""
        return self.shape.values

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Of the model: values, or classes."""

    @property
    def target_is_class(self) -> bool:
        """Whether a target is the number of a class."""
        return True

    def resolved(self, folder: Path) -> Self:
        """The same with what it has to know of files that it names from `folder`, so that it is the
        same wherever a run goes on. Raises TinyMetaFedError."""
        return self

    def limits(self, *, part: Part) -> Limits:
        """What an experiment can ask for of a part; none of its devices where there is no such."""
        return Limits()

    def prepare(self, seed: int) -> dict[str, str]:
        """Reads the data, so that `device` has it at hand. Returns what a run depends on: the
        checksum of each file, and what is in which part. Raises TinyMetaFedError."""
        return {}

    @abstractmethod
    def device(
        self, seed: int, device: int, support: int, query: int, *, part: Part = "seen"
    ) -> tuple[Samples, Samples]:
        """Support and query samples of one device, which share none; nor do devices of two parts.

        device: from 0 on for those that are seen; behind these are those for validation, and behind
        them the unseen ones, so that no number is in two parts. Raises TinyMetaFedError where the
        data cannot be read."""

    def class_names(
        self, seed: int, device: int, support: int, query: int, *, part: Part = "seen"
    ) -> Sequence[str]:
        """What the classes 0, 1, … of the targets are called that `device` returns for the same
        arguments: `outputs` names, no two alike. The numbers themselves unless a task says more. It
        is not called where targets are values."""
        return [str(number) for number in range(self.outputs)]

    def held(self, seed: int, device: int, *, part: Part) -> Held | None:
        """All that a device has; None where it has as much as is asked for."""
        limits = self.limits(part=part)
        if math.isinf(limits.devices) or math.isinf(limits.samples):
            return None
        everything, _ = self.device(seed, device, int(limits.samples), 0, part=part)
        return Held(str(device), everything, int(limits.devices))

    def ranges(self, seed: int) -> list[Range]:
        """Of what is measured, as it was in the files; nothing where samples are made of more than
        that."""
        return []

    def population(
        self, seed: int, devices: Sequence[int], support: int, queries: Sequence[int]
    ) -> list[tuple[Samples, Samples]]:
        """`device` of several training devices, each with its own number of query samples."""
        device, found = -1, list[tuple[Samples, Samples]]()
        try:
            for device, query in zip(devices, queries, strict=True):
                found.append(self.device(seed, device, support, query))
        except SamplesError as error:
            raise error.of(device) from None
        return found


def _check(task: Any) -> None:
    """Raises ValueError where what a user's task says of itself is nothing to go by."""
    if not isinstance(task.shape, Shape):
        raise ValueError(f"shape: {task.shape!r:.60} is no Shape(height, width, channels)")
    if type(task.outputs) is not int or task.outputs < 1:
        raise ValueError(f"outputs: {task.outputs!r:.60} is no whole number of at least 1")
    if type(task.target_is_class) is not bool:
        raise ValueError(f"target_is_class: {task.target_is_class!r:.60} is neither True nor False")
    for name in ("device", "class_names", "limits", "held"):
        if not _takes_part(getattr(task, name)):
            raise ValueError(
                f"{name}(): it takes no part; write '*, part' as its last parameter, which is "
                f"{', '.join(map(repr, PARTS))}"
            )
    for part in PARTS:
        if not isinstance(found := task.limits(part=part), Limits):
            raise ValueError(f"limits: {found!r:.60} is no Limits()")


def _takes_part(method: Callable[..., Any]) -> bool:
    """Whether it can be called with the keyword `part`."""
    every = inspect.signature(method).parameters.values()
    named = (one.name == "part" and one.kind is not one.POSITIONAL_ONLY for one in every)
    return any(named) or any(one.kind is one.VAR_KEYWORD for one in every)


OWN = Kind("tasks", Task, (), _check)
"""Annotates a union of tasks: it also takes a user's."""
