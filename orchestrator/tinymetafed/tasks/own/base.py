"""Data of a user's own: records in files, whose devices recorded them or are made.

An unseen device is a whole device: of its records none is seen in training, nor used to normalise.
"""

import hashlib
from abc import abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from ...errors import TinyMetaFedError, printable
from ...models.layers import Shape
from ...settings import Settings
from ..base import Held, Limits, Range, Task
from ..partition import Partition
from ..samples import Samples
from .dealing import Dealt, blocked_of, check_made, deal, fewest_of, groups_of
from .records import Records


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
    """Files of your own: where they are, who has what of them, and what is unseen."""

    path: Annotated[str, Field(min_length=1)]
    """File or folder, from the experiment's folder."""
    device_column: Annotated[str, Field(min_length=1)] | None = None
    """Column with the name of the device that recorded a sample."""
    partition: Partition | None = None
    """How devices are made where no column names them."""
    unseen: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Part of the devices that training never sees, drawn from the seed."""
    unseen_devices: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of the devices that training never sees, in place of `unseen`."""
    min_samples: Annotated[int, Field(ge=1)] = 1
    """Devices with fewer samples are left out."""
    classes: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    """Classes in the order of their numbers; no other is then allowed. All that are there, sorted,
    if not given."""
    ways: Annotated[int, Field(ge=2, le=1000)] | None = None
    """N classes of a device, drawn anew for each, with labels 0 to N − 1 in the order of drawing.
    Where no column names devices, unseen ones have other classes."""
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
        if self.partition is not None and (self.unseen_devices or self.min_samples > 1):
            key = "unseen_devices" if self.unseen_devices else "min_samples"
            raise ValueError(f"{key}: devices are made by task.partition; leave it out")
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
            for name in self.unseen_devices or ():
                if name not in groups:
                    known = printable(", ".join(groups))
                    raise TinyMetaFedError(
                        f"task.unseen_devices: {printable(name)!r} is none of them; there are: "
                        f"{known}"
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
    def unseen_groups(self) -> int:
        """How many: at least one, and not all."""
        if self.unseen_devices is not None:
            return len(set(self.unseen_devices))
        return min(max(1, round(self.unseen * self.known.groups)), self.known.groups - 1)

    def limits(self, *, unseen: bool) -> Limits:
        found = self.known
        count = self.unseen_groups if unseen else found.groups - self.unseen_groups
        who = f"{printable(found.of)} has no more; "
        if self.partition is None:
            who += "task.min_samples leaves out those that have too few"
        else:
            who += "use fewer devices in task.partition"
        if self.ways is None:
            return Limits(count, found.fewest, blocked=found.blocked, who=who)
        samples = self.ways * found.fewest
        return Limits(samples=samples, classes=self.ways, blocked=found.blocked, who=who)

    def dealt(self, seed: int) -> Dealt:
        """Who has what. Raises TinyMetaFedError."""
        key: Any = self  # settings can be hashed
        return _deal(key, seed)

    # ---- samples --------------------------------------------------------------------------------

    def prepare(self, seed: int) -> dict[str, str]:
        dealt = self.dealt(seed)
        return {
            Path(self.path).name: f"sha256:{self.known.sha256}",
            **self.made_with,
            "task.unseen": ", ".join(name for name, _ in dealt.unseen),
        }

    def device(
        self, seed: int, device: int, support: int, query: int, *, unseen: bool = False
    ) -> tuple[Samples, Samples]:
        """Support and query are drawn at random, and never overlap."""
        dealt = self.dealt(seed)
        groups = dealt.unseen if unseen else dealt.seen
        if self.ways is None:
            at = device % len(groups)
            name, rows = groups[at]
            rng = np.random.default_rng([seed, 0x_0DA7_A002, int(unseen), at])
            first, then = dealt.drawn(rng, rows, support, query, name)
            return dealt.samples(first), dealt.samples(then)
        rng = np.random.default_rng([seed, device])
        if self.device_column is None:
            classes, name = [rows for _, rows in groups], "the data"
        else:
            name, rows = groups[device % len(groups)]
            classes = dealt.by_class(rows)
        return dealt.episode(rng, classes, self.ways, support, query, name)

    def ranges(self, seed: int) -> list[Range]:
        return self.dealt(seed).ranges()

    def held(self, seed: int, device: int, *, unseen: bool) -> Held | None:
        if self.ways is not None and self.device_column is None:
            return None  # classes of all
        dealt = self.dealt(seed)
        groups = dealt.unseen if unseen else dealt.seen
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
