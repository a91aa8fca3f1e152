"""The settings of a federation: which nodes and devices there are, and how they are judged."""

from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from ..energy.settings import EnergySettings, Priced, timings
from ..energy.timing import Timing
from ..models.layers import Shape
from ..models.model import FirstWeights, Model, ModelSettings
from ..nodes.settings import Faults, NodeSettings
from ..settings import Settings
from ..strategies import StrategySettings
from ..tasks import TaskSettings
from ..tasks.base import Part
from .participation import Attendance, Participation

Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]


Share = Annotated[float, Field(gt=0, le=1)]


class DeviceSettings(Settings):
    """[devices]: the population whose tasks are learnt; a node plays one of them in a round."""

    seen: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Devices that training draws from."""
    fraction: tuple[Share, Share] = (1.0, 1.0)
    """Smallest and largest part of the strategy's `query` samples that a device has; each device's
    part is drawn between these once, from the seed."""

    @model_validator(mode="after")
    def _range_ascends(self) -> "DeviceSettings":
        if self.fraction[0] > self.fraction[1]:
            raise ValueError("fraction: the second value may not be below the first")
        return self


class EvaluationSettings(Settings):
    """[evaluation]: few-shot adaptation on devices that training never saw: some for validation
    while it goes on, and, once after its last round, the unseen ones."""

    devices: Annotated[int, Field(ge=0, le=100_000)] = 50
    """Devices for validation, which are judged while training goes on; with 0 none are."""
    every: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """Rounds between two of these evaluations; there is also one before the first round and one
    after the last."""
    unseen: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default_factory=lambda data: data["devices"]
    )
    """Unseen devices, which are judged once, after the last round; as many as there are for
    validation if not given, with 0 none."""
    support: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Samples that a device adapts on."""
    steps: Annotated[int, Field(ge=0, le=100_000)] = 10
    """Inner steps of the adaptation."""
    query: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Samples that the adapted device is judged by."""


class FederationSettings(Settings):
    """All of a federation; the same settings and seed give the same weights, bit for bit."""

    seed: Seed = 1
    """All that is drawn follows from it: samples, first weights, nodes of a round, noise."""
    rounds: Annotated[int, Field(ge=1, le=10_000_000)]
    """Rounds of the training."""
    nodes: NodeSettings = NodeSettings()
    """How many nodes there are, and what runs them."""
    faults: Faults = Faults()
    """Noise on the links, and what a firmware fault means for the exit status."""
    participation: Participation = Participation()
    """Which nodes are there in a round, and how long it waits for them."""
    devices: DeviceSettings = DeviceSettings()
    """The population of devices that training draws from."""
    task: TaskSettings
    """The data, and how they are cut into devices."""
    model: ModelSettings
    """The network that the nodes train."""
    strategy: StrategySettings
    """The algorithm."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """How unseen devices are judged."""
    energy: EnergySettings = EnergySettings()
    """The chip and the radio that a run is priced for."""

    @property
    def per_round(self) -> int:
        """M: nodes that take part in a round."""
        return self.nodes.per_round or self.nodes.count

    @property
    def priced(self) -> Priced:
        """What its nodes are priced for; where some are emulated, those in-process are not."""
        every: list[tuple[range, EnergySettings]] = []
        for group, kind in self.nodes.fleet:
            if not kind.emulated and len(self.nodes.backends) > 1:
                continue
            named = {key: getattr(kind, key, None) for key in ("device", "radio")}
            own = {key: value for key, value in named.items() if value is not None}
            every.append((group, self.energy.model_copy(update=own)))
        return every

    @property
    def counted_rounds(self) -> Sequence[int]:
        """In which it is found out what nodes execute: as many as nodes.emulate or nodes.counted
        says, the middles of so many equal parts of the training; else all."""
        count = self.nodes.sampled
        if not count:
            return range(1, self.rounds + 1)
        return [(2 * part + 1) * self.rounds // (2 * count) + 1 for part in range(count)]

    @property
    def timings(self) -> tuple[Timing, ...]:
        """The tables by which its nodes' cycles are counted. Raises TinyMetaFedError."""
        return timings(self.priced)

    def devices_of(self, part: Part) -> range:
        """The numbers of a part's devices; those of the parts follow each other."""
        validation = self.devices.seen + self.evaluation.devices
        ends = {
            "seen": (0, self.devices.seen),
            "validation": (self.devices.seen, validation),
            "unseen": (validation, validation + self.evaluation.unseen),
        }
        return range(*ends[part])

    def part_of(self, device: int) -> Part:
        """The part that the device of this number is in."""
        if device < self.devices.seen:
            return "seen"
        return "validation" if device in self.devices_of("validation") else "unseen"

    def judged_after(self, done: int) -> range:
        """The devices that are judged after so many rounds: those for validation before the first,
        every so many and after the last; after that the unseen ones too."""
        validation, unseen = map(self.devices_of, ("validation", "unseen"))
        if done == self.rounds:
            return range(validation.start, unseen.stop)
        return validation if done % self.evaluation.every == 0 else validation[:0]

    @property
    def attendance(self) -> Attendance:
        """Which nodes are there in each round."""
        return Attendance(self.participation, self.seed, self.nodes.count)

    @property
    def shape(self) -> Shape:
        """Of a sample, as the model sees it."""
        return Shape(*(self.model.shape or self.task.shape))

    @property
    def built_model(self) -> Model:
        """The model on the task's samples, its local parts as the strategy uses them."""
        shaped = self.model.model_copy(update={"shape": self.shape})
        return Model.build(shaped, self.task.inputs, local=self.strategy.uses_local)

    def starting_with(self, first: FirstWeights) -> Self:
        """The same with these weights of the model, which are in no file of settings."""
        return self.model_copy(update={"model": self.model.starting_with(first)})

    def query(self, device: int) -> int:
        """Samples that a training device learns from: its fraction of the strategy's query, drawn
        uniformly, in whole sets of the task's classes; one at least."""
        low, high = self.devices.fraction
        if low == high == 1.0:
            return self.strategy.query
        share = np.random.default_rng([self.seed, 0x_F4AC, device]).uniform(low, high)
        classes = self.task.limits(part="seen").classes
        return classes * max(1, round(share * self.strategy.query / classes))

    @model_validator(mode="after")
    def _fits_together(self) -> "FederationSettings":
        self._check_engine()
        self._check_faults()
        self._check_participation()
        if self.nodes.emulate and self.nodes.backend not in ("host", "serial"):
            raise ValueError(
                f"nodes.emulate: every round of {self.nodes.backend} nodes is emulated; use "
                "nodes.backend=host or serial"
            )
        if self.nodes.emulate > self.rounds:
            raise ValueError(f"nodes.emulate: {self.nodes.emulate} of {self.rounds} rounds")
        if self.nodes.counted is not None:
            self._check_counted(self.nodes.counted)
        if self.per_round > self.nodes.count:
            raise ValueError(
                f"nodes.per_round: {self.per_round} nodes take part but nodes.count is "
                f"{self.nodes.count}"
            )
        if self.strategy.serial and self.per_round != 1:
            raise ValueError(
                f"nodes.per_round: {self.strategy.name} is serial, but {self.per_round} nodes take "
                "part; use 1"
            )
        if self.per_round > self.devices.seen:
            raise ValueError(
                f"devices.seen: {self.devices.seen} devices are too few for {self.per_round} nodes "
                "in a round"
            )
        if self.devices.fraction != (1.0, 1.0) and not self.strategy.takes_fewer:
            raise ValueError(
                f"devices.fraction: {self.strategy.name} needs all query samples of each device; "
                "leave it out"
            )
        model = self.built_model
        if (self.model.loss != "mse") != self.task.target_is_class:
            raise ValueError(f"model.loss: {self.model.loss} does not judge the task's targets")
        wanted = self.task.outputs
        if self.model.loss == "binary_cross_entropy":
            if wanted != 2:
                raise ValueError(
                    "model.loss: binary_cross_entropy tells two classes apart, the task has "
                    f"{wanted}"
                )
            wanted = 1
        if model.outputs != wanted:
            raise ValueError(
                f"model.layers.{len(self.model.layers) - 1}: the task has "
                f"{wanted} outputs, the last layer {model.outputs}"
            )
        self._check_samples()
        if all(part.local for part in model.parts):
            raise ValueError("model.layers: every layer is local, so there is nothing to exchange")
        return self

    def _check_counted(self, count: int) -> None:
        if self.nodes.backend != "renode":
            raise ValueError(
                f"nodes.counted: counting costs {self.nodes.backend} nodes nothing; leave it out"
            )
        if count > self.rounds:
            raise ValueError(f"nodes.counted: {count} of {self.rounds} rounds")
        if self.participation.deadline is not None:
            raise ValueError(
                "nodes.counted: with participation.deadline it has to be known of each round how "
                "long it takes; leave one out"
            )

    def _check_engine(self) -> None:
        nodes = self.nodes
        if nodes.engine != "local" and nodes.backends != ["host"]:
            raise ValueError(
                f"nodes.engine: {nodes.backend} nodes are processes of this machine; use local or "
                "nodes.backend=host"
            )
        if (nodes.address is None) == (nodes.engine == "ray"):
            raise ValueError(
                "nodes.address: ray has one, HOST:PORT of the cluster's head or local; the engine "
                "local has none"
            )
        if nodes.threads is not None and ("host" not in nodes.backends or nodes.engine != "local"):
            raise ValueError(
                "nodes.threads: only host nodes have them, with nodes.engine=local; leave it out"
            )

    def _check_faults(self) -> None:
        self.faults.check(self.nodes.count)
        if self.faults.links and self.nodes.engine != "local":
            raise ValueError(
                f"faults.links: nodes on {self.nodes.engine} have no links; use nodes.engine=local"
            )
        if self.faults.links and self.nodes.emulate:
            raise ValueError(
                "faults.links: rounds that are emulated as well are compared with undisturbed "
                "ones; leave nodes.emulate out"
            )

    def _check_participation(self) -> None:
        uncounted = [kind.backend for _, kind in self.nodes.fleet if not kind.emulated]
        if self.participation.deadline is not None and uncounted:
            raise ValueError(
                f"participation.deadline: {uncounted[0]} nodes are not counted, so nobody "
                "knows who is late; use nodes.backend=qemu or renode"
            )
        if self.participation.slow is not None and self.participation.deadline is None:
            raise ValueError(
                "participation.slow: without a deadline nobody waits for slow nodes; set "
                "participation.deadline or leave it out"
            )

    def _check_samples(self) -> None:
        judged = self.evaluation
        if not judged.devices and not judged.unseen:
            raise ValueError("evaluation.devices: no device is judged; use one, or one unseen")
        parts: tuple[tuple[str, StrategySettings | EvaluationSettings, str, Part], ...] = (
            ("strategy", self.strategy, "devices.seen", "seen"),
            ("evaluation", judged, "evaluation.devices", "validation"),
            ("evaluation", judged, "evaluation.unseen", "unseen"),
        )
        for table, wanted, key, part in parts:
            limits, devices = self.task.limits(part=part), len(self.devices_of(part))
            if devices > limits.devices:
                raise ValueError(
                    f"{key}: {devices} {part} devices, but the task has data for {limits.devices}"
                )
            if not devices:
                continue
            for samples_of in ("support", "query"):
                if (samples := getattr(wanted, samples_of)) % limits.classes:
                    raise ValueError(
                        f"{table}.{samples_of}: {samples} samples cannot be shared out evenly over "
                        f"{limits.classes} classes"
                    )
            if wanted.support * limits.blocked + wanted.query > limits.samples:
                overlap = f" · {limits.blocked}, since windows overlap," * (limits.blocked > 1)
                raise ValueError(
                    f"{table}.query: {wanted.support}{overlap} + {wanted.query} samples of a "
                    f"device, but the task has {limits.samples}{limits.who and f': {limits.who}'}"
                )
