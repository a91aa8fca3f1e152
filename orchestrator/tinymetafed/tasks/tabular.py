"""Tables of measurements: iris, wine, breast cancer, dealt out to devices.

The data sets of Gulati et al. 2024 (TDMiL). Devices are alike (IID), or each has classes in a
proportion of its own, drawn from a Dirichlet distribution (Hsu, Qi, Brown 2019, arXiv:1909.06335).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ..models.model import Shape
from . import datasets
from .base import Limits, Task
from .samples import Samples


class Card(datasets.Card):
    """Of a table: CSV with a heading, the class's number last."""

    file: datasets.File
    rows: int
    columns: int  # without the class
    classes: tuple[str, ...]


class Tabular(Task):
    """Settings: the table, the part of its rows that unseen devices have, the rows of a device, and
    α: the smaller, the fewer classes a device has; IID where not given."""

    name: Literal["tabular"]
    data: Literal["iris", "wine", "breast_cancer"]
    unseen: Annotated[float, Field(gt=0, lt=1)] = 0.4
    rows: Annotated[int, Field(ge=2, le=1000)] = 15
    alpha: Annotated[float, Field(ge=1e-3, le=1e6)] | None = None

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

    def _dealt(self, seed: int) -> "_Dealt":
        return _deal(self.data, self.rows_of(unseen=True), self.rows, self.alpha, seed)


@dataclass(frozen=True)
class _Dealt:
    """The samples of every device; the rows of the unseen ones, from 0."""

    seen: list[Samples]
    unseen: list[Samples]
    unseen_rows: list[int]


@lru_cache(maxsize=8)
def _deal(data: str, unseen_rows: int, rows: int, alpha: float | None, seed: int) -> _Dealt:
    """Columns are standardised by their mean and standard deviation over the seen devices' rows."""
    path = datasets.find(datasets.card(Card, data).file)
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    values, labels = table[:, :-1], table[:, -1].astype(np.uint32)
    rng = np.random.default_rng([seed, 0x_7AB1_E000])
    unseen, seen = np.split(rng.permutation(len(table)), [unseen_rows])
    values = (values - values[seen].mean(axis=0)) / values[seen].std(axis=0)
    values = values.astype(np.float32)

    def share_out(pool: NDArray[np.intp]) -> list[Samples]:
        parts = [pool[part] for part in _parts(rng, labels[pool], rows, alpha)]
        return [Samples(values[part], labels[part]) for part in parts]

    return _Dealt(share_out(seen), share_out(unseen), sorted(unseen.tolist()))


def _parts(
    rng: np.random.Generator, labels: NDArray[np.uint32], size: int, alpha: float | None
) -> list[NDArray[np.intp]]:
    """As many parts of `size` indices of `labels` as there are, none in two of them.

    A part's classes are drawn by q ~ Dirichlet(α·p), p being their proportion in `labels`, from
    what is left; without α by what is left alone.
    """
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    left = [rng.permutation(rows).tolist() for rows in classes]
    proportion = np.array([len(rows) for rows in left]) / len(labels)
    parts: list[NDArray[np.intp]] = []
    for _ in range(len(labels) // size):
        q = None if alpha is None else rng.dirichlet(alpha * proportion)
        part: list[int] = []
        while len(part) < size:
            counts = np.array([len(rows) for rows in left])
            weights = counts if q is None else q * (counts > 0)
            if not weights.any():  # this device's classes are used up
                weights = counts
            part.append(left[rng.choice(len(left), p=weights / weights.sum())].pop())
        parts.append(np.array(part))
    return parts
