"""Data of a user's own: records in files, whose devices recorded them or are made.

A device is whole in its part: of the records of one that is not seen none is learnt from, nor used
to normalise.
"""

import hashlib
import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from ...errors import TinyMetaFedError, printable
from ...models.layers import Shape
from ...settings import Settings
from ..base import Held, Limits, Part, Range, Split, Task, ValidationShare, held_back
from ..partition import Partition, Rows
from ..samples import Samples
from .dealing import Dealt, blocked_of, check_made, deal, fewest_of, groups_of
from .records import Records

_STREAMS: dict[Part, int] = {"seen": 0, "unseen": 1, "validation": 2}
"""Of random numbers, by which a device's samples are drawn."""


class Found(Settings):
    """What was in the files as the experiment was read. Nobody gives it, a run's row has it.

    groups: how many devices, or of episodes without devices, classes. fewest: samples of the one
    that has the fewest, which is `of`; with ways, of a class. blocked: see Limits.
    """

    sha256: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    outputs: int
    groups: int
    fewest: int
    of: str
    blocked: int = 1


class OwnData(Task):
    """Files of your own: where they are, who has what of them, and who is in which part."""

    path: Annotated[str, Field(min_length=1)]
    """File or folder, from the experiment's folder."""
    device_column: Annotated[str, Field(min_length=1)] | None = None
    """Column with the name of the device that recorded a sample."""
    partition: Partition | None = None
    """How devices are made where no column names them."""
    unseen: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the devices that training never sees."""
    validation: ValidationShare = 0.5
    """Share of these that are for validation; the others are unseen."""
    unseen_devices: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of the unseen devices, in place of `unseen` and `validation`."""
    validation_devices: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of the devices for validation, beside those of `unseen_devices`."""
    split: Split | None = None
    """Seed by which it is drawn who is in which part, and what devices have that `partition` makes,
    so that runs of any seed have the same; each run's own seed if not given."""
    min_samples: Annotated[int, Field(ge=1)] = 1
    """Devices with fewer samples are left out."""
    classes: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    """Classes in the order of their numbers; no other is then allowed. All that are there, sorted,
    if not given."""
    ways: Annotated[int, Field(ge=2, le=1000)] | None = None
    """N classes of a device, drawn anew for each, with labels 0 to N − 1 in the order of drawing.
    Where no column names devices, those of another part have other classes."""
    normalise: bool = True
    """Whether values are standardised, by mean and standard deviation over the seen devices."""
    found: SkipJsonSchema[Found | None] = None
    """What was in the files as the experiment was read."""

    @abstractmethod
    def sources(self) -> list[Path]:
        """The files that are read. Raises TinyMetaFedError."""

    @abstractmethod
    def records(self, digest: str) -> Records:
        """What is in them; digest: their checksum. Raises TinyMetaFedError."""

    @abstractmethod
    def shape_of(self, records: Records) -> Shape:
        """Of a sample."""

    @property
    def made_with(self) -> dict[str, str]:
        """Versions of what the samples depend on besides."""
        return {}

    @model_validator(mode="after")
    def _devices_are_somebody_s(self) -> Self:
        if self.partition is not None and self.device_column is not None:
            raise ValueError(
                "partition: task.device_column says whose samples are; leave one of the two out"
            )
        if self.partition is None and self.device_column is None and self.ways is None:
            raise ValueError(
                "device_column: who recorded a sample is not known; name the column that says it, "
                "or make devices by task.partition"
            )
        if self.partition is not None and self.ways is not None:
            raise ValueError("partition: with task.ways each device's classes are drawn; leave it")
        if self.partition is not None:
            given = {
                "unseen_devices": self.unseen_devices,
                "validation_devices": self.validation_devices,
                "min_samples": self.min_samples > 1,
            }
            for key in (key for key, there in given.items() if there):
                raise ValueError(f"{key}: devices are made by task.partition; leave it out")
        if self.validation_devices is not None:
            if self.unseen_devices is None:
                raise ValueError("validation_devices: name the unseen ones too, unseen_devices")
            if both := sorted({*self.validation_devices} & {*self.unseen_devices}):
                raise ValueError(
                    f"validation_devices: {printable(', '.join(both))} would be unseen too; a "
                    "device is in one part"
                )
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: one is there twice")
        return self

    # ---- what is known as an experiment is read -------------------------------------------------

    def resolved(self, folder: Path) -> Self:
        """See Task."""
        own = self.model_copy(update={"path": str((folder / self.path).resolve())})
        digest = _digest(own)
        key: Any = own
        records = _records(key, digest)
        if self.partition is not None:
            check_made(own, records)
            count, smallest = self.partition.devices, "a device"
            fewest = self.partition.fewest(len(records))
        else:
            groups = groups_of(own, records, seed=0)
            sizes = {name: fewest_of(own, records, rows) for name, rows in groups.items()}
            smallest = min(sizes, key=lambda name: sizes[name])
            count, fewest = len(groups), sizes[smallest]
            for key in ("unseen_devices", "validation_devices"):
                for name in getattr(self, key) or ():
                    if name not in groups:
                        known = printable(", ".join(groups))
                        raise TinyMetaFedError(
                            f"task.{key}: {printable(name)!r} is none of them; there are: {known}"
                        )
        found = Found(
            sha256=digest,
            shape=own.shape_of(records),
            classes=records.classes,
            outputs=self.ways or len(records.classes) or records.targets.shape[1],
            groups=count,
            fewest=fewest,
            of=smallest,
            blocked=blocked_of(records),
        )
        return own.model_copy(update={"found": found})

    @property
    def known(self) -> Found:
        """What was found. Raises TinyMetaFedError where nothing was looked for."""
        if self.found is None:
            raise TinyMetaFedError("task.path: nobody has read it; read the experiment from a file")
        return self.found

    @property
    def shape(self) -> Shape:
        return Shape(*self.known.shape)

    @property
    def outputs(self) -> int:
        return self.known.outputs

    @property
    def target_is_class(self) -> bool:
        return bool(self.known.classes)

    @property
    def counts(self) -> dict[Part, int]:
        """Devices of each part, or classes. Training never sees one at least, and not all."""
        every = self.known.groups
        if self.unseen_devices is not None:
            validation, unseen = (
                len({*(n or ())}) for n in (self.validation_devices, self.unseen_devices)
            )
        else:
            never_seen = min(max(1, round(self.unseen * every)), every - 1)
            validation = held_back(self.validation, never_seen)
            unseen = never_seen - validation
        return {"seen": every - validation - unseen, "validation": validation, "unseen": unseen}

    def limits(self, *, part: Part) -> Limits:
        found, count = self.known, self.counts[part]
        who = f"{printable(found.of)} has no more; "
        if self.partition is None:
            who += "task.min_samples leaves out those that have too few"
        else:
            who += "use fewer devices in task.partition"
        if self.ways is None:
            return Limits(count, found.fewest, blocked=found.blocked, who=who)
        samples = self.ways * found.fewest
        enough = count >= (self.ways if self.device_column is None else 1)
        devices = math.inf if enough else 0
        return Limits(devices, samples, classes=self.ways, blocked=found.blocked, who=who)

    def dealt(self, seed: int) -> Dealt:
        """Who has what. Raises TinyMetaFedError."""
        key: Any = self  # settings can be hashed
        return _deal(key, seed if self.split is None else self.split)

    # ---- samples --------------------------------------------------------------------------------

    def prepare(self, seed: int) -> dict[str, str]:
        made_of = {Path(self.path).name: f"sha256:{self.known.sha256}", **self.made_with}
        for part in ("validation", "unseen"):
            if groups := self.dealt(seed).parts[part]:
                made_of[f"task.{part}"] = ", ".join(name for name, _ in groups)
        return made_of

    def device(
        self, seed: int, device: int, support: int, query: int, *, part: Part = "seen"
    ) -> tuple[Samples, Samples]:
        """Support and query are drawn at random, and never overlap."""
        dealt = self.dealt(seed)
        groups = dealt.parts[part]
        if self.ways is None:
            at = device % len(groups)
            name, rows = groups[at]
            rng = np.random.default_rng([seed, 0x_0DA7_A002, _STREAMS[part], at])
            first, then = dealt.drawn(rng, rows, support, query, name)
            return dealt.samples(first), dealt.samples(then)
        rng = np.random.default_rng([seed, device])
        classes, name = self._classes(dealt, device, part)
        return dealt.episode(rng, classes, self.ways, support, query, name)

    def _classes(self, dealt: Dealt, device: int, part: Part) -> tuple[list[Rows], str]:
        """The records of each class that an episode of a device is drawn from; and whose they
        are."""
        groups = dealt.parts[part]
        if self.device_column is None:
            return [rows for _, rows in groups], "the data"
        name, rows = groups[device % len(groups)]
        return dealt.by_class(rows), name

    def class_names(
        self, seed: int, device: int, support: int, query: int, *, part: Part = "seen"
    ) -> Sequence[str]:
        if self.ways is None:
            return self.known.classes
        dealt, rng = self.dealt(seed), np.random.default_rng([seed, device])
        classes, name = self._classes(dealt, device, part)
        chosen = dealt.drawn_classes(rng, classes, self.ways, support, query, name)
        return [dealt.class_of(rows) for rows in chosen]

    def ranges(self, seed: int) -> list[Range]:
        return self.dealt(seed).ranges()

    def held(self, seed: int, device: int, *, part: Part) -> Held | None:
        if self.ways is not None and self.device_column is None:
            return None  # classes of all
        dealt = self.dealt(seed)
        groups = dealt.parts[part]
        name, rows = groups[device % len(groups)]
        return Held(name, dealt.samples(rows), len(groups), self.known.classes)


