"""Tables of the terminal as Markdown."""

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tinymetafed.report.markdown import text


def test_a_table_is_the_same_without_its_markup():
    table = Table(title="[b]what[/b]", caption="one\ntwo")
    table.add_column("strategy")
    table.add_column("kB", justify="right")
    table.add_row(escape("[a|b]\nc"), "1,000 ± 2")
    table.add_section()
    table.add_row("all", "[red]3[/]")
    assert text([Text("Before."), table], "A page") == (
        "# A page\n\nBefore.\n\n**what**\n\n"
        "| strategy | kB |\n| --- | ---: |\n| [a\\|b]<br>c | 1,000 ± 2 |\n| all | 3 |\n\n"
        "one  \ntwo\n"
    )


def test_a_table_of_no_rows_has_its_head():
    table = Table()
    table.add_column("a")
    assert text([table], "A page") == "# A page\n\n| a |\n| --- |\n"
