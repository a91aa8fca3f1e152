"""A table as a page shows it and as a CSV file has it: the same text in both, but for what a
spreadsheet would take for a formula. For papers, as LaTeX and Markdown."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..files import escaped

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """name: of its file. head: of each column, with the unit. paper: it is
    written as LaTeX and Markdown, too."""

    name: str
    title: str
    head: Sequence[str]
    cells: Sequence[Sequence[Cell]]
    paper: bool = False

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

    @property
    def markdown(self) -> str:
        """A pipe table, numbers to the right."""
        sides = ["---:" if one else "---" for one in self._numeric]
        rows = [self.head, sides, *self.rows]
        return "".join(f"| {' | '.join(_piped(cell) for cell in row)} |\n" for row in rows)

    @property
    def latex(self) -> str:
        """A tabular with the rules of booktabs."""
        sides = "".join("r" if one else "l" for one in self._numeric)
        head, *rows = (" & ".join(map(_escaped, row)) + r" \\" for row in [self.head, *self.rows])
        lines = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", head, r"\midrule", *rows,
                 r"\bottomrule", r"\end{tabular}"]  # fmt: skip
        return "\n".join(lines) + "\n"

    @property
    def _numeric(self) -> list[bool]:
        """Of each column, whether its cells are numbers, with what goes with them, or empty."""
        return [
            all(re.match(r"[−+><–∞-]|\d|$", row[i]) for row in self.rows)
            for i in range(len(self.head))
        ]


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "×": r"$\times$", "≤": r"$\le$", "≥": r"$\ge$", "−": "$-$", "–": "--", ">": "$>$", "<": "$<$",
    "µ": r"\textmu{}", "∞": r"$\infty$", "÷": r"$\div$", "…": r"\dots{}",
}  # fmt: skip


def _escaped(text: str) -> str:
    """A hyphen before a number, and behind none of a word, is its sign."""
    signed = re.sub(r"(?<![\w.)])-(?=[\d.])", "−", text)
    return "".join(_LATEX.get(one, one) for one in signed)


def _piped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _text(cell: Cell) -> str:
    if cell is None or cell != cell:  # NaN
        return ""
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)
