"""The commands that look inside: frames of a run, its timeline, a node under a debugger."""

from pathlib import Path
from typing import Annotated

import typer

from ..link.short import KINDS
from ..report import frames as listing
from .arguments import ExperimentArgument, OverrideOption, RunArgument
from .terminal import console, reading


def frames(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of run --frames.")],
    node: Annotated[
        list[int] | None, typer.Option(metavar="NODE", help="Of this node alone; several times.")
    ] = None,
    round_: Annotated[
        list[int] | None,
        typer.Option("--round", metavar="ROUND", help="Of this round alone; 0: of none."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help='With such a message, or "refused", or "lost".'),
    ] = None,
    hexadecimal: Annotated[bool, typer.Option("--bytes", help="Show the bytes too.")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="Show the sums alone.")] = False,
) -> None:
    """List the frames that a run has recorded, and add them up by message."""
    known = {*KINDS, listing.REFUSED, listing.LOST}
    for one in kind or ():
        if one not in known:
            raise typer.BadParameter(
                f"{one!r} is no message; known are: {', '.join(sorted(known))}"
            )
    wanted, sums = listing.Wanted(node or (), round_ or (), kind or ()), listing.Sums()
    for frame in filter(wanted.has, listing.read(file)):
        if not summary:
            if not sums.frames:
                typer.echo(listing.HEAD)
            typer.echo(listing.line(frame))
            if hexadecimal:
                typer.echo(f"{'':22}{frame.data.hex()}")
        sums.add(frame)
    if not sums.frames:
        typer.echo("No frame is such.")
        return
    console.print(sums.table())


def trace(
    which: RunArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="JSON.")],
    first: Annotated[int, typer.Option(min=1, help="The first round.")] = 1,
    last: Annotated[int | None, typer.Option(min=1, help="The last round; all if omitted.")] = None,
) -> None:
    """Write the timeline of a run in the trace-event format, for Perfetto or Chrome."""
    from ..report import described
    from ..report import trace as timeline

    store = reading()
    with store.snapshot():
        run = store.run(which)
        number = timeline.write(output, store, run, described.describe(store, run), first, last)
    console.print(
        f"{number} events written to {output}; open it at ui.perfetto.dev or chrome://tracing",
        soft_wrap=True, markup=False, highlight=False,
    )  # fmt: skip


def debug(
    experiment: ExperimentArgument,
    node: Annotated[int, typer.Option(min=0, metavar="NODE", help="Which, from 0 on.")] = 0,
    round_: Annotated[
        int | None,
        typer.Option("--round", min=1, metavar="ROUND", help="The first that it is in if omitted."),
    ] = None,
    override: OverrideOption = None,
    monitor: Annotated[
        bool, typer.Option("--monitor", help="Renode's monitor on this terminal, to the end.")
    ] = False,
) -> None:
    """Bring an emulated node to a round, and have GDB look at what it does there.

    Host nodes play the rounds before, and the other nodes of this one. Nothing is stored.
    """
    from ..experiments import debugging
    from ..experiments.experiment import read

    settings = read(experiment, tuple(override or ()))
    settings.task.prepare(settings.seed)

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False, highlight=False)

    debugging.debug(settings, node, round_, say, monitor=monitor)
