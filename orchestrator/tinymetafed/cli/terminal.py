"""What several commands write to the terminal: the consoles, the progress bar, a run's tables."""

from collections.abc import Iterable

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..nodes.events import FIRMWARE_FAULTS
from ..report import events, summary
from ..results.store import Run, Store

console = Console()
"""Standard output, for results."""

error_console = Console(stderr=True)
"""Standard error, for errors, warnings and notes on an interruption."""


def progress_bar() -> Progress:
    """Returns a bar of rounds with elapsed and remaining time, to be used as a context manager."""
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(), console=console, refresh_per_second=2,
    )  # fmt: skip


def print_run(store: Store, run: Run) -> None:
    """Draws the figure of a run into the store's folder and prints the run's tables.

    Raises TinyMetaFedError where the run cannot be drawn or priced.
    """
    from ..report import figure  # imports matplotlib, which is slow to import

    for part in summary.summary(store, run, figure.draw(store, run)):
        console.print(part, soft_wrap=isinstance(part, str))


def exit_by_faults(store: Store, runs: Iterable[Run]) -> None:
    """Says which runs have seen firmware faults, and the first of them.

    Raises typer.Exit with status 3 where there are any in a run that does not tolerate them.
    """
    status = 0
    for run in runs:
        found = store.event_counts(run.id)
        faults = sum(count for (kind, _), count in found.items() if kind in FIRMWARE_FAULTS)
        if not faults or summary.settings(run).faults.tolerate:
            continue
        (first,), status = store.events(run.id, *FIRMWARE_FAULTS, most=1), 3
        count = f"{faults} firmware fault{'s' if faults > 1 else ''}"
        where = "" if first.round is None else f" in round {first.round}"
        error_console.print(
            f"Run {run.id}: {count}, the first on node-{first.node}{where}: {events.text(first)}",
            soft_wrap=True, highlight=False, markup=False,
        )  # fmt: skip
    if status:
        raise typer.Exit(status)
