"""Tables of measurements: iris, wine, breast cancer, dealt out to devices.

The data sets of Gulati et al. 2024 (TDMiL). Devices are alike (IID), or each has classes in a
proportion of its own, drawn from a Dirichlet distribution (Hsu, Qi, Brown 2019, arXiv:1909.06335).
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ..errors import TinyMetaFedError
from ..models.layers import Shape
from . import datasets
from .base import Held, Limits, Part, Split, Task, ValidationShare, held_back, warn
from .partition import parts_of
from .samples import Samples
from .scaling import standardised
from .table import LARGEST, Table, read

Missing = Literal["error", "drop", "mean"]


class Card(datasets.Card):
    """Of a table: CSV with a heading, the class's number last. `rows` are those that are dealt out,
    so those without a missing value where others are dropped."""

    file: datasets.File
    rows: Annotated[int, Field(ge=1)]
    columns: Annotated[int, Field(ge=1)]  # without the class
    classes: Annotated[tuple[str, ...], Field(min_length=2)]


class Tabular(Task):
    """A small table whose rows are shared out to devices; no two have the same rows."""

    name: Literal["tabular"]
    data: Literal["iris", "wine", "breast_cancer"]
    """The table."""
    unseen: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Share of the rows that devices have which training never sees."""
    validation: ValidationShare = 0.5
    """Share of these devices that are for validation; the others are unseen."""
    split: Split | None = None
    """Seed by which rows are shared out and devices put into parts, so that runs of any seed have
    the same; each run's own seed if not given."""
    rows: Annotated[int, Field(ge=2, le=1000)] = 15
    """Rows of a device."""
    alpha: Annotated[float, Field(ge=1e-3, le=1e6)] | None = None
    """α of the Dirichlet distribution that a device's classes are drawn from: the smaller, the
    fewer classes it has. IID if not given."""
    missing: Missing = "error"
    """What becomes of a value that is empty, NaN or infinite: an error; `drop`, its row is left
    out; `mean`, the mean of its column over the seen devices' rows takes its place."""

    @property
    def shape(self) -> Shape:
        return Shape(1, 1, self.card.columns)

    @property
    def outputs(self) -> int:
        return len(self.card.classes)

    @property
    def card(self) -> Card:
        """The card of the table."""
        return datasets.card(Card, self.data)

    @property
    def never_seen(self) -> int:
        """Rows of the devices that training never sees."""
        return round(self.unseen * self.card.rows)

    def limits(self, *, part: Part) -> Limits:
        return Limits(devices=self._counts[part], samples=self.rows)

    @property
    def _counts(self) -> dict[Part, int]:
        """Devices of each part."""
        never_seen = self.never_seen // self.rows
        validation = held_back(self.validation, never_seen)
        return {
            "seen": (self.card.rows - self.never_seen) // self.rows,
            "validation": validation,
            "unseen": never_seen - validation,
        }

    @model_validator(mode="after")
    def _rows_suffice(self) -> "Tabular":
        never_seen = self.never_seen
        for kind, rows in (("seen", self.card.rows - never_seen), ("unseen", never_seen)):
            if self.rows > rows:
                raise ValueError(f"rows: {self.rows} of the {rows} rows for {kind} devices")
        return self

    def prepare(self, seed: int) -> dict[str, str]:
        file, dealt = self.card.file, self._dealt(seed)
        made_of = {file.name: f"sha256:{file.sha256}"}
        if dealt.devices["validation"]:
            made_of["task.validation"] = _listed(dealt.rows["validation"])
        return made_of | {"task.unseen": _listed(dealt.rows["unseen"])}

    def device(
        self, seed: int, device: int, support: int, query: int, *, part: Part = "seen"
    ) -> tuple[Samples, Samples]:
        devices = self._dealt(seed).devices[part]
        samples = devices[device % len(devices)]
        return samples[:support], samples[support : support + query]

    def class_names(
        self, seed: int, device: int, support: int, query: int, *, part: Part = "seen"
    ) -> tuple[str, ...]:
        return self.card.classes

    def held(self, seed: int, device: int, *, part: Part) -> Held | None:
        held = super().held(seed, device, part=part)
        return held and replace(held, classes=self.card.classes)

    def _dealt(self, seed: int) -> "_Dealt":
        validation = self._counts["validation"]
        settings = self.data, self.never_seen, validation, self.rows, self.alpha, self.missing
        return _deal(*settings, seed if self.split is None else self.split)


