"""The commands that show runs of the store: as a list, as tables, as an HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from ..places import STORE
from ..report import summary
from ..results.store import Store
from .arguments import RunArgument
from .terminal import console, print_run


def runs() -> None:
    """List the runs in the store."""
    console.print(summary.run_list(Store(STORE)))


def show(which: RunArgument = "last") -> None:
    """Show what a run came to."""
    store = Store(STORE)
    print_run(store, store.run(which))


def report(
    which: Annotated[
        list[str], typer.Argument(metavar="RUN…", help='Numbers or names of runs, or "last".')
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE.html", help="The page.")
    ] = Path("report.html"),
    figures: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write its figures (SVG, PNG) and tables (CSV) too."),
    ] = None,
) -> None:
    """Show runs side by side on one HTML page, which needs no network."""
    # These import Jinja, matplotlib and SciPy, which are slow to import.
    from ..report import page
    from ..report.results import Result

    store = Store(STORE)
    chapters = page.chapters([Result.read(store, run) for run in store.named(which)])
    page.write(page.render(chapters), output)
    console.print(f"Page {output}", soft_wrap=True)
    if figures is not None:
        count = page.write_parts(chapters, figures)
        console.print(f"{count} files in {figures}", soft_wrap=True)
