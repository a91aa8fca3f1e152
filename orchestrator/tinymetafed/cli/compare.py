"""The commands that compare: strategies over tasks and seeds, or values of settings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.markup import escape

from ..places import STORE
from ..results.store import Labels, Store
from .arguments import (
    ExperimentArgument,
    MarkdownOption,
    NoteOption,
    TagOption,
    given,
    output_file,
    output_folder,
)
from .report import FiguresOption, WidthOption, write_page
from .terminal import console, error_console, exit_by_faults, progress_bar

if TYPE_CHECKING:
    from ..experiments.comparison import Cell, ComparisonSettings
    from ..experiments.scheduler import SideBySide


JobsOption = Annotated[
    int | None, typer.Option(min=1, help="Runs side by side; by the processor's cores.")
]
CsvOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", callback=output_folder, help="Write tables of what was found as CSV."
    ),
]
BaselineOption = Annotated[
    str | None,
    typer.Option(metavar="LABEL", help="The strategy to compare the others with; the first."),
]
FileOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", callback=output_file, help="The same as JSON."),
]
PageOption = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="FILE.html", callback=output_file, help="Write a page as 'report' does."
    ),
]


def compare(
    file: Annotated[Path, given("comparison")],
    tag: TagOption = None,
    note: NoteOption = None,
    baseline: BaselineOption = None,
    jobs: JobsOption = None,
    csv: CsvOption = None,
    json: FileOption = None,
    markdown: MarkdownOption = None,
    report: PageOption = None,
    figures: FiguresOption = None,
    width: WidthOption = 3.5,
) -> None:
    """Run strategies × tasks × seeds, as far as they are not in the store; compare them. The exit
    status is 3 where the firmware of a node faulted in one of them and its experiment does not say
    faults.tolerate = true."""
    from ..experiments.comparison import read

    settings, cells = read(file)
    if settings.tuned is not None:
        console.print(
            f"Settings of the strategies: as tuned, {settings.tuned}", soft_wrap=True,
            highlight=False, markup=False,
        )  # fmt: skip
    labels = Labels(tuple(tag or ()), note or "")
    wanted = _Page(report, figures, width)
    settings = settings.beside(baseline)
    _compare(settings, cells, labels, jobs, csv, json, markdown, wanted, named=True)


def sweep(
    experiment: ExperimentArgument,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE,…", help="Values of a setting, e.g. nodes.count=4,8,16."
        ),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            min=0, help="After adaptation, accuracy or loss: show what it took to reach it."
        ),
    ] = None,
    tag: TagOption = None,
    note: NoteOption = None,
    baseline: BaselineOption = None,
    jobs: JobsOption = None,
    csv: CsvOption = None,
    json: FileOption = None,
    markdown: MarkdownOption = None,
    report: PageOption = None,
    figures: FiguresOption = None,
    width: WidthOption = 3.5,
) -> None:
    """Run an experiment with all combinations of some settings' values, as far as they are not in
    the store; compare them as 'compare' does."""
    from ..experiments.grid import read

    settings, cells = read(experiment, override or (), target or None)
    labels = Labels(tuple(tag or ()), note or "")
    wanted = _Page(report, figures, width)
    _compare(settings.beside(baseline), cells, labels, jobs, csv, json, markdown, wanted)


@dataclass(frozen=True)
class _Page:
    """Where a page goes and its figures; neither where not wanted."""

    output: Path | None
    figures: Path | None
    width: float

    def check(self) -> None:
        """Raises TinyMetaFedError before anything runs where it could not be made."""
        if self.output is not None or self.figures is not None:
            from ..report import vega

            vega.script()

    def write(
        self, store: Store, settings: "ComparisonSettings", cells: "list[Cell]"
    ) -> Iterator[str]:
        """Lines that say where they are."""
        if self.output is None and self.figures is None:
            return
        from ..report import following

        found = following.Source.of_comparison(store, settings, cells).read()
        yield from write_page(found, self.output, self.figures, self.width)


def _compare(
    settings: "ComparisonSettings",
    cells: "list[Cell]",
    labels: Labels,
    jobs: int | None,
    csv: Path | None,
    json: Path | None,
    markdown: Path | None,
    wanted: _Page,
    *,
    named: bool = False,
) -> NoReturn:
    """named: whether a report may call all of it by its name. Raises typer.Exit with the command's
    status."""
    # What runs nodes, and SciPy, are slow to import.
    from ..experiments.remembered import remember
    from ..experiments.scheduler import Comparison, default_jobs
    from ..report import comparison as found
    from ..report.comparison_tables import tables
    from ..report.markdown import write as write_markdown

    wanted.check()
    store = Store(STORE)
    store.labels = labels
    comparison = Comparison(cells, store)
    if named:
        remember(store, settings, cells)
    rounds = [cell.experiment.rounds for cell in cells]
    done = [run.done if run else 0 for run in comparison.runs]
    jobs = jobs or default_jobs(cells)
    execute(settings.name, comparison, cells, rounds, done, jobs, "rounds")
    outcome = found.outcome(settings, comparison, store)
    parts = list(tables(settings, comparison, outcome))
    # All files are written before anything is printed: who reads that may have seen enough.
    said: list[str] = []
    if markdown is not None:
        write_markdown(parts, f"Comparison {settings.name}", markdown)
        said.append(f"Tables written to {markdown}")
    for target, write in ((csv, found.write_csv), (json, found.write_json)):
        if target is not None:
            write(outcome, target)
            said.append(f"Runs, values and results written to {target}")
    said += wanted.write(store, settings, cells)
    for part in parts:
        console.print(part)
    for line in said:
        console.print(line, soft_wrap=True)
    exit_by_faults(store, [run for run in comparison.runs if run is not None])
    raise typer.Exit(1 if comparison.failed else 0)


def execute(
    name: str,
    work: "SideBySide",
    names: Sequence[object],
    totals: Sequence[int],
    done: list[int],
    jobs: int,
    unit: str,
) -> None:
    """Does what is to be done, and shows a progress bar of all of it and one of each piece.

    names: of the pieces. totals: how much each of them is, in units; done: of it. Raises typer.Exit
    where the user interrupts it.
    """
    from ..experiments.scheduler import ENDED

    with progress_bar(unit) as bar:
        total = bar.add_task(name, total=sum(totals), completed=sum(done))
        tasks = [bar.add_task("", total=count, visible=False) for count in totals]

        def progress(i: int, now: int, doing: str) -> None:
            done[i] = now
            bar.update(total, completed=sum(done))
            description = escape(f"{names[i]}: {doing}")
            bar.update(tasks[i], completed=now, description=description, visible=doing != ENDED)

        try:
            work.execute(jobs, progress)
        except KeyboardInterrupt:
            bar.stop()
            error_console.print("Interrupted. The same command goes on where it was.")
            raise typer.Exit(130) from None
