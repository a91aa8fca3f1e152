"""The commands that price work: a run in joules, a program in cycles."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..energy.settings import EnergySettings
from ..errors import TinyMetaFedError
from ..report import described
from ..report import energy as energy_tables
from ..results.schema import RESUMABLE
from ..results.store import Store
from ..settings import check
from .arguments import JsonOption, RunArgument
from .terminal import console, reading

if TYPE_CHECKING:
    from ..energy.timing import Timing

log = logging.getLogger(__name__)


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
    json: JsonOption = False,
) -> None:
    """Price what a run has counted, for another device or radio too."""
    store = reading()
    with store.snapshot():
        _energy(store, which, device, radio, interval, classes, csv, json)


def _energy(
    store: Store,
    which: str,
    device: str | None,
    radio: str | None,
    interval: float | None,
    classes: bool,
    csv: Path | None,
    json: bool,
) -> None:
    run = store.run(which)
    settings = described.settings(run)
    changes = {"device": device, "radio": radio, "interval": interval}
    given = {key: value for key, value in changes.items() if value is not None}
    priced = [
        (nodes, check(EnergySettings, energy.model_dump() | given, "energy"))
        for nodes, energy in settings.priced
    ]
    if run.schema < RESUMABLE and priced != settings.priced:
        raise TinyMetaFedError(
            f"run {run.id} was begun with {run.made_by}, which did not store its frames, so it "
            f"cannot be priced anew; it was priced for {settings.energy.device} and "
            f"{settings.energy.radio}"
        )
    measures = any(kind.measures for _, kind in settings.nodes.fleet)
    measured = store.measured(run.id) if measures else []
    if measures and not json:
        console.print(
            energy_tables.of_measured(measured, store.phases(run.id), priced)
            if measured
            else energy_tables.NOT_MEASURED
        )
    known = described.of(settings)
    account = known.account(store, run, priced)
    spent = account.spent()
    if spent is None or not spent.accounts:
        raise TinyMetaFedError(
            f"run {run.id}: nothing was counted on its {run.backend} nodes, so nothing can be "
            "priced; qemu and renode nodes count, and so does a sample of rounds (nodes.emulate)"
        )
    by_class = account.executed.by_class() if classes else None
    if json:
        from ..report import as_json

        tree = as_json.of_energy(spent, priced, by_class, measured if measures else None)
        typer.echo(as_json.text(tree))
    else:
        totals = store.node_totals(run.id)
        if settings.nodes.groups:
            console.print(energy_tables.by_group(settings.nodes.fleet, priced, totals, spent))
        sampled = known.sampled
        uncounted = energy_tables.Uncounted.of(store, run, totals, known.counts, sampled=sampled)
        console.print(
            energy_tables.by_account(spent, uncounted, priced, traced=run.traced, sampled=sampled)
        )
        if by_class is not None:
            console.print(energy_tables.by_class(by_class))
    if csv is not None:
        number = energy_tables.write_csv(account.entries(), csv)
        if not json:
            console.print(f"{number} entries written to {csv}", soft_wrap=True, markup=False)


def _check_executes(timings: Iterable["Timing"], image: Path, architecture: str) -> None:
    for timing in timings:
        if not timing.executes(architecture):
            raise TinyMetaFedError(
                f"{image}: a program for {architecture}, which a {timing.table.core} does not "
                f"execute; compile it for {timing.table.architecture}"
            )


def cycles(
    program: Annotated[Path, typer.Argument(metavar="PROGRAM.elf", help="For mps2-an386.")],
    core: Annotated[
        str | None, typer.Option(metavar="CORE", help="For this core alone, of emulation/timing.")
    ] = None,
    functions: Annotated[
        str | None, typer.Option(metavar="CORE", help="Show each function too, for this core.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every line.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="The same as JSON.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds.")] = 600.0,
    trust: Annotated[
        bool, typer.Option("--trust", help="Let it change files and run commands.")
    ] = False,
    static: Annotated[
        bool, typer.Option("--static", help="Do not run it: each function's cycles and loops.")
    ] = False,
) -> None:
    """Run any program for the nodes' processor, and count its cycles.

    It has to end by semihosting (SYS_EXIT), by which it can also read files of this machine; it
    changes none and runs no command unless it is trusted. Each function tmf_phase_NAME that it
    calls begins a phase of that name.
    """
    # These import Capstone and pyelftools, for which no other command has to wait.
    from ..energy.program import Program
    from ..energy.timing import Timing
    from ..nodes import standalone
    from ..report import cycles as tables

    if static and (functions or csv or json):
        raise TinyMetaFedError("--static has every function in its table, and writes no file")
    of_functions = None if functions is None else Timing.load(functions)
    of_core = None if core is None else Timing.load(core)
    image = Program.read(program)
    architecture = image.architecture
    named = [timing for timing in (of_core, of_functions) if timing is not None]
    _check_executes(named, program, architecture)
    timings = Timing.all(executes=architecture) if of_core is None else (of_core,)
    if static:
        console.print(tables.static_table(image, of_core or Timing.load("cortex-m4")))
        return
    ended = standalone.run(program, timeout, trusted=trust)
    console.print(ended.output, end="", markup=False, highlight=False, soft_wrap=True)
    found = list(tables.lines(ended.profile(timings)))
    console.print(tables.phases_table(found))
    if of_functions is not None:
        by_function = tables.of_functions(ended.functions([of_functions]))
        console.print(tables.functions_table(by_function))
        found += by_function
    for path, write in ((csv, tables.write_csv), (json, tables.write_json)):
        if path is not None:
            write(found, path)
    entered = {line.phase for line in found}
    for phase in ended.program.phases:
        if phase not in entered:
            log.warning(
                "%s: phase '%s' is defined and was never entered; compilers leave out a call of an "
                'empty function, unless it has __asm__ volatile("") in it',
                program,
                phase,
            )
