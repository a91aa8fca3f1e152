"""Commands: arguments in, tables out."""

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ..bench import doctor as doctor_module
from ..bench import validation
from ..energy.timing import Timing
from ..errors import TinyMetaFedError
from ..experiments import comparison as comparison_module
from ..experiments import experiment as experiment_module
from ..experiments import plan as plan_module
from ..experiments import runner
from ..experiments import scheduler as compare_module
from ..nodes import standalone as program_runner
from ..places import STORE
from ..report import comparison as comparison_tables
from ..report import energy as energy_tables
from ..report import plan as plan_tables
from ..report import summary
from ..results import accounts
from ..results.store import Run, Store

app = typer.Typer(
    help="A bench for federated meta-learning on emulated microcontrollers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
errors = Console(stderr=True)

COLUMNS = (
    SpinnerColumn(), TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(),
    TimeElapsedColumn(), TimeRemainingColumn(),
)  # fmt: skip

OverrideOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. nodes.count=8."),
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help='Its number, or "last".')]


@app.command()
def run(
    experiment: Annotated[
        Path | None, typer.Argument(metavar="EXPERIMENT.toml", help="What to run.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run that stopped.")
    ] = None,
    override: OverrideOption = None,
    profile: Annotated[bool, typer.Option(help="Show where the time went.")] = False,
) -> None:
    """Run an experiment; show what it came to."""
    if (experiment is None) == (resume is None):
        raise typer.BadParameter("give either an experiment file or --resume RUN")
    if resume is not None and override:
        raise typer.BadParameter("--set changes a new run, not one that goes on")
    if experiment is not None:
        settings, before = experiment_module.read(experiment, tuple(override or ())), None
        store = Store(STORE)
    else:
        assert resume is not None
        store = Store(STORE)
        before = store.run(resume)
        settings = summary.settings(before)
    settings.task.prepare(settings.seed)  # before the bar, since a download has one
    with Progress(*COLUMNS, console=console, refresh_per_second=2) as bar:
        task = bar.add_task(settings.name, total=settings.rounds)

        def progress(done: int, doing: str) -> None:
            bar.update(task, completed=done, description=f"{settings.name}: {doing}")

        known = len(store.runs())
        try:
            after, where = runner.execute(settings, store, before, progress)
        except KeyboardInterrupt:
            bar.stop()
            stopped = before or next(iter(store.runs()[known:]), None)
            if stopped is None:
                errors.print("Interrupted before anything was stored.")
            else:
                resume_it = f"tinymetafed run --resume {stopped.id}"
                errors.print(f"Interrupted. '{resume_it}' goes on where it was.", soft_wrap=True)
            raise typer.Exit(130) from None
    _show(store, after)
    if profile:
        console.print(_profile(where))


@app.command()
def plan(
    experiment: Annotated[Path, typer.Argument(metavar="EXPERIMENT.toml", help="What to plan.")],
    override: OverrideOption = None,
) -> None:
    """Show what an experiment takes on a node, and costs in a round, before anything is trained.

    Exit status 1 where it does not fit.
    """
    settings = experiment_module.read(experiment, tuple(override or ()))
    memory = plan_module.memory(settings)
    for part in plan_tables.before(settings, list(plan_module.layers(settings)), memory):
        console.print(part)
    if not memory.fits:
        raise TinyMetaFedError(
            f"{experiment}: model.layers: the model and its training need {memory.needed} bytes of "
            f"a node's RAM, {memory.available} are available, so no round can be played"
        )
    settings.task.prepare(settings.seed)
    played = plan_module.play(settings)
    for part in plan_tables.after(settings, played, plan_module.uncounted()):
        console.print(part)


