"""Which classes are learnt badly: what unseen devices take their query samples for, by class."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from ..errors import printable
from ..results.store import ClassCount

MOST_SHOWN = 12
"""Classes of a run on the terminal."""


@dataclass(frozen=True)
class ClassFigures:
    """A class on all devices that have it. right: samples that are taken for it. mistaken: the
    other class that most of its samples are taken for, and how many; None where none is."""

    name: str
    samples: int
    right: int
    mistaken: tuple[str, int] | None

    @property
    def accuracy(self) -> float:
        """The share of its samples that are taken for it: its recall."""
        return self.right / self.samples

    @property
    def mistake(self) -> str:
        """The class that it is mistaken for most, and how often; empty where it never is."""
        if self.mistaken is None:
            return ""
        name, samples = self.mistaken
        return f"{printable(name)} ({samples / self.samples:.1%})"


def by_class(counts: Iterable[ClassCount]) -> list[ClassFigures]:
    """The classes: that with the lowest accuracy first, of these that with the most samples."""
    taken: dict[str, Counter[str]] = {}
    for one in counts:
        taken.setdefault(one.actual, Counter())[one.predicted] += one.samples
    found: list[ClassFigures] = []
    for name, predicted in taken.items():
        others = [(n, other) for other, n in sorted(predicted.items()) if other != name]
        most = max(others, key=lambda pair: pair[0], default=None)
        mistaken = None if most is None else (most[1], most[0])
        found.append(ClassFigures(name, predicted.total(), predicted[name], mistaken))
    return sorted(found, key=lambda one: (one.accuracy, -one.samples, one.name))


def worst_classes(counts: Sequence[ClassCount]) -> Table | None:
    """For the terminal; None where nothing is known of a run's classes."""
    found = by_class(counts)
    if not found:
        return None
    title = "Classes of unseen devices"
    if len(found) > MOST_SHOWN:
        title += f", the worst {MOST_SHOWN} of {len(found):,}"
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for column in ("samples", "accuracy after"):
        table.add_column(column, justify="right")
    table.add_column("most mistaken for")
    for one in found[:MOST_SHOWN]:
        figures = (f"{one.samples:,}", f"{one.accuracy:.1%}")
        table.add_row(escape(printable(one.name)), *figures, escape(one.mistake))
    return table
