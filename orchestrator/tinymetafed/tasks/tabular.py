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
from .base import Held, Limits, Task, warn
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
    """A small table whose rows are shared out to devices; unseen devices have other rows."""

    name: Literal["tabular"]
    data: Literal["iris", "wine", "breast_cancer"]
    """The table."""
    unseen: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Part of the rows that unseen devices have."""
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

    def rows_of(self, *, unseen: bool) -> int:
        """Rows of all unseen devices, or of all others."""
        unseen_rows = round(self.unseen * self.card.rows)
        return unseen_rows if unseen else self.card.rows - unseen_rows

    def limits(self, *, unseen: bool) -> Limits:
        return Limits(devices=self.rows_of(unseen=unseen) // self.rows, samples=self.rows)

    @model_validator(mode="after")
    def _rows_suffice(self) -> "Tabular":
        for unseen in (False, True):
            if self.rows > (rows := self.rows_of(unseen=unseen)):
                kind = "unseen" if unseen else "seen"
                raise ValueError(f"rows: {self.rows} of the {rows} rows for {kind} devices")
        return self

    def prepare(self, seed: int) -> dict[str, str]:
        file = self.card.file
        return {
            file.name: f"sha256:{file.sha256}",
            "task.unseen": f"rows {', '.join(map(str, self._dealt(seed).unseen_rows))}",
        }

    def device(
        self, seed: int, device: int, support: int, query: int, *, unseen: bool = False
    ) -> tuple[Samples, Samples]:
        dealt = self._dealt(seed)
        devices = dealt.unseen if unseen else dealt.seen
        samples = devices[device % len(devices)]
        return samples[:support], samples[support : support + query]

    def held(self, seed: int, device: int, *, unseen: bool) -> Held | None:
        held = super().held(seed, device, unseen=unseen)
        return held and replace(held, classes=self.card.classes)

    def _dealt(self, seed: int) -> "_Dealt":
        unseen_rows = self.rows_of(unseen=True)
        return _deal(self.data, unseen_rows, self.rows, self.alpha, self.missing, seed)


@dataclass(frozen=True)
class _Dealt:
    """The samples of every device; the rows of the unseen ones, from 0."""

    seen: list[Samples]
    unseen: list[Samples]
    unseen_rows: list[int]


@lru_cache(maxsize=8)
def _deal(
    data: str, unseen_rows: int, rows: int, alpha: float | None, missing: Missing, seed: int
) -> _Dealt:
    """Columns are standardised by their mean and standard deviation over the seen devices' rows."""
    table = _complete(data, missing)
    rng = np.random.default_rng([seed, 0x_7AB1_E000])
    unseen, seen = np.split(rng.permutation(len(table)), [unseen_rows])
    values, labels = _scaled(table, seen), table.labels.astype(np.uint32)

    def share_out(pool: NDArray[np.intp]) -> list[Samples]:
        parts = [pool[part] for part in parts_of(rng, labels[pool], rows, alpha)]
        return [Samples(values[part], labels[part]) for part in parts]

    return _Dealt(share_out(seen), share_out(unseen), sorted(unseen.tolist()))


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
