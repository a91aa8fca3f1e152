"""What a program came to in cycles, as tables for the terminal, CSV and JSON."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from rich.table import Table

from ..energy.profile import Profile
from ..energy.program import Program
from ..energy.static import functions
from ..energy.timing import Timing
from ..files import escaped, writing


@dataclass(frozen=True)
class Line:
    """Cycles in a phase by a core's expected, shortest and longest reading.

    Attributes:
        function: by itself, without those that it calls; None for the whole phase.
    """

    phase: str
    core: str
    function: str | None
    instructions: int
    cycles: int
    shortest: int
    longest: int


def lines(profile: Profile, function: str | None = None) -> Iterator[Line]:
    """Of each phase in which anything was executed, for each core."""
    for i, phase in enumerate(profile.phases):
        instructions = int(profile.instructions[i])
        for core, figures in profile.cycles.items():
            if instructions:
                shortest, expected, longest = figures[i].tolist()
                yield Line(phase, core, function, instructions, expected, shortest, longest)


def of_functions(profiles: Mapping[str, Profile]) -> list[Line]:
    """The functions of each phase, in the phases' order, the dearest first."""
    found = [line for name, profile in profiles.items() for line in lines(profile, name)]
    phases = next(iter(profiles.values())).phases if profiles else ()
    return sorted(found, key=lambda line: (phases.index(line.phase), -line.cycles, line.function))


def phases_table(found: Sequence[Line]) -> Table:
    """A line for each phase and core."""
    table = _table("phase", "core")
    for line in found:
        table.add_row(line.phase, line.core, *_figures(line))
    return table


def functions_table(found: Sequence[Line]) -> Table:
    """A line for each function and phase."""
    core = found[0].core if found else ""
    table = _table("phase", "function", title=f"Functions by themselves, {core}")
    table.add_column("share", justify="right")
    whole: dict[str, int] = {}
    for line in found:
        whole[line.phase] = whole.get(line.phase, 0) + line.cycles
    for line in found:
        share = f"{line.cycles / max(whole[line.phase], 1):.1%}"
        table.add_row(line.phase, line.function, *_figures(line), share)
    return table


def _table(*names: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name, overflow="fold")  # a name that is cut is no name
    for column in ("instructions", "cycles", "shortest", "longest"):
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _figures(line: Line) -> Iterator[str]:
    figures = line.instructions, line.cycles, line.shortest, line.longest
    return (f"{figure:,}" for figure in figures)


def write_csv(found: Sequence[Line], path: Path) -> None:
    """A line for each, under the names of Line's fields. Raises TinyMetaFedError."""
    with writing(path) as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Line)])
        writer.writerows(escaped(astuple(line)) for line in found)


def write_json(found: Sequence[Line], path: Path) -> None:
    """A list of objects with Line's fields. Raises TinyMetaFedError."""
    with writing(path) as file:
        file.write(json.dumps([asdict(line) for line in found], indent=1) + "\n")


def static_table(program: Program, timing: Timing) -> Table:
    """Each function of a program that is not run."""
    table = Table(
        title=f"The longest way through each function on {timing.table.core}; calls not followed",
        title_justify="left",
    )
    table.add_column("function", overflow="fold")
    for column in ("instructions", "cycles"):
        table.add_column(column, justify="right")
    table.add_column("loops: cycles of a turn, and turns")
    for one in functions(program, timing):
        loops = [f"{o.address:#x}: {o.cycles:,} × {o.turns or 'unknown'}" for o in one.loops]
        more = "" if all(loop.turns for loop in one.loops) else "≥ "
        table.add_row(one.name, f"{one.instructions:,}", f"{more}{one.cycles:,}", "\n".join(loops))
    return table
