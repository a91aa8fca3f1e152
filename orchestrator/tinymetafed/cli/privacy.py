"""The command that attacks the updates of a run's nodes."""

import dataclasses
import itertools
import json as json_format
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import TinyMetaFedError
from ..files import writing
from .arguments import MarkdownOption, RunsArgument, output_file
from .terminal import console, reading


def _numbers(option: str, text: str, least: float, most: float) -> list[float]:
    try:
        found = [float(one) for one in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(least <= one <= most for one in found):
        raise TinyMetaFedError(
            f"{option} {text:.200}: expected numbers from {least:g} to {most:g} with commas between"
        )
    return found


def invert(
    which: RunsArgument,
    percent: Annotated[
        str | None,
        typer.Option(metavar="P,…", help="Of the update that is sent; as the run has it."),
    ] = None,
    samples: Annotated[
        str, typer.Option(metavar="N,…", help="Samples that an update is learnt from.")
    ] = "1",
    values: Annotated[
        Literal["float32", "float16", "int8"] | None,
        typer.Option(help="How an update's values are sent; as the run has it."),
    ] = None,
    first: Annotated[
        bool, typer.Option("--first", help="In the first round, before any training.")
    ] = False,
    devices: Annotated[int, typer.Option(min=1, max=10_000, help="To attack.")] = 8,
    iterations: Annotated[int, typer.Option(min=1, help="Of each search.")] = 400,
    restarts: Annotated[int, typer.Option(min=1, help="Searches from other first guesses.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of the searches.")] = 1,
    markdown: MarkdownOption = None,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=output_file, help="Write all figures as JSON."),
    ] = None,
) -> None:
    """Reconstruct samples from updates that a run's nodes send: a gradient inversion attack."""
    from ..privacy.inversion import Attack
    from ..privacy.measuring import Attacked, Case, Told, measure
    from ..report import privacy as tables
    from ..report.markdown import write as write_markdown

    counts = _numbers("--samples", samples, 1, 1000)
    if any(count != int(count) for count in counts):
        raise TinyMetaFedError(f"--samples {samples:.200}: expected whole numbers")
    shares = [None] if percent is None else _numbers("--percent", percent, 1e-6, 100)
    store = reading()
    every = [Attacked(store, run, first=first) for run in store.named(which)]
    cases = [
        (one, Case(int(count), share, values))
        for one, count, share in itertools.product(every, counts, shares)
    ]
    for one, case in cases:  # what is wrong with the last is said before the first takes its time
        one.of(case)
    attack = Attack(iterations=iterations, restarts=restarts, seed=seed)
    found: list[Told] = []
    with console.status("") as status:
        for i, (one, case) in enumerate(cases, 1):
            status.update(f"attack {i} of {len(cases)}: run {one.run.id}, {tables.described(case)}")
            found.append(measure(one, case, devices, attack))
    parts = list(tables.tables(found))
    for part in parts:
        console.print(part)
    if markdown is not None:
        write_markdown(parts, "What updates tell of samples", markdown)
        console.print(f"Tables written to {markdown}", soft_wrap=True)
    if json is not None:
        with writing(json) as file:
            file.write(json_format.dumps([dataclasses.asdict(one) for one in found], indent=1))
            file.write("\n")
        console.print(f"Figures written to {json}", soft_wrap=True)
