"""Who has which records of a user's own data, and what is seen of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...errors import TinyMetaFedError, printable
from ..base import Part, Range, warn
from ..partition import Rows
from ..samples import Samples
from ..scaling import standardised
from ..table import LARGEST
from .records import Records

if TYPE_CHECKING:
    from .base import OwnData


@dataclass(frozen=True)
class Dealt:
    """Records as samples, and who has which. targets: as Samples has them. parts: names and rows
    of each part's devices, in random order."""

    records: Records
    inputs: NDArray[np.float32]
    targets: NDArray[np.uint32] | NDArray[np.float32]
    parts: dict[Part, list[tuple[str, Rows]]]

    def samples(self, rows: Rows) -> Samples:
        """Of these records."""
        return Samples(self.inputs[rows], self.targets[rows])

    def ranges(self) -> list[Range]:
        """Of each channel."""
        values = self.records.values[np.concatenate([rows for _, rows in self.parts["seen"]])]
        columns = values.reshape(-1, values.shape[-1])
        figures = np.nanmin, np.nanmean, np.nanstd, np.nanmax
        of_columns = np.stack([figure(columns, axis=0) for figure in figures], axis=1).tolist()
        return [Range(channel(self.records, i), *one) for i, one in enumerate(of_columns)]

    def drawn(
        self, rng: np.random.Generator, rows: Rows, support: int, query: int, name: str
    ) -> tuple[Rows, Rows]:
        """Of these records, `support` and others, `query` of them, that do not overlap those."""
        order = rng.permutation(rows)
        first, rest = order[:support], order[support:]
        starts = self.records.starts
        if starts is not None and support:
            taken = np.sort(starts[first])
            after = np.searchsorted(taken, starts[rest])
            below = starts[rest] - taken[np.maximum(after - 1, 0)]
            above = taken[np.minimum(after, support - 1)] - starts[rest]
            span = self.records.span
            rest = rest[(np.abs(below) >= span) & (np.abs(above) >= span)]
        if len(rest) < query or len(first) < support:
            raise TinyMetaFedError(
                f"task: {support} + {query} samples are asked for, and {name} has {len(rows)}"
                f"{' that overlap' if starts is not None else ''}; use a smaller support or query"
            )
        return first, rest[:query]

    def by_class(self, rows: Rows) -> list[Rows]:
        """The records of each class among these."""
        labels = self.records.targets[rows]
        return [rows[labels == label] for label in np.unique(labels)]

    def episode(
        self, rng: np.random.Generator, classes: list[Rows], ways: int, support: int, query: int,
        name: str,
    ) -> tuple[Samples, Samples]:  # fmt: skip
        """Of `ways` classes, drawn from those that have enough, the same number of samples each."""
        shots, asked = support // ways, query // ways
        chosen = self.drawn_classes(rng, classes, ways, support, query, name)
        parts = [self.drawn(rng, rows, shots, asked, name) for rows in chosen]
        support_rows, query_rows = zip(*parts, strict=True)
        return self._relabelled(rng, support_rows), self._relabelled(rng, query_rows)

    def drawn_classes(
        self, rng: np.random.Generator, classes: list[Rows], ways: int, support: int, query: int,
        name: str,
    ) -> list[Rows]:  # fmt: skip
        """The records of each of the classes of an episode."""
        shots, asked = support // ways, query // ways
        blocked = blocked_of(self.records)
        enough = [rows for rows in classes if len(rows) >= shots * blocked + asked]
        if len(enough) < ways:
            raise TinyMetaFedError(
                f"task: {ways} classes with {shots} + {asked} samples are asked for, and {name} "
                f"has {len(enough)}; use a smaller support or query, or fewer ways"
            )
        return [enough[c] for c in rng.choice(len(enough), ways, replace=False)]

    def class_of(self, rows: Rows) -> str:
        """The name of the class that all of these records are of."""
        return self.records.classes[int(self.records.targets[rows[0]])]

    def _relabelled(self, rng: np.random.Generator, parts: Sequence[Rows]) -> Samples:
        labels = np.repeat(np.arange(len(parts), dtype=np.uint32), [len(part) for part in parts])
        order = rng.permutation(len(labels))
        return Samples(self.inputs[np.concatenate(parts)[order]], labels[order])


