"""The command that compares strategies over tasks and seeds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from ..places import STORE
from ..results.store import Store
from .arguments import given
from .terminal import console, error_console, exit_by_faults, progress_bar

if TYPE_CHECKING:
    from ..experiments.comparison import Cell
    from ..experiments.scheduler import Comparison


def compare(
    file: Annotated[Path, given("comparison")],
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs side by side; by the processor's cores.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write runs, values, results as CSV.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="The same as JSON.")] = None,
) -> None:
    """Run strategies × tasks × seeds, as far as they are not in the store; compare them. The exit
    status is 3 where the firmware of a node faulted in one of them and its experiment does not say
    faults.tolerate = true."""
    # What runs nodes, and SciPy, are slow to import.
    from ..experiments.comparison import read
    from ..experiments.scheduler import Comparison, default_jobs
    from ..report import comparison as comparison_tables

    settings, cells = read(file)
    store = Store(STORE)
    comparison = Comparison(cells, store)
    _execute(settings.name, cells, comparison, jobs or default_jobs(cells))
    outcome = comparison_tables.outcome(settings, comparison, store)
    for part in comparison_tables.tables(settings, comparison, outcome):
        console.print(part)
    for target, write in (
        (csv, comparison_tables.write_csv),
        (json, comparison_tables.write_json),
    ):
        if target is not None:
            write(outcome, target)
            console.print(f"Runs, values and results written to {target}", soft_wrap=True)
    exit_by_faults(store, [run for run in comparison.runs if run is not None])
    raise typer.Exit(1 if comparison.failed else 0)


def _execute(name: str, cells: "list[Cell]", comparison: "Comparison", jobs: int) -> None:
    """Executes the unfinished runs and shows a progress bar of all rounds and one of each run.

    Raises typer.Exit where the user interrupts the runs.
    """
    from ..experiments.scheduler import ENDED

    rounds = [cell.experiment.rounds for cell in cells]
    done = [run.done if run else 0 for run in comparison.runs]
    with progress_bar() as bar:
        total = bar.add_task(name, total=sum(rounds), completed=sum(done))
        tasks = [bar.add_task("", total=count, visible=False) for count in rounds]

        def progress(i: int, now: int, doing: str) -> None:
            done[i] = now
            bar.update(total, completed=sum(done))
            description = escape(f"{cells[i]}: {doing}")
            bar.update(tasks[i], completed=now, description=description, visible=doing != ENDED)

        try:
            comparison.execute(jobs, progress)
        except KeyboardInterrupt:
            bar.stop()
            error_console.print("Interrupted. The same command goes on where it was.")
            raise typer.Exit(130) from None
