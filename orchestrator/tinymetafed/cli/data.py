"""The command that shows the data of an experiment before it is trained on."""

from pathlib import Path
from typing import Annotated

import typer

from ..experiments.experiment import read
from .arguments import ExperimentArgument, OverrideOption
from .terminal import console


def data(
    experiment: ExperimentArgument,
    override: OverrideOption = None,
    devices: Annotated[
        int, typer.Option(metavar="N", min=1, help="List so many devices of each part.")
    ] = 5,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.png", help="Draw samples.")
    ] = None,
) -> None:
    """Show what devices hold: samples, classes, ranges, who is in which part, before training."""
    from ..experiments.data import holdings
    from ..report import data as shown

    settings = read(experiment, tuple(override or ()))
    made_of = settings.task.prepare(settings.seed)
    found = holdings(settings, devices)
    for part in shown.summary(settings, made_of, found):
        console.print(part)
    if output is not None:
        from ..report import data_figure  # imports matplotlib, which is slow to import

        data_figure.draw(settings, found, output)
        console.print(f"Figure {output}", soft_wrap=True, highlight=False)
