"""The commands that examine the bench itself: its speed, its cycle model, its installation.

What they measure with is imported by them: other commands need not wait for it.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from .arguments import output_file, output_folder
from .terminal import console


def bench(
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=output_file, help="Write all as JSON."),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", callback=output_folder, help="Write figures (PNG)."),
    ] = None,
) -> None:
    """Measure how fast nodes, link and rounds are on this machine."""
    from ..bench import run as measure
    from ..report import bench as bench_tables

    with console.status("bench") as status:
        measured = measure(lambda doing: status.update(f"bench: {doing}"))
    for table in bench_tables.tables(measured):
        console.print(table)
    if json is not None:
        bench_tables.write_json(measured, json)
        console.print(f"Figures in seconds and bytes written to {json}", soft_wrap=True)
    if figures is not None:
        for path in bench_tables.figures(measured, figures):
            console.print(f"Figure {path}", soft_wrap=True)


def validate(
    coremark: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="CoreMark's sources, to run it too.")
    ] = None,
    programs: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="ELF files of what boards ran, to count them too."),
    ] = None,
) -> None:
    """Hold cycles and energy against published figures and boards; exit 1 where cycles differ."""
    from ..bench import measured_energy, validation
    from ..report import validation as validation_tables

    good = True
    for core in validation.FLAGS:
        kernels = validation.run_kernels(validation.KERNELS / f"{core}.toml")
        console.print(validation_tables.of_kernels(core, kernels))
        good &= all(kernel.good for kernel in kernels)
    if coremark is not None:
        results = [validation.run_coremark(coremark, core) for core in validation.FLAGS]
        console.print(validation_tables.of_coremark(results))
        good &= all(result.good for result in results)
    boards = measured_energy.published()
    priced = measured_energy.price(boards.measurements, programs)
    console.print(validation_tables.of_energy(priced))
    console.print(validation_tables.of_currents(measured_energy.add(boards.together)))
    raise typer.Exit(0 if good else 1)


def doctor() -> None:
    """Say what is installed, what is missing, and how to get it."""
    from ..bench.doctor import examine

    table = Table(show_header=False, box=None)
    complete = True
    for finding in examine():
        complete &= finding.found or not finding.needed
        missing = "[red]missing[/]" if finding.needed else "not there"
        mark = "[green]ok[/]" if finding.found else missing
        table.add_row(mark, finding.what, escape(finding.detail))
    console.print(table)
    raise typer.Exit(0 if complete else 1)
