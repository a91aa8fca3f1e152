"""Tables: CSV files read strictly, so that every value is the one that its writer meant."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import TinyMetaFedError

MISSING = {
    "", "?", "-", ".", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none", "nil",
}  # fmt: skip
"""What stands for a value that is not there, in capitals or not."""
LARGEST = float(np.finfo(np.float32).max)
"""Of what a node can be sent."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_INFINITY = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_COUNT = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True)
class Table:
    """values: float64 [rows, columns], not finite where one is missing. labels: int64 [rows], −1
    where it is missing. lines: int64 [rows], of the file, on which the rows begin. columns: their
    numbers and names, the label's too."""

    path: Path
    values: NDArray[np.float64]
    labels: NDArray[np.int64]
    lines: NDArray[np.int64]
    columns: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: NDArray[np.intp]) -> "Table":
        of_rows = self.values[rows], self.labels[rows], self.lines[rows]
        return Table(self.path, *of_rows, self.columns)

    def error(self, row: int, column: int, problem: str) -> TinyMetaFedError:
        """Says what is wrong with a value, and where that is."""
        return error_at(self.path, int(self.lines[row]), problem, self.columns[column])


def read(path: Path, columns: int, classes: int) -> Table:
    """A table of values with the class's number last, below a heading: a name for each column, or
    scikit-learn's, which begins with the numbers of rows and columns. Blank lines are none.

    Raises TinyMetaFedError that names file, line and column: no UTF-8, no heading, another number
    of columns, a column's name twice, text, a number beyond float32, a class that is none of
    0 … classes − 1.
    """
    rows = records(path)
    line, heading = next(rows, (1, []))
    names = _columns(path, line, heading, columns)
    values: list[list[float]] = []
    labels: list[int] = []
    lines: list[int] = []
    for line, cells in rows:
        if len(cells) != columns + 1:
            raise error_at(path, line, _wrong_width(len(cells), columns))
        values.append(plain(cells[:-1]) or numbers(path, line, names, cells[:-1]))
        try:
            labels.append(_label(cells[-1], classes))
        except ValueError as error:
            raise error_at(path, line, str(error), names[-1]) from None
        lines.append(line)
    table = np.array(values, np.float64).reshape(-1, columns)
    return Table(path, table, np.array(labels, np.int64), np.array(lines, np.int64), names)


def records(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """The line that each row of a CSV file begins on, and its cells; blank lines are none. Raises
    TinyMetaFedError where it cannot be read, or is no UTF-8 or no CSV."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise TinyMetaFedError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = 1 + error.object[: error.start].count(b"\n")
        raise error_at(path, line, "not UTF-8 text") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise error_at(path, line, f"not CSV: {error}") from None


def _columns(path: Path, line: int, heading: list[str], columns: int) -> list[str]:
    """The columns' numbers, and their names where the heading has them."""
    names = [name.strip() for name in heading]
    if not names:
        raise TinyMetaFedError(f"{path}: there is nothing in it")
    names[0] = names[0].lstrip("# ")
    if all(NUMBER.fullmatch(name) or name.lower() in MISSING for name in names):
        raise error_at(path, line, "a row of numbers, where the heading has to be")
    if len(names) > 2 and all(_COUNT.fullmatch(name) for name in names[:2]):  # scikit-learn's
        return [f"column {i + 1}" for i in range(columns + 1)]
    if len(names) != columns + 1:
        raise error_at(path, line, _wrong_width(len(names), columns))
    for i, name in enumerate(names):
        if name in names[:i]:
            twice = f"{name!r} is the name of column {names.index(name) + 1} too"
            raise error_at(path, line, twice, f"column {i + 1}")
    return [f"column {i + 1} ({_short(name)})" for i, name in enumerate(names)]


def _wrong_width(found: int, columns: int) -> str:
    wanted = f"{columns} and the class, with commas between them"
    return f"it has {found} column{'s' * (found != 1)} of {columns + 1}: {wanted}"


def plain(cells: list[str]) -> list[float]:
    """Empty where there is more to a row than numbers, as there seldom is: float() is ten times as
    fast as a look at each cell, but takes `1_0`, other digits and words for infinities too."""
    text = "".join(cells)
    try:
        numbers = [*map(float, cells)] if text.isascii() and "_" not in text else []
    except ValueError:
        return []
    return numbers if sum(map(abs, numbers)) <= LARGEST else []  # NaN is not


def numbers(path: Path, line: int, names: list[str], cells: list[str]) -> list[float]:
    """Of the cells, in the columns `names`: NaN where one is missing. Raises TinyMetaFedError."""
    found: list[float] = []
    for name, cell in zip(names, cells, strict=False):
        try:
            found.append(_number(cell))
        except ValueError as error:
            raise error_at(path, line, str(error), name) from None
    return found


def _number(cell: str) -> float:
    """NaN where it is missing. Raises ValueError."""
    text = cell.strip()
    if NUMBER.fullmatch(text):
        if abs(number := float(text)) > LARGEST:
            raise ValueError(f"{_short(text)} is beyond float32, which ends at {LARGEST:.4g}")
        return number
    if text.lower() in MISSING:
        return np.nan
    if _INFINITY.fullmatch(text):
        return np.inf
    raise ValueError(f"{_short(cell)} is no number")


def _label(cell: str, classes: int) -> int:
    """−1 where it is missing. Raises ValueError."""
    text = cell.strip()
    if text.lower() in MISSING:
        return -1
    if not _COUNT.fullmatch(text) or int(text) >= classes:
        raise ValueError(f"the class is {_short(cell)}; use a whole number from 0 to {classes - 1}")
    return int(text)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def error_at(path: Path, line: int, problem: str, column: str = "") -> TinyMetaFedError:
    """Says what is wrong, and where that is."""
    where = f"line {line}, {column}" if column else f"line {line}"
    return TinyMetaFedError(f"{path}: {where}: {problem}")
