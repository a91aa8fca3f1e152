"""What several commands write to the terminal: the consoles, the progress bar, a run's tables."""

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

from ..report import summary
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
