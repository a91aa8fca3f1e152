"""Rows of the store's tables, and sums of them."""

import json
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tasks.base import Part


@dataclass(frozen=True)
class NodeRound:
    """A row of node_round; see the schema."""

    round: int
    node: int
    device: int
    bytes_down: int
    bytes_up: int
    bytes_sensor: int
    counted: bool
    late: bool
    diverged: bool
    sequence: int
    messages: str
    frames: str


@dataclass(frozen=True)
class ClassCount:
    """How many samples of a class were taken for which."""

    actual: str
    predicted: str
    samples: int


@dataclass(frozen=True)
class DeviceEvaluation:
    """A row of evaluation; see the schema.

    classes: of an unseen device with classes, what its query samples are and were taken for after
    adaptation, ascending; rows of class_count. Empty of others, and where it is not known.
    """

    round: int
    device: int
    loss_before: float | None
    loss_after: float | None
    accuracy_before: float | None
    accuracy_after: float | None
    part: Part
    classes: tuple[ClassCount, ...] = field(default=(), metadata={"column": False})


@dataclass(frozen=True)
class Event:
    """A row of event; see the schema."""

    round: int | None
    node: int
    device: int | None
    kind: str
    detail: str


@dataclass(frozen=True)
class MeasuredCycles:
    """A row of measured; see the schema."""

    round: int
    node: int
    phase: str
    cycles: int


@dataclass(frozen=True)
class NodeTotal:
    """What a node did in all rounds of a run: how many it was in, and sums of node_round."""

    node: int
    rounds: int
    bytes_down: int
    bytes_up: int
    counted: int
    late: int
    diverged: int


@dataclass(frozen=True)
class DeviceTotal:
    """What became of a device's rounds in a run: how many it was played in, in how many its update
    was late, and in how many its training diverged."""

    device: int
    rounds: int
    late: int
    diverged: int


@dataclass(frozen=True)
class Judged:
    """A run's evaluations on a part of the devices after so many rounds: devices, how many of these
    diverged, and means of the others, None where there are none."""

    round: int
    devices: int
    diverged: int
    loss_before: float | None
    loss_after: float | None
    accuracy_before: float | None
    accuracy_after: float | None
    part: Part


@dataclass(frozen=True)
class Run:
    """A row of run; see the schema."""

    id: int
    name: str
    created: str
    settings: str
    seed: int
    backend: str
    versions: str
    firmware: str
    memory: int
    rounds: int
    done: int
    seconds: float
    theta: bytes
    changed: bytes
    schema: int

    @property
    def tree(self) -> dict[str, Any]:
        """Its settings as they are stored, whichever version did; empty where they are damaged."""
        try:
            tree = json.loads(self.settings)
        except ValueError:
            return {}
        return tree if isinstance(tree, dict) else {}

    @property
    def traced(self) -> bool:
        """Whether some of its cycles were traced once, on Renode, and scaled."""
        return "renode" in self.backend.split("+")

    @property
    def weights(self) -> NDArray[np.float32]:
        """The weights after the last round: float32 [parameters]."""
        return np.frombuffer(self.theta, "<f4").astype(np.float32)

    @property
    def changes(self) -> NDArray[np.int64]:
        """The version in which each of them changed last, as in a broadcast: int64 [parameters]."""
        return np.frombuffer(self.changed, "<i4").astype(np.int64)

    @property
    def made_by(self) -> str:
        """The version of tinymetafed that began it."""
        try:
            version = json.loads(self.versions)["tinymetafed"]
        except (ValueError, KeyError, TypeError):
            version = "of an unknown version"
        return f"tinymetafed {version} (schema {self.schema})"


def columns_of(kind: Any) -> list[str]:
    """Names of the columns of a kind of rows."""
    return [one.name for one in fields(kind) if one.metadata.get("column", True)]
