"""Signals of a user's own: rows are moments, columns channels, and a sample is a window of them."""

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ...errors import TinyMetaFedError
from ...models.layers import Shape
from .columns import Columns
from .records import Records
from .table import Column, Columned

GAP = 1.5  # periods between two rows from which on one is missing
RATE_ERROR = 0.1
"""Of the rate, by which the rows may be nearer or further apart in the median."""


class Signals(Columned):
    """Signals of your own: rows are moments, columns channels, and a sample is a window of them.

    A window has one device and one class, and goes over no row that was left out; with regression
    its target is that of its last row. Channels are standardised each by itself.
    """

    name: Literal["signals"]
    window: Annotated[int, Field(ge=2, le=65_535)]
    """Rows of a window."""
    stride: Annotated[int, Field(ge=1)] | None = None
    """Rows from the start of a window to that of the next; `window` if not given."""
    rate: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Rows in a second, for `time`."""
    time: Column | None = None
    """Column in seconds: a window goes over no gap of 1.5 periods; time that goes back, or is not
    of that rate, is an error."""
    recording: Column | None = None
    """Column that changes where another recording begins."""

    @property
    def texts(self) -> dict[str, str]:
        found = super().texts
        return found if self.recording is None else found | {"recording": self.recording}

    @property
    def others(self) -> tuple[str, ...]:
        return () if self.time is None else (self.time,)

    @model_validator(mode="after")
    def _time_has_a_rate(self) -> "Signals":
        if self.time is not None and self.rate is None:
            raise ValueError("rate: task.time needs it, in Hz, to know where rows are missing")
        return self

    def shape_of(self, records: Records) -> Shape:
        return Shape(1, *records.values.shape[1:])

    def records(self, digest: str) -> Records:
        rows, found, kept = self.rows()
        if rows.values.ndim != 2:
            raise TinyMetaFedError(
                f"{self.path}: array {rows.names[0]}: {list(rows.values.shape)} are windows "
                'already; use task.name = "table"'
            )
        new = self._beginnings(rows, found, kept)
        firsts = np.flatnonzero(new)
        lengths = np.diff(np.append(firsts, len(rows)))
        stride = self.stride or self.window
        starts = np.concatenate(
            [
                np.arange(first, first + length - self.window + 1, stride)
                for first, length in zip(firsts.tolist(), lengths.tolist(), strict=True)
            ]
        ).astype(np.int64)
        if not len(starts):
            longest = int(lengths.argmax())
            raise rows.error(
                int(firsts[longest]),
                f"the longest run of rows of one device, class and recording begins here and has "
                f"{lengths[longest]}, and task.window is {self.window}; sort the rows, or use a "
                "smaller window",
            )
        windows = sliding_window_view(rows.values, self.window, axis=0)[starts]
        at = starts + self.window - 1 if self.regression else starts
        return replace(
            rows,
            values=np.ascontiguousarray(windows.transpose(0, 2, 1)),
            targets=rows.targets[at],
            owners=None if rows.owners is None else rows.owners[starts],
            error=lambda row, problem: rows.error(int(starts[row]), problem),
            starts=starts,
            span=self.window,
        )

    def _beginnings(
        self, rows: Records, found: Columns, kept: NDArray[np.intp]
    ) -> NDArray[np.bool_]:
        """Of each row, whether no window goes over it from the row before."""
        new = np.ones(len(rows), np.bool_)
        new[1:] = np.diff(kept) != 1
        if rows.owners is not None:
            new[1:] |= np.diff(rows.owners) != 0
        if rows.classes:
            new[1:] |= np.diff(rows.targets) != 0
        if self.recording is not None:
            texts = found.texts[self.recording][kept]
            new[1:] |= texts[1:] != texts[:-1]
        if self.time is not None:
            new[1:] |= self._gaps(rows, found.targets[kept, -1], new)
        return new

    def _gaps(
        self, rows: Records, time: NDArray[np.float64], new: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Of each row but the first, whether some are missing before it. Raises TinyMetaFedError
        where time goes back, or is not that of the rate."""
        assert self.rate is not None
        steps = np.where(new[1:], np.nan, np.diff(time))
        for row in np.flatnonzero(steps <= 0)[:1]:
            raise rows.error(
                int(row) + 1,
                f"column {self.time}: time goes from {time[row]:g} to {time[row + 1]:g}; sort the "
                "rows, or name the column in task.recording that tells recordings apart",
            )
        if np.isnan(steps).all():
            return np.zeros(len(steps), np.bool_)
        median = float(np.nanmedian(steps))
        if abs(median * self.rate - 1) > RATE_ERROR:
            raise TinyMetaFedError(
                f"{self.path}: column {self.time}: rows are {median:g} apart in the median; at "
                f"task.rate = {self.rate:g} it has to be {1 / self.rate:g} seconds"
            )
        return steps > GAP / self.rate
