"""The commands that show runs of the store: as tables, as an HTML page."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from ..errors import TinyMetaFedError
from .arguments import JsonOption, RunArgument, RunsArgument
from .terminal import console, print_run, reading

log = logging.getLogger(__name__)


def show(which: RunArgument = "last", json: JsonOption = False) -> None:
    """Show what a run came to."""
    store = reading()
    with store.snapshot():
        run = store.run(which)
        if json:
            from ..report import as_json

            typer.echo(as_json.text(as_json.of_run(store, run)))
        else:
            print_run(store, run)


def report(
    which: RunsArgument,
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

    store = reading()
    results: list[Result] = []
    with store.snapshot():
        for run in store.named(which):
            try:
                results.append(Result.read(store, run))
            except TinyMetaFedError as error:
                log.warning("%s; it is not on the page", error)
    if not results:
        raise TinyMetaFedError("none of these runs can be shown on a page")
    chapters = page.chapters(results)
    page.write(page.render(chapters), output)
    console.print(f"Page {output}", soft_wrap=True)
    if figures is not None:
        count = page.write_parts(chapters, figures)
        console.print(f"{count} files in {figures}", soft_wrap=True)
