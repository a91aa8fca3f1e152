"""Records: what files of a user's own hold, whichever kind of file they are."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import TinyMetaFedError, printable
from ..base import warn
from ..table import MISSING, NUMBER

_WHOLE = re.compile(r"[+-]?\d{1,30}(\.0*)?", re.ASCII)

Error = Callable[[int, str], TinyMetaFedError]
"""Says where a record is, and what is wrong with it."""


@dataclass(frozen=True)
class Records:
    """values: [n, …, channels], NaN where one is missing. names: of the channels, or of all.
    targets: int64 [n], the numbers of `classes`; or float64 [n, outputs] where there are none.
    owners: int64 [n], the numbers of `devices`; or None where nobody knows whose they are.
    starts: int64 [n] where records are windows of `span` rows that may overlap: their first rows.
    error: names file and line of a record.
    """

    values: NDArray[np.floating]
    names: tuple[str, ...]
    targets: NDArray[np.int64] | NDArray[np.float64]
    classes: tuple[str, ...]
    owners: NDArray[np.int64] | None
    devices: tuple[str, ...]
    error: Error
    starts: NDArray[np.int64] | None = None
    span: int = 1

    def __len__(self) -> int:
        return len(self.values)


def numbered(
    texts: NDArray[np.str_], given: Sequence[str] | None, error: Error, *, devices: bool = False
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The number of each text's name, −1 where it is missing, and the names.

    given: the names in their order; without it they are those that are there, sorted, numbers by
    their value. Whole numbers are the same name in all ways to write them. devices: whether they
    are those of devices, of which some may be numbers and others words, and two may differ by case
    alone. Raises TinyMetaFedError.
    """
    found, first, inverse = np.unique(texts, return_index=True, return_inverse=True)
    names: dict[int, str] = {}
    for i in np.argsort(first).tolist():
        text, row = str(found[i]), int(first[i])
        name, is_number = _name(text)
        if given is not None and text in given:
            name = text
        elif given is not None and name in given:
            pass
        elif text.lower() in MISSING:
            continue
        elif given is not None:
            known = printable(", ".join(given))
            raise error(row, f"{printable(text)!r} is no class; task.classes has {known}")
        elif not devices and is_number and not _WHOLE.fullmatch(name):
            raise error(
                row,
                f"the class is {printable(text)!r}; a class is a whole number or a name; for "
                "values set task.regression = true",
            )
        elif not devices and names and is_number != _name(next(iter(names.values())))[1]:
            kinds = ("no number", "classes before it are numbers")
            if is_number:
                kinds = ("a number", "classes before it are names")
            raise error(
                row,
                f"{printable(text)!r} is {kinds[0]}, and {kinds[1]}; name all in task.classes",
            )
        names[i] = name
    every = tuple(given) if given is not None else in_order(set(names.values()))
    if given is None and (alike := _alike(every)):
        row = int(first[next(i for i in names if names[i] == alike[1])])
        problem = f"{printable(alike[0])!r} and {printable(alike[1])!r} differ by case alone"
        if not devices:
            raise error(row, f"{problem}; write them alike, or name both in task.classes")
        warn(f"{error(row, problem)}, and are two devices")
    number = {name: i for i, name in enumerate(every)}
    table = np.array([number[names[i]] if i in names else -1 for i in range(len(found))], np.int64)
    return table[inverse], every


def _name(text: str) -> tuple[str, bool]:
    """And whether it is a number: a whole one without sign, zeros and point."""
    if _WHOLE.fullmatch(text):
        return str(int(text.partition(".")[0])), True
    return text, NUMBER.fullmatch(text) is not None


def _alike(names: tuple[str, ...]) -> tuple[str, str] | None:
    """The first two that differ by case alone."""
    known: dict[str, str] = {}
    for name in names:
        if (other := known.setdefault(name.casefold(), name)) != name:
            return other, name
    return None


def in_order(names: set[str]) -> tuple[str, ...]:
    """Sorted, numbers by their value."""
    if all(NUMBER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=float))
    return tuple(sorted(names))
