"""The command line: arguments in, tables out. Each module holds one family of commands.

A command raises TinyMetaFedError for an error that the user can correct, typer.BadParameter for
arguments that exclude each other, and typer.Exit to set the exit status. The docstring of a command
is its help text.
"""

import logging
import os
import sys
from collections.abc import Callable
from functools import wraps
from importlib import metadata
from typing import Annotated, Any, NoReturn

import typer
from rich.logging import RichHandler
from rich.markup import escape

from ..errors import FirmwareFault, TinyMetaFedError, visible
from ..signals import INTERRUPTED
from . import (
    bench,
    boards,
    compare,
    data,
    energy,
    export,
    firmware,
    init,
    inside,
    plan,
    privacy,
    report,
    run,
    runs,
    schema,
    tune,
)
from .terminal import error_console

app = typer.Typer(
    help="A bench for federated meta-learning on emulated microcontrollers.",
    epilog="Exit status: 0 after success, 1 after a failure, 2 for wrong arguments, 3 where the "
    "firmware of a node faulted and the experiment does not say faults.tolerate = true, 130 after "
    "an interruption.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"tinymetafed {metadata.version('tinymetafed')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say it, and end."),
    ] = False,
) -> None:
    """Options of no command."""


def _interruptible(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, which says so where it is interrupted and has no better word for it."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except KeyboardInterrupt:
            error_console.print("Interrupted.")
            raise typer.Exit(INTERRUPTED) from None

    return run


# The help text lists the commands in this order.
for command in (
    init.init, run.run, plan.plan, data.data,
    compare.compare, compare.sweep, tune.tune, report.show, report.report, export.export,
    privacy.invert,
    energy.energy, energy.cycles, inside.frames, inside.trace,
    inside.debug, boards.boards, boards.flash, schema.schema,
    bench.bench, bench.validate, bench.doctor,
):  # fmt: skip
    app.command()(_interruptible(command))
firmware.app.command()(_interruptible(firmware.build))
app.add_typer(firmware.app, name="firmware")
runs.app.callback()(_interruptible(runs.runs))
for command in (runs.edit, runs.delete):
    runs.app.command()(_interruptible(command))
app.add_typer(runs.app, name="runs")


def main() -> None:
    """Runs the command that the process's arguments name.

    A TinyMetaFedError becomes a message on standard error without a traceback. Raises SystemExit
    with the exit status: 0 after success, 1 after a failure, 2 for wrong arguments, 3 after a
    firmware fault, 130 after an interruption.
    """
    handler = RichHandler(console=error_console, show_path=False, show_time=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    try:
        try:
            app(prog_name="tinymetafed")
        finally:
            sys.stdout.flush()
    except TinyMetaFedError as error:
        _fail(str(error), status=3 if isinstance(error, FirmwareFault) else 1)
    except BrokenPipeError:  # whoever read the output has seen enough
        _forget_output()
        raise SystemExit(1) from None
    except OSError as error:
        _forget_output()
        _fail(f"{error.filename or 'standard output'}: {error.strerror or error}")


def _fail(message: str, status: int = 1) -> NoReturn:
    """Says what is wrong, with nothing that a terminal would take for a command."""
    for line in message.splitlines():
        text = escape(visible(line))
        error_console.print(f"[red]error:[/] {text}", soft_wrap=True, highlight=False)
    raise SystemExit(status) from None


def _forget_output() -> None:
    """What could not be written is not tried again when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
