"""The command that searches for the settings of a comparison's strategies."""

import json as json_module
import logging
import shlex
from pathlib import Path
from typing import Annotated

import typer

from .. import files, places
from ..errors import TinyMetaFedError
from .arguments import given
from .compare import JobsOption, execute
from .terminal import console

log = logging.getLogger(__name__)


def tune(
    file: Annotated[Path, given("comparison")],
    trials: Annotated[
        int, typer.Option(min=1, max=10_000, help="Of each task and strategy, with those done.")
    ] = 24,
    jobs: JobsOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Of the chosen settings; tuned/NAME.toml beside the comparison where not given.",
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show what was found, and do nothing.")] = (
        False
    ),
    json: Annotated[bool, typer.Option("--json", help="With --show: all trials, as JSON.")] = False,
) -> None:
    """Search for the settings of a comparison's strategies, as many trials for each task and
    strategy, on other seeds and by devices for validation; write the best into a file that the
    comparison names as 'tuned'. Where the seed draws which data are unseen and task.split is not
    given, trials see some that are unseen in the comparison's runs: a warning says so, and that
    file."""
    if json and not show:
        raise typer.BadParameter("--json goes with --show")
    # What runs nodes is slow to import.
    from ..experiments import comparison, tuned, tuning
    from ..experiments import trials as running
    from ..experiments.scheduler import default_jobs
    from ..report import tuning as report

    settings, path, searches = tuning.read(file)
    if output is None:
        if path.parent == places.EXPERIMENTS and not places.IS_CHECKOUT and not show:
            raise typer.BadParameter("a comparison that comes with the bench needs --output FILE")
        output = path.parent / (settings.tuned or f"tuned/{path.name}")
    leaks: list[str] = []
    if not show:
        files.check_folder(output.parent)
        if output.parent.exists():
            files.check(output)
    work = running.Tuning(searches, None if show else trials, places.STORE)
    if not show:
        leaks = tuning.leaks(settings, searches)
        for line in leaks:
            log.warning("%s", line)
        totals = [work.wanted(i) for i in range(len(searches))]
        done = [
            min(total, len(one.trials)) for total, one in zip(totals, work.results, strict=True)
        ]
        jobs = min(jobs or default_jobs(work.cells), len(searches))
        execute(settings.name, work, searches, totals, done, jobs, "trials")
    if json:
        typer.echo(json_module.dumps(report.as_json(work.results), indent=2))
        return
    for part in report.tables(work.results):
        console.print(part, soft_wrap=isinstance(part, str), markup=False, highlight=False)
    if work.others:
        console.print(
            f"{work.others} more in {work.folder}: of other comparisons, settings or versions",
            soft_wrap=True, highlight=False,
        )  # fmt: skip
    if show:
        return
    failed = {i: f"{searches[i]}: {why}" for i, why in work.failed.items()}
    for i, one in enumerate(work.results):
        if one.best is None and i not in failed:
            failed[i] = f"{one.search}: none of its trials is complete; give it another space"
    if failed:
        raise TinyMetaFedError("\n".join(failed[i] for i in sorted(failed)))
    command = shlex.join(["tinymetafed", "tune", str(file), "--trials", str(trials)])
    head = (
        f"Found by '{command}', the best of each task and strategy by devices for validation",
        f"on the seeds {', '.join(map(str, settings.tune.seeds))}. {running.made_by()}",
        *leaks,
    )
    digests = comparison.digests(comparison.untuned(settings, path))
    tuned.write(output, head, [report.chosen(one) for one in work.results], digests)
    console.print(f"Settings written to {output}", soft_wrap=True, highlight=False)
    if settings.tuned is None and output == path.parent / "tuned" / path.name:
        console.print(
            f'{path} takes them up by a line before its tables: tuned = "tuned/{path.name}"',
            soft_wrap=True, highlight=False, markup=False,
        )  # fmt: skip