@dataclass(frozen=True)
class _Dealt:
    """By part: the samples of every device, and the rows that all of them are drawn from, from 0;
    a row that is left over is counted among the unseen ones, so that it is in no other part."""

    devices: dict[Part, list[Samples]]
    rows: dict[Part, list[int]]


@lru_cache(maxsize=8)
def _deal(
    data: str, never_seen: int, validation: int, rows: int, alpha: float | None, missing: Missing,
    seed: int,
) -> _Dealt:  # fmt: skip
    """Columns are standardised by their mean and standard deviation over the seen devices' rows.
    never_seen: rows. validation: of the devices that have these."""
    table = _complete(data, missing)
    rng = np.random.default_rng([seed, 0x_7AB1_E000])
    others, seen = np.split(rng.permutation(len(table)), [never_seen])
    values, labels = _scaled(table, seen), table.labels.astype(np.uint32)

    def share_out(pool: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        return [pool[chosen] for chosen in parts_of(rng, labels[pool], rows, alpha)]

    learnt, judged = share_out(seen), share_out(others)
    by_part: dict[Part, list[NDArray[np.intp]]] = {
        "seen": learnt, "validation": judged[:validation], "unseen": judged[validation:],
    }  # fmt: skip
    validated = np.concatenate([others[:0], *by_part["validation"]])
    return _Dealt(
        {
            part: [Samples(values[of_one], labels[of_one]) for of_one in devices]
            for part, devices in by_part.items()
        },
        {
            "seen": sorted(seen.tolist()),
            "validation": sorted(validated.tolist()),
            "unseen": sorted(np.setdiff1d(others, validated).tolist()),
        },
    )


def _listed(rows: list[int]) -> str:
    return f"rows {', '.join(map(str, rows))}"


def _complete(data: str, missing: Missing) -> Table:
    """The table of that name, in which values are missing where they are to be the mean alone."""
    card = datasets.card(Card, data)
    table = read(datasets.find(card.file), card.columns, len(card.classes))
    absent = ~np.isfinite(np.column_stack([table.values, table.labels]))
    absent[:, -1] = table.labels < 0
    every = len(table)
    if missing == "drop":
        table = table[np.flatnonzero(~absent.any(axis=1))]
    else:
        if missing == "mean":
            absent[:, :-1] = False
        for row, column in np.argwhere(absent)[:1]:
            raise table.error(row, column, _what_is_missing(table, row, column))
    if len(table) != card.rows:
        rows = f"{len(table)} of {every} rows are complete" if missing == "drop" else (
            f"{every} rows")  # fmt: skip
        raise TinyMetaFedError(
            f"{table.path}: {rows}, and datasets/{data}.toml says {card.rows}: enter rows = "
            f"{len(table)} there"
        )
    missed = [f"{i} ({name})" for i, name in enumerate(card.classes) if i not in table.labels]
    if missed:
        warn(f"{table.path}: no row is of class {', '.join(missed)}")
    return table


def _what_is_missing(table: Table, row: int, column: int) -> str:
    if column == table.values.shape[1]:
        return 'the class is missing; enter it, or set task.missing = "drop"'
    value = "missing" if np.isnan(table.values[row, column]) else "infinite"
    return f'the value is {value}; enter it, or set task.missing to "drop" or "mean"'


def _scaled(table: Table, seen: NDArray[np.intp]) -> NDArray[np.float32]:
    """The values, standardised; those that are missing take the mean of the rows `seen`."""
    values = table.values
    absent = ~np.isfinite(values)
    if absent.any():
        known = np.where(absent, np.nan, values)[seen]
        for column in np.flatnonzero(np.isnan(known).all(axis=0)):
            raise TinyMetaFedError(
                f"{table.path}: {table.columns[column]}: no row of the seen devices has a value, "
                "so there is no mean"
            )
        values = np.where(absent, np.nanmean(known, axis=0), values)
    scaled, constant = standardised(values, seen)
    if len(constant):
        names = ", ".join(table.columns[column] for column in constant)
        warn(
            f"{table.path}: constant in the rows of the seen devices, so 0 in every sample: {names}"
        )
    for row, column in np.argwhere(np.abs(scaled) > LARGEST)[:1]:
        raise table.error(
            row, column,
            f"{scaled[row, column]:.2g} standard deviations from the mean of the seen devices' "
            "rows: beyond float32",
        )  # fmt: skip
    return scaled.astype(np.float32)