@app.command()
def compare(
    file: Annotated[Path, typer.Argument(metavar="COMPARISON.toml", help="What to compare.")],
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs side by side; by the processor's cores.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write runs, values, results as CSV.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="The same as JSON.")] = None,
) -> None:
    """Run strategies × tasks × seeds, as far as they are not in the store; compare them."""
    settings, cells = comparison_module.read(file)
    store = Store(STORE)
    compared = compare_module.Comparison(cells, store)
    rounds = [cell.experiment.rounds for cell in cells]
    done = [run.done if run else 0 for run in compared.runs]
    with Progress(*COLUMNS, console=console, refresh_per_second=2) as bar:
        whole = bar.add_task(settings.name, total=sum(rounds), completed=sum(done))
        bars = [bar.add_task("", total=total, visible=False) for total in rounds]

        def progress(i: int, now: int, doing: str) -> None:
            done[i] = now
            bar.update(whole, completed=sum(done))
            visible, description = doing != compare_module.ENDED, escape(f"{cells[i]}: {doing}")
            bar.update(bars[i], completed=now, description=description, visible=visible)

        try:
            compared.execute(jobs or compare_module.default_jobs(cells), progress)
        except KeyboardInterrupt:
            bar.stop()
            errors.print("Interrupted. The same command goes on where it was.")
            raise typer.Exit(130) from None
    outcome = comparison_tables.outcome(settings, compared, store)
    for part in comparison_tables.tables(settings, compared, outcome):
        console.print(part)
    for target, write in (
        (csv, comparison_tables.write_csv),
        (json, comparison_tables.write_json),
    ):
        if target is not None:
            write(outcome, target)
            console.print(f"Runs, values and results written to {target}", soft_wrap=True)
    raise typer.Exit(1 if compared.failed else 0)


@app.command()
def runs() -> None:
    """List the runs in the store."""
    console.print(summary.run_list(Store(STORE)))


@app.command()
def show(which: RunArgument = "last") -> None:
    """Show what a run came to."""
    store = Store(STORE)
    _show(store, store.run(which))


@app.command()
def report(
    which: Annotated[
        list[str], typer.Argument(metavar="RUN…", help='Numbers or names of runs, or "last".')
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE.html", help="The page.")
    ] = Path("report.html"),
    figures: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write its figures (SVG, PNG) and tables (CSV) too."),
    ] = None,
) -> None:
    """Show runs side by side on one HTML page, which needs no network."""
    from ..report import page
    from ..report.results import Result

    store = Store(STORE)
    chapters = page.chapters([Result.read(store, one) for one in store.named(which)])
    page.write(page.render(chapters), output)
    console.print(f"Page {output}", soft_wrap=True)
    if figures is not None:
        count = page.write_parts(chapters, figures)
        console.print(f"{count} files in {figures}", soft_wrap=True)


@app.command()
def energy(
    which: RunArgument = "last",
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="A file of emulation/power.")
    ] = None,
    radio: Annotated[
        str | None, typer.Option(metavar="NAME", help="A file of emulation/power/radios.")
    ] = None,
    interval: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds between two rounds, at least.")
    ] = None,
    classes: Annotated[bool, typer.Option(help="Show the classes of instructions too.")] = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every entry of the ledger.")
    ] = None,
) -> None:
    """Price what a run has counted, for another device or radio too."""
    store = Store(STORE)
    found = store.run(which)
    settings = summary.settings(found)
    changes = {"device": device, "radio": radio, "interval": interval}
    priced = settings.energy.model_copy(
        update={key: value for key, value in changes.items() if value is not None}
    )
    rows, phases = accounts.executed(store, found.id, settings.nodes)
    entries = accounts.book(rows, phases, priced, settings.nodes.count, settings.attendance.away)
    if not entries:
        raise TinyMetaFedError(
            f"run {found.id}: nothing was counted on its {found.backend} nodes, so nothing can be "
            "priced; qemu and renode nodes count"
        )
    traced = found.backend == "renode"
    console.print(
        energy_tables.by_account(
            rows, phases, entries, priced, traced=traced, sampled=settings.nodes.emulate > 0
        )
    )
    if classes:
        console.print(energy_tables.by_class(phases))
    if csv is not None:
        energy_tables.write_csv(entries, csv)
        console.print(f"{len(entries)} entries written to {csv}", soft_wrap=True)