def blocked_of(records: Records) -> int:
    """Samples of a device that are no use for its query set once one is in its support set: that
    one, and those that can overlap it."""
    if records.starts is None or len(records) < 2:
        return 1
    stride = int(np.diff(records.starts).min())
    return 2 * (-(-records.span // stride) - 1) + 1


# ---- devices ------------------------------------------------------------------------------------


def groups_of(task: "OwnData", records: Records, seed: int) -> dict[str, Rows]:
    """The rows of each device, or of each class where episodes are drawn from all; those with too
    few samples are left out. Raises TinyMetaFedError."""
    kind = "devices"
    if (partition := task.partition) is not None:
        rng = np.random.default_rng([seed, 0x_0DA7_A000])
        dealt = partition.deal(rng, records.targets if records.classes else np.zeros(len(records)))
        return {str(i): rows for i, rows in enumerate(dealt)}
    if records.owners is not None:
        numbers, names = records.owners, records.devices
    else:
        numbers, names, kind = records.targets, records.classes, "classes"
    order = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[order], np.arange(1, len(names)))
    parts = dict(zip(names, np.split(order, ends), strict=True))
    every = {name: rows for name, rows in parts.items() if len(rows)}
    if records.owners is not None and len(every) < len(parts):
        lost = printable(", ".join(name for name in parts if name not in every))
        warn(f"{task.path}: devices that have no sample are left out: {lost}")
    kept = {n: rows for n, rows in every.items() if fewest_of(task, records, rows)}
    large = {n: r for n, r in kept.items() if fewest_of(task, records, r) >= task.min_samples}
    if len(kept) < len(every):
        few = next(name for name in every if name not in kept)
        raise TinyMetaFedError(
            f"{task.path}: device {printable(few)!r} has fewer classes than task.ways, which is "
            f"{task.ways}; leave its samples out or use fewer ways"
        )
    if len(large) < len(every):
        warn(
            f"{task.path}: {len(every) - len(large)} of {len(every)} {kind} have fewer than "
            f"{task.min_samples} samples and are left out (task.min_samples)"
        )
    if len(large) < 2:
        raise TinyMetaFedError(
            f"{task.path}: {len(large)} {kind} with at least {task.min_samples} samples, and two "
            "are the fewest: one that is seen and one that is not"
        )
    if kind == "classes" and task.ways is not None and len(large) < 2 * task.ways:
        raise TinyMetaFedError(
            f"{task.path}: {len(large)} classes, and task.ways = {task.ways} needs as many that "
            "are seen and as many that are not"
        )
    return large


def check_made(task: "OwnData", records: Records) -> None:
    """Raises TinyMetaFedError where devices cannot be made as task.partition says."""
    partition = task.partition
    assert partition is not None
    if partition.by_class and not records.classes:
        raise TinyMetaFedError(
            f"task.partition: {partition.name} needs classes, and the targets are values"
        )
    if partition.fewest(len(records)) < 1:
        raise TinyMetaFedError(
            f"task.partition: {len(records)} samples are too few for {partition.devices} devices"
        )
    if blocked_of(records) > 1:
        raise TinyMetaFedError(
            "task.partition: windows overlap, so two devices would have the same rows; use a "
            "task.stride of at least task.window, or task.device_column"
        )


def fewest_of(task: "OwnData", records: Records, rows: Rows) -> int:
    """Samples of a device; with ways and devices, of its class that has the N-th most."""
    if task.ways is None or records.owners is None:
        return len(rows)
    counts = np.sort(np.bincount(records.targets[rows].astype(np.intp)))[::-1]
    return int(counts[task.ways - 1]) if len(counts) >= task.ways else 0


def deal(task: "OwnData", records: Records, seed: int) -> Dealt:
    """Values are standardised by their mean and standard deviation over what seen devices have.
    Raises TinyMetaFedError."""
    groups = groups_of(task, records, seed)
    rng = np.random.default_rng([seed, 0x_0DA7_A001])
    names = [list(groups)[i] for i in rng.permutation(len(groups))]
    if (listed := task.unseen_devices) is not None:
        validation, unseen = set(task.validation_devices or ()), set(listed)
    else:
        first, last = task.counts["validation"], task.counts["unseen"]
        validation, unseen = set(names[:first]), set(names[first : first + last])
    if len(validation | unseen) == len(names):
        raise TinyMetaFedError("task.unseen_devices: these are all devices; none is left to see")
    seen = [name for name in names if name not in validation | unseen]
    chosen: dict[Part, set[str]] = {"seen": {*seen}, "validation": validation, "unseen": unseen}
    parts: dict[Part, list[tuple[str, Rows]]] = {
        part: [(name, groups[name]) for name in names if name in some]
        for part, some in chosen.items()
    }
    seen_rows = np.sort(np.concatenate([rows for _, rows in parts["seen"]]))
    if task.ways is None and records.classes:
        _check_classes(task, records, seen_rows, [*parts["validation"], *parts["unseen"]])
    elif task.ways is not None and records.owners is None:
        for part in ("seen", "unseen"):
            if len(parts[part]) < task.ways:
                raise TinyMetaFedError(
                    f"task.unseen: {len(parts[part])} classes are {part}, and task.ways is "
                    f"{task.ways}"
                )
    inputs = _scaled(task, records, seen_rows).reshape(len(records), -1)
    values = records.targets
    targets = values.astype(np.uint32) if records.classes else values.astype(np.float32)
    return Dealt(records, inputs, targets, parts)


def _check_classes(
    task: "OwnData", records: Records, seen: Rows, others: list[tuple[str, Rows]]
) -> None:
    """Raises TinyMetaFedError where one of the others has a class that nobody can have learnt."""
    labels = records.targets.astype(np.intp)
    learnt = np.zeros(len(records.classes), np.bool_)
    learnt[labels[seen]] = True
    for name, rows in others:
        for row in rows[~learnt[labels[rows]]][:1].tolist():
            text = records.classes[labels[row]]
            raise records.error(
                row,
                f"the class {printable(text)!r} is that of devices alone that are not seen, "
                f"as of {printable(name)!r}, so none can learn it; change task.unseen_devices, "
                "task.unseen or the seed",
            )
    if missed := [name for name, known in zip(records.classes, learnt, strict=True) if not known]:
        warn(f"{task.path}: no sample is of class {printable(', '.join(missed))}")


def _scaled(task: "OwnData", records: Records, seen: Rows) -> NDArray[np.float32]:
    """Standardised where that is asked for; what is missing takes the mean of what was seen."""
    values = records.values
    axes = tuple(range(values.ndim - 1))
    absent = ~np.isfinite(values)
    if absent.any():
        known = np.where(absent, np.nan, values)[seen]
        nowhere = np.isnan(known).all(axis=axes)
        for column in np.flatnonzero(nowhere).tolist():
            raise TinyMetaFedError(
                f"{task.path}: column {channel(records, column)}: no seen device has a value, so "
                "there is no mean"
            )
        values = np.where(absent, np.nanmean(known, axis=axes), values)
    if not task.normalise:
        return values.astype(np.float32)
    scaled, constant = standardised(values, seen)
    if len(constant):
        names = printable(", ".join(channel(records, column) for column in constant.tolist()))
        warn(f"{task.path}: constant in what seen devices have, so 0 in every sample: {names}")
    for row, *_, column in np.argwhere(np.abs(scaled) > LARGEST)[:1].tolist():
        raise records.error(
            row,
            f"{channel(records, column)} is too many standard deviations from the mean of the "
            "seen devices: beyond float32",
        )
    return scaled.astype(np.float32)


def channel(records: Records, column: int) -> str:
    """Its name."""
    several = len(records.names) == records.values.shape[-1]
    return records.names[column] if several else f"{records.names[0]}[…, {column}]"
