"""The command that says what an experiment costs before it runs."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import TinyMetaFedError
from ..experiments.experiment import read
from .arguments import OverrideOption
from .terminal import console


def plan(
    experiment: Annotated[Path, typer.Argument(metavar="EXPERIMENT.toml", help="What to plan.")],
    override: OverrideOption = None,
) -> None:
    """Show what an experiment takes on a node, and costs in a round, before anything is trained.

    Exit status 1 where it does not fit.
    """
    from ..experiments import plan as planning
    from ..report import plan as plan_tables

    settings = read(experiment, tuple(override or ()))
    memory = planning.memory(settings)
    for part in plan_tables.before(settings, list(planning.layers(settings)), memory):
        console.print(part)
    settings.task.prepare(settings.seed)
    console.print(plan_tables.frozen(settings, planning.freezing(settings), memory))
    if not memory.fits:
        raise TinyMetaFedError(
            f"{experiment}: model.layers: the model and its training need {memory.needed} bytes of "
            f"a node's RAM, {memory.available} are available, so no round can be played"
        )
    played = planning.play(settings)
    for part in plan_tables.after(settings, played, planning.uncounted()):
        console.print(part)
