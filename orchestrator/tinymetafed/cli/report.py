"""The commands that show runs of the store: as tables, as an HTML page."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import JsonOption, RunArgument, output_file, output_folder
from .terminal import console, error_console, print_run, reading

if TYPE_CHECKING:
    from ..report.page import Page


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


ReportOption = Annotated[
    Path,
    typer.Option("-o", "--output", metavar="FILE.html", callback=output_file, help="The page."),
]
FiguresOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        callback=output_folder,
        help="Write its charts (SVG, PNG, PDF) and tables (CSV, LaTeX, Markdown) too.",
    ),
]
WidthOption = Annotated[
    float, typer.Option(min=2, max=20, metavar="INCHES", help="How wide these charts are.")
]
BaselineOption = Annotated[
    str | None, typer.Option(metavar="STRATEGY", help="What the others are compared with at first.")
]


def report(
    which: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN… | COMPARISON",
            help='Numbers or names of runs, or "last"; or a comparison\'s TOML file or name.',
        ),
    ],
    output: ReportOption = Path("report.html"),
    figures: FiguresOption = None,
    width: WidthOption = 3.5,
    baseline: BaselineOption = None,
    target: Annotated[
        float | None,
        typer.Option(
            min=0, help="After adaptation, accuracy or loss of runs: show what it took to reach it."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Write the page again while runs go on.")
    ] = False,
) -> None:
    """Show runs side by side on one HTML page, which needs no network. The runs of a comparison are
    shown under the labels of its file."""
    # These import Jinja and SciPy, which are slow to import.
    from ..report import following, page

    source = following.Source(reading(), which, baseline, target)
    found = source.read(going_on=follow)
    if follow:
        page.write(page.render(found, going_on=source.going_on), output)
        console.print(f"Page {output}; it loads itself again. Ctrl-C ends this.", soft_wrap=True)
        try:
            for found in source.changes():
                page.write(page.render(found, going_on=source.going_on), output)
        except KeyboardInterrupt:
            error_console.print("Interrupted. The same command goes on with the page.")
            found = source.read(going_on=True)
    for line in write_page(found, output, figures, width):
        console.print(line, soft_wrap=True)


def write_page(
    found: "Page", output: Path | None, figures: Path | None, width: float
) -> Iterator[str]:
    """The page, and its charts, `width` inches wide, and tables, each where it is wanted; lines
    that say where they are."""
    from ..report import page

    if output is not None:
        page.write(page.render(found), output)
        yield f"Page {output}"
    if figures is not None:
        count = page.write_parts(found, figures, width)
        yield f"{count} files in {figures}"
