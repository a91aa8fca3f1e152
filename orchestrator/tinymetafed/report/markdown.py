"""Tables of the terminal as Markdown, for a page of documentation or a paper's repository."""

from collections.abc import Iterable
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ..files import writing


def text(parts: Iterable[Table | Text], title: str) -> str:
    """A page with a heading."""
    return "\n\n".join([f"# {title}", *map(_of, parts)]) + "\n"


def write(parts: Iterable[Table | Text], title: str, path: Path) -> None:
    """The same into a file. Raises TinyMetaFedError."""
    with writing(path) as file:
        file.write(text(parts, title))


def _of(part: Table | Text) -> str:
    if isinstance(part, Text):
        return part.plain
    heads = [_cell(column.header) for column in part.columns]
    sides = ["---:" if column.justify == "right" else "---" for column in part.columns]
    rows = zip(*(map(_cell, column.cells) for column in part.columns), strict=True)
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, sides, *rows)]
    around = [f"**{_plain(part.title)}**" if part.title else "", "\n".join(lines)]
    if part.caption:
        around.append(_plain(part.caption).replace("\n", "  \n"))
    return "\n\n".join(filter(None, around))


def _cell(content: object) -> str:
    return _plain(content).replace("|", "\\|").replace("\n", "<br>")


def _plain(content: object) -> str:
    """Without the markup of the terminal."""
    return content.plain if isinstance(content, Text) else Text.from_markup(str(content)).plain
