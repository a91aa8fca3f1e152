"""Files with columns: CSV, Parquet and npz, read strictly, so that every value is the one that its
writer meant."""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import TinyMetaFedError, printable
from .. import table
from ..table import LARGEST, MISSING

ENDINGS = {".csv": ",", ".tsv": "\t", ".parquet": "", ".pq": "", ".npz": ""}
"""Of files that can be read; what is between the columns of those that are text."""
AT_ONCE = 4096  # rows that are lists of numbers before they are an array

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """values: float64 [rows, …], of `names` on the last axis, or of one array of a .npz; not finite
    where one is missing. targets: the same of other columns, [rows, columns]. texts: of others, ""
    where one is missing. line: says where a row of the file is."""

    path: Path
    names: tuple[str, ...]
    values: Numbers
    targets: Numbers
    texts: dict[str, NDArray[np.str_]]
    line: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.values)

    def error(self, row: int, problem: str, column: str = "") -> TinyMetaFedError:
        """Says what is wrong in a row, and where that is."""
        where = f", column {column}" if column else ""
        return TinyMetaFedError(f"{self.path}: {self.line(row)}{where}: {problem}")


@dataclass(frozen=True)
class Wanted:
    """Names of the columns to read: numbers, all that are none of the others where not given;
    numbers that are targets; texts. key: the setting that names the first, for messages."""

    numbers: Sequence[str] | None
    targets: Sequence[str]
    texts: Sequence[str]
    key: str = "task.features"

    def chosen(self, path: Path, known: Sequence[str], what: str = "column") -> tuple[str, ...]:
        """The numbers. Raises TinyMetaFedError where one is not there, or there twice."""
        used = {*(self.numbers or known), *self.targets, *self.texts}
        for i, name in enumerate(known):
            if name in used - {""} and name in known[:i]:
                raise TinyMetaFedError(f"{path}: two {what}s have the name {printable(name)!r}")
        for name in (*(self.numbers or ()), *self.targets, *self.texts):
            if name not in known:
                there = printable(", ".join(known))
                raise TinyMetaFedError(f"{path}: no {what} {printable(name)!r}; there are: {there}")
        if self.numbers is not None:
            return tuple(self.numbers)
        rest = tuple(name for name in known if name not in (*self.targets, *self.texts))
        if "" in rest:
            raise TinyMetaFedError(
                f"{path}: column {known.index('') + 1} has no name, as an index that pandas writes;"
                f" remove it, or name the columns to use in {self.key}"
            )
        if not rest:
            raise TinyMetaFedError(f"{path}: there is no other {what} for {self.key}")
        return rest


def check_file(path: Path) -> None:
    """Raises TinyMetaFedError where there is no file that may have columns."""
    if path.suffix.lower() not in ENDINGS:
        raise TinyMetaFedError(f"{path}: its name has to end in {', '.join(ENDINGS)}")
    try:
        if not S_ISREG((status := path.stat()).st_mode):
            raise TinyMetaFedError(f"{path}: is no file")
    except OSError as error:
        raise TinyMetaFedError(f"{path}: cannot be read: {error.strerror}") from None
    if status.st_size == 0:
        raise TinyMetaFedError(f"{path}: there is nothing in it")


def read(path: Path, wanted: Wanted) -> Columns:
    """The columns. Raises TinyMetaFedError that names the file, and line or row and column: not
    there, not of its kind, truncated, no column of that name or two, text where a number has to be,
    a number beyond float32."""
    check_file(path)
    match path.suffix.lower():
        case ".npz":
            found = _npz(path, wanted)
        case ".parquet" | ".pq":
            found = _parquet(path, wanted)
        case _:
            found = _csv(path, wanted)
    if not len(found):
        raise TinyMetaFedError(f"{path}: there are no rows in it")
    return found


# ---- CSV ----------------------------------------------------------------------------------------


def _csv(path: Path, wanted: Wanted) -> Columns:
    records = table.records(path, ENDINGS[path.suffix.lower()])
    first, heading = next(records, (1, []))
    heading = [name.strip() for name in heading]
    if not heading:
        raise TinyMetaFedError(f"{path}: there is nothing in it")
    if all(table.NUMBER.fullmatch(name) or name.lower() in MISSING for name in heading):
        raise table.error_at(path, first, "a row of numbers, where the heading has to be")
    names = wanted.chosen(path, heading)
    every = (*names, *wanted.targets)
    at = [heading.index(name) for name in every]
    said = [f"column {printable(name)}" for name in every]
    text_at = {name: heading.index(name) for name in wanted.texts}
    lines: list[int] = []
    values: list[list[float]] = []
    blocks: list[Numbers] = []
    found: dict[str, list[str]] = {name: [] for name in wanted.texts}
    known: dict[str, str] = {}  # the same text once in memory
    for line, cells in records:
        if len(cells) != len(heading):
            columns = f"{len(cells)} column{'s' * (len(cells) != 1)}"
            raise table.error_at(path, line, f"it has {columns}, the heading {len(heading)}")
        used = [cells[i] for i in at]
        values.append(table.plain(used) or table.numbers(path, line, said, used))
        lines.append(line)
        for name, i in text_at.items():
            text = cells[i].strip()
            found[name].append(known.setdefault(text, text))
        if len(values) == AT_ONCE:
            blocks.append(np.array(values))
            values.clear()
    blocks.append(np.array(values, np.float64).reshape(len(values), len(every)))
    kept = {name: np.array(one, np.str_) for name, one in found.items()}
    features, targets = np.split(np.concatenate(blocks), [len(names)], axis=1)
    numbered = np.array(lines)
    return Columns(path, names, features, targets, kept, lambda row: f"line {numbered[row]}")


