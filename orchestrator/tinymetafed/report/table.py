"""A table as a page shows it and as a CSV file has it: the same text in both, but for what a
spreadsheet would take for a formula."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from ..files import escaped

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """name: of its file. head: of each column, with the unit."""

    name: str
    title: str
    head: Sequence[str]
    cells: Sequence[Sequence[Cell]]

    @property
    def rows(self) -> list[list[str]]:
        """As text; numbers to six digits, nothing where there is no value."""
        return [[_text(cell) for cell in row] for row in self.cells]

    @property
    def csv(self) -> str:
        """RFC 4180."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows(map(escaped, [self.head, *self.rows]))
        return text.getvalue()


def _text(cell: Cell) -> str:
    if cell is None or cell != cell:  # NaN
        return ""
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)
