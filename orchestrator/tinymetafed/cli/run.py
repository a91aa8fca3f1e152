"""The command that runs an experiment, or resumes a run that was stopped."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ..experiments.experiment import Experiment, read
from ..experiments.extension import extended
from ..places import STORE
from ..plugins import check_unchanged
from ..report import described
from ..results.store import Labels, Run, Store
from .arguments import NameOption, NoteOption, OverrideOption, TagOption, given
from .terminal import console, error_console, exit_by_faults, print_run, progress_bar

if TYPE_CHECKING:
    from ..experiments import runner
    from ..experiments.round_report import RoundReport


def run(
    experiment: Annotated[Path | None, given("experiment")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run that stopped.")
    ] = None,
    override: OverrideOption = None,
    name: NameOption = None,
    tag: TagOption = None,
    note: NoteOption = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="With --resume: as many in all, for a run that ended.")
    ] = None,
    reschedule: Annotated[
        bool, typer.Option("--reschedule", help="With --rounds: also where a rate is annealed.")
    ] = False,
    profile: Annotated[bool, typer.Option(help="Show where the time went.")] = False,
    frames: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every frame, as JSON lines.")
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Log each round for TensorBoard.")
    ] = None,
) -> None:
    """Run an experiment; show what it came to. The exit status is 3 where the firmware of a node
    faulted and the experiment does not say faults.tolerate = true."""
    if (experiment is None) == (resume is None):
        raise typer.BadParameter("give either an experiment file or --resume RUN")
    if resume is not None and override:
        raise typer.BadParameter(
            "--set changes a new run, not one that goes on; --rounds gives that more rounds"
        )
    if resume is not None and (name or tag or note):
        raise typer.BadParameter(
            "--name, --tag and --note are for a new run; 'tinymetafed runs edit' changes others"
        )
    if resume is None and (rounds is not None or reschedule):
        raise typer.BadParameter(
            "--rounds and --reschedule go with --resume; a new run has --set rounds=N"
        )
    if experiment is not None:
        changes = [*(override or ()), *([f"name={name}"] if name else [])]
        settings, stopped = read(experiment, tuple(changes)), None
        store = Store(STORE)
        store.labels = Labels(tuple(tag or ()), note or "")
    else:
        assert resume is not None
        store = Store(STORE)
        stopped = store.run(resume)
        check_unchanged(stopped.id, stopped.versions)
        settings = described.settings(stopped)
        if rounds is not None:
            settings = extended(settings, stopped, rounds, reschedule=reschedule)
    # A download shows a progress bar of its own, so it has to end before the bar of the run starts.
    settings.task.prepare(settings.seed)
    finished, time_profile = _execute(settings, store, stopped, frames, tensorboard)
    with store.snapshot():
        print_run(store, finished)
    if profile:
        console.print(_time_table(time_profile))
    exit_by_faults(store, [finished])


def _execute(
    experiment: Experiment,
    store: Store,
    stopped: Run | None,
    frames: Path | None,
    log: Path | None,
) -> "tuple[Run, runner.TimeProfile]":
    """Executes the experiment, or the rest of the run `stopped`, and shows a progress bar.

    Raises TinyMetaFedError, and typer.Exit where the user interrupts the run.
    """
    from ..experiments import runner  # what runs nodes is slow to import
    from ..experiments.round_report import LastJudged
    from ..tensorboard import TensorBoard

    judged = LastJudged()
    with ExitStack() as resources:
        bar = resources.enter_context(progress_bar())
        board = None if log is None else resources.enter_context(TensorBoard(log))
        task = bar.add_task(experiment.name, total=experiment.rounds)

        def progress(done: int, doing: str) -> None:
            bar.update(task, completed=done, description=f"{experiment.name}: {doing}{judged}")

        def on_round(report: "RoundReport") -> None:
            judged(report)
            if board is not None:
                board(report)

        known = len(store.runs())
        try:
            return runner.execute(
                experiment, store, stopped, progress, frames=frames, on_round=on_round
            )
        except KeyboardInterrupt:
            bar.stop()
            interrupted = stopped or next(iter(store.runs()[known:]), None)
            if interrupted is None:
                error_console.print("Interrupted before anything was stored.")
            else:
                command = f"tinymetafed run --resume {interrupted.id}"
                error_console.print(
                    f"Interrupted. '{command}' goes on where it was.", soft_wrap=True
                )
            raise typer.Exit(130) from None


def _time_table(profile: "runner.TimeProfile") -> Table:
    table = Table(title="Where the wall time went", title_justify="left")
    for column in ("", "seconds", "share"):
        table.add_column(column, justify="left" if not column else "right")
    orchestrator = profile.user + profile.system
    rows = (
        ("emulators, and waiting for them", profile.wall - orchestrator),
        ("moving the UARTs' bytes (the orchestrator in the kernel)", profile.system),
        ("the orchestrator's own code", profile.user),
    )
    for name, seconds in rows:
        table.add_row(name, f"{seconds:.2f}", f"{seconds / profile.wall:.1%}")
    table.add_section()
    table.add_row("wall time", f"{profile.wall:.2f}", "100%")
    table.add_row("processor time of the emulators", f"{profile.emulators:.2f}", "")
    return table