# ---- Parquet ------------------------------------------------------------------------------------


def _parquet(path: Path, wanted: Wanted) -> Columns:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise TinyMetaFedError(
            f"{path}: Parquet needs pyarrow: pip install 'tinymetafed[parquet]'"
        ) from None
    with _reading(path):
        file = pq.ParquetFile(path)
        known = file.schema_arrow.names
    names = wanted.chosen(path, known)
    every = (*names, *wanted.targets)
    with _reading(path):
        found = file.read(columns=list(dict.fromkeys((*every, *wanted.texts))))
    values = np.empty((found.num_rows, len(every)))
    for i, name in enumerate(every):
        kind = found.schema.field(name).type
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if not (is_number or pa.types.is_boolean(kind)):
            raise TinyMetaFedError(
                f"{path}: column {printable(name)}: {kind} where numbers have to be"
            )
        with _reading(path):
            values[:, i] = found.column(name).cast(pa.float64(), safe=False).to_numpy()
    kept = {name: _as_texts(found.column(name).to_pylist()) for name in wanted.texts}
    features, targets = np.split(values, [len(names)], axis=1)
    return _checked(Columns(path, names, features, targets, kept, _row), wanted)


def _row(row: int) -> str:
    return f"row {row + 1}"


def _as_texts(values: Sequence[Any]) -> NDArray[np.str_]:
    return np.array(["" if one is None or one != one else str(one).strip() for one in values])


# ---- npz ----------------------------------------------------------------------------------------


def _npz(path: Path, wanted: Wanted) -> Columns:
    with _reading(path), zipfile.ZipFile(path) as archive:
        known = [name.removesuffix(".npy") for name in archive.namelist()]
    names = wanted.chosen(path, known, "array")
    arrays: dict[str, NDArray[Any]] = {}
    with _reading(path), np.load(path, allow_pickle=False) as file:
        for name in (*names, *wanted.targets, *wanted.texts):
            arrays[name] = file[name]
    rows = len(np.atleast_1d(arrays[names[0]]))
    for name, array in arrays.items():
        is_text = name in wanted.texts
        allowed, what = ("biufU", "numbers or text") if is_text else ("biuf", "numbers")
        axes = 5 if [name] == [*names] else 2  # after the first: an image's and, of targets, one
        where = f"{path}: array {printable(name)}: {array.dtype} {list(array.shape)}"
        if array.dtype.kind not in allowed or not 0 < array.ndim < axes:
            raise TinyMetaFedError(f"{where}, where a row of {what} for each sample has to be")
        if len(array) != rows:
            raise TinyMetaFedError(f"{where}, and {printable(names[0])} has {rows} rows")
    kept = {name: _as_texts(arrays[name].tolist()) for name in wanted.texts}
    values = arrays[names[0]] if len(names) == 1 else np.stack([arrays[n] for n in names], axis=1)
    values = (values if values.ndim > 1 else values[:, np.newaxis]).astype(np.float64)
    targets = np.array([arrays[name] for name in wanted.targets], np.float64)
    columns = Columns(path, names, values, targets.reshape(-1, rows).T, kept, _row)
    return _checked(columns, wanted)


def _checked(columns: Columns, wanted: Wanted) -> Columns:
    """Raises TinyMetaFedError where a number is beyond float32."""
    every = (columns.names, columns.values), (tuple(wanted.targets), columns.targets)
    for names, values in every:
        for place in np.argwhere(np.isfinite(values) & (np.abs(values) > LARGEST))[:1]:
            text = f"{values[tuple(place)]:g}"
            problem = f"{text} is beyond float32, which ends at {LARGEST:.4g}"
            row, *rest = place.tolist()
            raise columns.error(row, problem, name_of(names, rest))
    return columns


def name_of(names: Sequence[str], index: Sequence[int]) -> str:
    """Of a value, by its index behind that of its row."""
    if len(index) == 1 and len(names) > 1:
        return printable(names[index[0]])
    return f"{printable(names[0])}{list(index)}" if index != [0] else printable(names[0])


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What a damaged file makes its reader raise, as a TinyMetaFedError."""
    try:
        yield
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        reason = printable(reason or type(error).__name__)
        raise TinyMetaFedError(f"{path}: cannot be read ({reason})") from None
