"""What several commands write to the terminal: the consoles, the progress bar, a run's tables."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic
from typing import Any

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

from ..errors import TinyMetaFedError
from ..nodes.events import FIRMWARE_FAULTS
from ..places import STORE
from ..report import described, drawn, events, summary
from ..results.store import Run, Store
from .fitting import Fitting

log = logging.getLogger(__name__)

console = Console()
"""Standard output, for results."""
console.push_render_hook(Fitting(console))

error_console = Console(stderr=True)
"""Standard error, for errors, warnings and notes on an interruption."""


SECONDS = 10.0
"""Between two lines of progress, where nobody watches."""


class ProgressLines(Progress):
    """What of a bar is for a file: a line now and then, of the first task."""

    def __init__(self, unit: str) -> None:
        super().__init__(console=console, auto_refresh=False, disable=True)
        self._unit = unit
        self._next = monotonic() + SECONDS

    def update(self, *arguments: Any, **changes: Any) -> None:
        """See Progress."""
        super().update(*arguments, **changes)
        if monotonic() < self._next:
            return
        self._next = monotonic() + SECONDS
        task = self.tasks[0]
        done = f"{task.completed:.0f} of {task.total or 0:.0f} {self._unit}"
        # Who reads it may have seen enough; the work goes on. Rich makes SystemExit of that.
        with suppress(BrokenPipeError, SystemExit):
            console.print(f"{task.description}, {done}", soft_wrap=True, markup=False)
            console.file.flush()


def progress_bar(unit: str = "rounds") -> Progress:
    """Returns a bar of rounds, or of other units, with elapsed and remaining time, to be used as a
    context manager; where standard output is no terminal, a line now and then in its place."""
    if not console.is_terminal:
        return ProgressLines(unit)
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(), console=console, refresh_per_second=2,
    )  # fmt: skip


def reading() -> Store:
    """The store for a command that only reads it, with a warning of what it cannot show."""
    store = Store(STORE, read_only=True)
    if store.notice is not None:
        log.warning("%s", store.notice)
    return store


def print_run(store: Store, run: Run) -> None:
    """Draws the figure of a run into the store's folder, where it is not there, and prints the
    run's tables; where it cannot be drawn, a warning says why.

    Raises TinyMetaFedError where the store cannot be read.
    """
    picture = drawn.find(store, run)
    if picture is None:
        from ..report import figure  # imports matplotlib, which is slow to import

        try:
            picture = figure.draw(store, run)
        except TinyMetaFedError as error:
            log.warning("no figure: %s", error)
    for part in summary.summary(store, run, picture):
        console.print(part, soft_wrap=isinstance(part, str))


def exit_by_faults(store: Store, runs: Iterable[Run]) -> None:
    """Says which runs have seen firmware faults, and the first of them.

    Raises typer.Exit with status 3 where there are any in a run that does not tolerate them.
    """
    status = 0
    for run in runs:
        found = store.event_counts(run.id)
        faults = sum(count for (kind, _), count in found.items() if kind in FIRMWARE_FAULTS)
        if not faults or described.settings(run).faults.tolerate:
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