# ---- reading ------------------------------------------------------------------------------------


def _digest(task: OwnData) -> str:
    """SHA-256 of the file; of several, of what sha256sum prints for them. Raises
    TinyMetaFedError."""
    files = task.sources()
    sums: list[tuple[str, str]] = []
    for path in files:
        try:
            with path.open("rb") as file:
                sums.append((str(path), hashlib.file_digest(file, "sha256").hexdigest()))
        except OSError as error:
            raise TinyMetaFedError(f"{path}: cannot be read: {error.strerror}") from None
    if len(sums) == 1:
        return sums[0][1]
    base = Path(task.path) if Path(task.path).is_dir() else Path(task.path).parent
    lines = "".join(f"{found}  {_below(base, path)}\n" for path, found in sums)
    return hashlib.sha256(lines.encode()).hexdigest()


def _below(base: Path, path: str) -> str:
    return str(Path(path).relative_to(base)) if Path(path).is_relative_to(base) else path


@lru_cache(maxsize=4)
def _records(task: OwnData, digest: str) -> Records:
    """Of the task without what was found, from files with that checksum."""
    return task.records(digest)


def _checked_records(task: OwnData) -> Records:
    """Raises TinyMetaFedError where the files are not those that the experiment was read with."""
    bare, wanted = task.model_copy(update={"found": None}), task.known.sha256
    if (found := _digest(bare)) != wanted:
        raise TinyMetaFedError(
            f"{task.path}: changed since the run was begun: its SHA-256 is {found}, not {wanted}; "
            "put the data back, or run the experiment anew"
        )
    key: Any = bare
    return _records(key, wanted)


@lru_cache(maxsize=4)
def _deal(task: OwnData, seed: int) -> Dealt:
    return deal(task, _checked_records(task), seed)
