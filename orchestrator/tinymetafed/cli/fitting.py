"""Tables on a narrow terminal: text wraps, numbers stay whole.

Rich would cut what a narrow column has no room for. Here each column has at least room for its
longest word, and a table that is too wide even so becomes several, each with the first column.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Console, ConsoleRenderable, RenderableType, RenderHook
from rich.table import Column, Table

LONGEST = 20
"""Columns for the words of a text, at most: a longer one is folded. A number has all it takes."""


class Fitting(RenderHook):
    """Has a console print tables that fit; see Console.push_render_hook."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Each table, as one that fits or several."""
        found: list[ConsoleRenderable] = []
        for one in renderables:
            found += fitted(self._console, one) if isinstance(one, Table) else [one]
        return found


@dataclass(frozen=True)
class _Room:
    """Characters that a column needs so that no word is cut, and that it would like."""

    least: int
    most: int


def fitted(console: Console, table: Table) -> Iterator[Table]:
    """The table, or tables with some of its columns each and the first in all of them."""
    rooms = [_room(console, column) for column in table.columns]
    frame = 3 if table.box else 2  # of a column: two blanks, and a line in between
    available = console.width - (1 if table.box else 0)
    if sum(room.most + frame for room in rooms) <= available:
        yield table
        return
    parts = _parts([room.least + frame for room in rooms], available)
    for part in parts:
        widths = _shared([rooms[i] for i in part], available - frame * len(part))
        yield _part(table, part, widths, first=part is parts[0], last=part is parts[-1])


def _room(console: Console, column: Column) -> _Room:
    texts = [*column.cells, column.header, column.footer]
    lines = [line for text in texts for line in _lines(console, text)]
    words = [len(word) for line in lines for word in line.split()]
    least = max(words, default=1)
    if column.justify != "right":
        least = min(least, LONGEST)
    return _Room(least, max(map(len, lines), default=1))


def _lines(console: Console, text: RenderableType) -> list[str]:
    shown = console.render_str(text) if isinstance(text, str) else text
    return str(shown).splitlines()


def _parts(widths: Sequence[int], available: int) -> list[list[int]]:
    """Columns that go together: the first, and as many as there is room for."""
    parts, used = [[0]], widths[0]
    for i in range(1, len(widths)):
        if used + widths[i] > available and len(parts[-1]) > 1:
            parts.append([0])
            used = widths[0]
        parts[-1].append(i)
        used += widths[i]
    return parts


def _shared(rooms: Sequence[_Room], available: int) -> list[int]:
    """What each has: what it needs, and of the rest what it would like, the last ones first:
    numbers stand there."""
    widths, rest = [room.least for room in rooms], available - sum(room.least for room in rooms)
    for i in reversed(range(len(rooms))):
        more = max(0, min(rest, rooms[i].most - widths[i]))
        widths[i] += more
        rest -= more
    return widths


def _part(
    table: Table, columns: Sequence[int], widths: Sequence[int], *, first: bool, last: bool
) -> Table:
    part = copy.copy(table)
    part.columns = [
        replace(table.columns[i], _index=at, width=width, overflow="fold")
        for at, (i, width) in enumerate(zip(columns, widths, strict=True))
    ]
    part.title = table.title if first else None
    part.caption = table.caption if last else None
    return part
