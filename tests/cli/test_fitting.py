"""Tables on narrow terminals: no number is cut, no line is too long, nothing is lost."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from tinymetafed.cli.fitting import LONGEST, Fitting

NUMBERS = st.one_of(
    st.integers(0, 10**9).map(lambda n: f"{n:,}"), st.floats(0, 1e6).map(lambda x: f"{x:,.3f}")
)
WORDS = st.lists(st.text("abcxyz", min_size=1, max_size=12), min_size=1, max_size=4).map(" ".join)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A column of text, some of numbers, perhaps one of text after them."""
    numbers, rows = draw(st.integers(1, 10)), draw(st.integers(1, 4))
    table = Table(title="Title", caption="Caption", title_justify="left")
    table.add_column(draw(WORDS))
    for _ in range(numbers):
        table.add_column(draw(WORDS), justify="right")
    if last := draw(st.booleans()):
        table.add_column(draw(WORDS))
    for _ in range(rows):
        cells = [draw(WORDS), *(draw(NUMBERS) for _ in range(numbers))]
        table.add_row(*cells, *([draw(WORDS)] if last else []))
    return table


def _printed(table: Table, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.push_render_hook(Fitting(console))
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@given(tables(), st.integers(LONGEST + 22, 140))
def test_numbers_stay_whole_and_lines_fit(table: Table, width: int):
    printed = _printed(table, width)
    assert max(map(len, printed.splitlines())) <= width
    found = [word for line in printed.splitlines() for word in line.split()]
    for column in table.columns:
        for cell in column.cells:
            for word in str(cell).split():
                assert word in found
    assert "…" not in printed


@given(tables(), st.integers(LONGEST + 22, 140))
def test_each_part_has_the_first_column_and_all_rows(table: Table, width: int):
    printed = _printed(table, width)
    parts = printed.count("┏")
    seen = [line for line in printed.splitlines() if line.startswith("│")]
    assert len(seen) >= parts * table.row_count
    assert printed.count("Title") == printed.count("Caption") == 1


@given(tables())
def test_a_table_that_fits_is_as_rich_prints_it(table: Table):
    plain = Console(file=io.StringIO(), width=400, force_terminal=False)
    plain.print(table)
    assert isinstance(plain.file, io.StringIO)
    assert _printed(table, 400) == plain.file.getvalue()


def test_a_long_word_of_a_text_is_folded():
    table = Table("name", "n")
    table.columns[1].justify = "right"
    table.add_row("a" * 64, "1,234,567")
    printed = _printed(table, 40)
    assert "1,234,567" in printed
    assert "".join(c for c in printed if c == "a").count("a") - "name".count("a") == 64