@app.command()
def cycles(
    program: Annotated[Path, typer.Argument(metavar="PROGRAM.elf", help="For mps2-an386.")],
    functions: Annotated[
        str | None, typer.Option(metavar="CORE", help="Show each function too, for this core.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds.")] = 600.0,
) -> None:
    """Run any program for the nodes' processor, and count its cycles.

    It has to end by semihosting (SYS_EXIT). Each function tmf_phase_NAME that it calls begins a
    phase of that name.
    """
    ended = program_runner.run(program, timeout)
    console.print(ended.output, end="", markup=False, highlight=False, soft_wrap=True)
    console.print(energy_tables.of_program(ended.profile(Timing.all())))
    if functions is not None:
        timing = Timing.load(functions)
        console.print(energy_tables.of_functions(ended.functions([timing]), timing.name))


@app.command()
def bench(
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all as JSON.")] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write figures (PNG).")
    ] = None,
) -> None:
    """Measure how fast nodes, link and rounds are on this machine."""
    from .. import bench as bench_module
    from ..report import bench as bench_tables

    with console.status("bench") as status:
        found = bench_module.run(lambda doing: status.update(f"bench: {doing}"))
    for table in bench_tables.tables(found):
        console.print(table)
    if json is not None:
        bench_tables.write_json(found, json)
        console.print(f"Figures in seconds and bytes written to {json}", soft_wrap=True)
    if figures is not None:
        for path in bench_tables.figures(found, figures):
            console.print(f"Figure {path}", soft_wrap=True)


@app.command()
def validate(
    coremark: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="CoreMark's sources, to run it too.")
    ] = None,
) -> None:
    """Hold the cycle model against the manual's figures; exit 1 where it does not agree."""
    measured = validation.run_kernels()
    console.print(energy_tables.of_kernels(measured))
    good = all(one.good for one in measured)
    if coremark is not None:
        result = validation.run_coremark(coremark)
        console.print(energy_tables.of_coremark(result))
        good &= result.good
    raise typer.Exit(0 if good else 1)


@app.command()
def doctor() -> None:
    """Say what is installed, what is missing, and how to get it."""
    table = Table(show_header=False, box=None)
    complete = True
    for finding in doctor_module.examine():
        complete &= finding.found or not finding.needed
        missing = "[red]missing[/]" if finding.needed else "not there"
        mark = "[green]ok[/]" if finding.found else missing
        table.add_row(mark, finding.what, escape(finding.detail))
    console.print(table)
    raise typer.Exit(0 if complete else 1)


def _show(store: Store, shown: Run) -> None:
    from ..report import figure

    for part in summary.summary(store, shown, figure.draw(store, shown)):
        console.print(part, soft_wrap=isinstance(part, str))


def _profile(where: runner.TimeProfile) -> Table:
    table = Table(title="Where the wall time went", title_justify="left")
    for column in ("", "seconds", "share"):
        table.add_column(column, justify="left" if not column else "right")
    own = where.user + where.system
    rows = (
        ("emulators, and waiting for them", where.wall - own),
        ("moving the UARTs' bytes (the orchestrator in the kernel)", where.system),
        ("the orchestrator's own code", where.user),
    )
    for name, seconds in rows:
        table.add_row(name, f"{seconds:.2f}", f"{seconds / where.wall:.1%}")
    table.add_section()
    table.add_row("wall time", f"{where.wall:.2f}", "100%")
    table.add_row("processor time of the emulators", f"{where.emulators:.2f}", "")
    return table


def main() -> None:
    """The command line. A user's error is one line on standard error and exit status 1."""
    handler = RichHandler(console=errors, show_path=False, show_time=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    try:
        app()
    except TinyMetaFedError as error:
        for line in str(error).splitlines():
            errors.print(f"[red]error:[/] {escape(line)}", soft_wrap=True, highlight=False)
        raise SystemExit(1) from None
