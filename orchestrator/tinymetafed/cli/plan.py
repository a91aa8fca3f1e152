"""The command that says what an experiment costs before it runs."""

import typer

from ..errors import TinyMetaFedError
from ..experiments.experiment import read
from .arguments import ExperimentArgument, JsonOption, OverrideOption
from .terminal import console


def plan(
    experiment: ExperimentArgument,
    override: OverrideOption = None,
    json: JsonOption = False,
) -> None:
    """Show what an experiment takes on a node, and costs in a round, before anything is trained.

    Exit status 1 where it does not fit.
    """
    from ..experiments import plan as planning
    from ..report import as_json
    from ..report import plan as plan_tables

    settings = read(experiment, tuple(override or ()))
    layers, memory = list(planning.layers(settings)), planning.memory(settings)
    say = (lambda part: None) if json else console.print
    for part in plan_tables.before(settings, layers, memory):
        say(part)
    settings.task.prepare(settings.seed)
    freezing = planning.freezing(settings)
    say(plan_tables.frozen(settings, freezing, memory))
    played = planning.play(settings) if memory.fits else None
    uncounted = planning.uncounted()
    if json:
        tree = as_json.of_plan(settings, layers, memory, freezing, played, uncounted)
        typer.echo(as_json.text(tree))
    if played is None:
        raise TinyMetaFedError(
            f"{experiment}: model.layers: the model and its training need {memory.needed} bytes of "
            f"a node's RAM, {memory.available} are available, so no round can be played"
        )
    for part in plan_tables.after(settings, played, uncounted):
        say(part)
