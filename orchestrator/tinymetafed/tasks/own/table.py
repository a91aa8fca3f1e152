"""Tables of a user's own: a row is a sample."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from ...errors import TinyMetaFedError, printable
from ...models.layers import Shape
from ..base import warn
from . import columns
from .base import OwnData
from .columns import Columns as Read
from .columns import name_of
from .records import Records, numbered

Missing = Literal["error", "drop", "mean"]
Column = Annotated[str, Field(min_length=1)]
Columns = Annotated[tuple[Column, ...], Field(min_length=1)]


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class Columned(OwnData):
    """A file with columns: CSV (.csv, .tsv), Parquet or npz."""

    features: Columns | None = None
    """Columns that are inputs; of an .npz, arrays. All that are nothing else if not given."""
    target: Annotated[Columns, BeforeValidator(_as_tuple, Columns | Column)]
    """Column of the class, a name or a whole number; with `regression`, one or several of
    values."""
    regression: bool = False
    """Whether targets are values, in their own unit."""
    missing: Missing = "error"
    """What becomes of a value that is empty, NaN or infinite: an error; `drop`, its row is left
    out; `mean`, the mean of its column over the seen devices takes its place."""

    @model_validator(mode="after")
    def _columns_are_for_one_thing(self) -> "Columned":
        for one, what in ((self.classes, "classes"), (self.ways, "ways")):
            if self.regression and one is not None:
                raise ValueError(f"{what}: with task.regression there are no classes; leave it out")
        if not self.regression and len(self.target) > 1:
            raise ValueError("target: one column has the class; several are for task.regression")
        regression = self.target if self.regression else ()
        used = [*(self.features or ()), *regression, *self.texts.values(), *self.others]
        for name in used:
            if used.count(name) > 1:
                raise ValueError(f"features: {name!r} is used twice; a column is for one thing")
        return self

    @property
    def texts(self) -> dict[str, str]:
        """Columns that say whose or what a row is, by what they say."""
        found = {"device": self.device_column}
        if not self.regression:
            found["class"] = self.target[0]
        return {what: name for what, name in found.items() if name is not None}

    @property
    def others(self) -> tuple[str, ...]:
        """Columns that are numbers, and neither features nor targets."""
        return ()

    def sources(self) -> list[Path]:
        columns.check_file(Path(self.path))
        return [Path(self.path)]

    def rows(self) -> tuple[Records, Read, NDArray[np.intp]]:
        """The rows that are complete; the columns as they were read; which of their rows those are.
        Raises TinyMetaFedError."""
        targets = self.target if self.regression else ()
        wanted = columns.Wanted(
            self.features, (*targets, *self.others), tuple(dict.fromkeys(self.texts.values()))
        )
        found = columns.read(Path(self.path), wanted)
        labels, classes = self._numbered(found, "class", self.classes)
        owners, devices = self._numbered(found, "device", None)
        kept = self._complete(found, labels, owners)
        values = found.values[kept]
        if self.missing == "mean":
            values = np.where(np.isfinite(values), values, np.nan)
        if self.regression:
            target = found.targets[kept, : len(targets)]
        else:
            assert labels is not None
            target = labels[kept]
            if len(classes) < 2:
                raise TinyMetaFedError(
                    f"{self.path}: column {self.target[0]}: every class is "
                    f"{printable(', '.join(classes))!r}, so there is nothing to tell apart"
                )
        records = Records(
            values, found.names, target, classes, None if owners is None else owners[kept],
            devices, lambda row, problem: found.error(kept[row], problem),
        )  # fmt: skip
        return records, found, kept

    def _numbered(
        self, found: Read, what: str, given: tuple[str, ...] | None
    ) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
        if (name := self.texts.get(what)) is None:
            return None, ()
        return numbered(
            found.texts[name], given, lambda row, problem: found.error(row, problem, name),
            devices=what == "device",
        )  # fmt: skip

    def _complete(
        self, found: Read, labels: NDArray[np.int64] | None, owners: NDArray[np.int64] | None
    ) -> NDArray[np.intp]:
        """The rows where nothing is missing, or can be filled in. Raises TinyMetaFedError."""
        absent = np.zeros(len(found), np.bool_)
        for what, numbers in (("device", owners), ("class", labels)):
            for row in np.flatnonzero(numbers < 0)[:1] if numbers is not None else ():
                if self.missing != "drop":
                    column = self.texts[what]
                    text = printable(repr(str(found.texts[column][row])))
                    raise found.error(
                        row, f"the {what} is missing ({text}); enter it, or set task.missing = "
                        f'"drop"{", or name it in task.classes" * (what == "class")}', column
                    )  # fmt: skip
                absent |= np.asarray(numbers) < 0
        named = (*self.target, *self.others) if self.regression else self.others
        for values, names, mean in (
            (found.targets, named, False), (found.values, found.names, self.missing == "mean"),
        ):  # fmt: skip
            wrong = ~np.isfinite(values)
            for place in np.argwhere(wrong)[:1]:
                if self.missing == "error" or (self.missing == "mean" and not mean):
                    row, *rest = place.tolist()
                    kind = "missing" if np.isnan(values[tuple(place)]) else "infinite"
                    way = 'to "drop" or "mean"' if values is found.values else '= "drop"'
                    raise found.error(
                        row, f"the value is {kind}; enter it, or set task.missing {way}",
                        name_of(names, rest),
                    )  # fmt: skip
            if not mean:
                absent |= wrong.reshape(len(wrong), -1).any(axis=1)
        kept = np.flatnonzero(~absent)
        if len(kept) < len(found):
            warn(
                f"{self.path}: {len(found) - len(kept)} of {len(found)} rows have a missing value "
                "and are left out (task.missing)"
            )
        if not len(kept):
            raise TinyMetaFedError(f"{self.path}: no row is complete")
        return kept


class Table(Columned):
    """A table of your own: a row is a sample.

    Values are standardised each by itself. An array of a .npz may have samples of any shape, [n,
    values], [n, width, channels] or [n, height, width, channels], and is standardised by channel.
    """

    name: Literal["table"]

    def shape_of(self, records: Records) -> Shape:
        behind = records.values.shape[1:]
        return Shape(*(1,) * (3 - len(behind)), *behind)

    def records(self, digest: str) -> Records:
        records, *_ = self.rows()
        return records
