"""The list of runs, and what one does with them: name, tag, note and delete."""

import logging
from typing import Annotated

import typer

from ..errors import TinyMetaFedError
from ..places import STORE
from ..report import drawn, summary
from ..results.selecting import select
from ..results.store import Store
from .arguments import JsonOption, NameOption, NoteOption, RunsArgument, TagOption
from .terminal import console, error_console, reading

log = logging.getLogger(__name__)

app = typer.Typer(invoke_without_command=True)


def runs(
    context: typer.Context,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Those with this setting, e.g. nodes.count=8; several times."
        ),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Those with this tag; several times.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the runs in the store; edit and delete them."""
    if context.invoked_subcommand is not None:
        if where or tag or json:
            raise typer.BadParameter(f"options of 'runs {context.invoked_subcommand}' follow it")
        return
    store = reading()
    with store.snapshot():
        found = select(store, where or (), tag or ())
        if json:
            from ..report import as_json

            typer.echo(as_json.text(as_json.of_runs(store, found)))
            return
        table, problems = summary.run_list(store, found)
    console.print(table)
    for problem in problems:
        log.warning("%s", problem)


def edit(
    which: RunsArgument,
    name: NameOption = None,
    tag: TagOption = None,
    untag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Take the tag off; several times.")
    ] = None,
    note: NoteOption = None,
) -> None:
    """Change names, tags and notes of runs; an empty note removes it."""
    if name is None and tag is None and untag is None and note is None:
        raise typer.BadParameter("give --name, --tag, --untag or --note")
    store = Store(STORE)
    chosen = store.named(which)
    store.edit([run.id for run in chosen], name=name, tag=tag or (), untag=untag or (), note=note)
    if name is not None:
        for run in chosen:
            drawn.path(store, run).unlink(missing_ok=True)  # it is called by the name
    table, _ = summary.run_list(store, [store.run(str(run.id)) for run in chosen])
    console.print(table)


def delete(
    which: RunsArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete runs with all that is stored of them."""
    store = Store(STORE)
    chosen = store.named(which)
    table, _ = summary.run_list(store, chosen)
    console.print(table)
    what = f"{len(chosen)} run{'s' if len(chosen) > 1 else ''}"
    if not yes and not _agreed(f"Delete {what}?"):
        error_console.print("Nothing was deleted.")
        raise typer.Exit(1)
    before = store.path.stat().st_size
    store.delete(run.id for run in chosen)
    for run in chosen:
        drawn.path(store, run).unlink(missing_ok=True)
    if store.shrink():
        after = store.path.stat().st_size
        size = f"{store.path} has {1e-6 * after:,.1f} MB, before {1e-6 * before:,.1f} MB."
    else:
        size = f"{store.path} keeps its size, since it is in use; new runs take the room."
    console.print(f"Deleted {what}. {size}", soft_wrap=True, highlight=False)


def _agreed(question: str) -> bool:
    """What the user says; nobody, where there is no terminal to ask at."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # the end of the input, too
        error_console.print()
        raise TinyMetaFedError("nothing was deleted: nobody has said yes; give --yes") from None
