"""The cycle model beside the manual and beside boards, as tables for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from ..bench.validation import PUBLISHED, CoreMark, Measured


def of_kernels(core: str, measured: Sequence[Measured]) -> Table:
    """The model beside the manual, or a measurement: a line for each kernel."""
    table = Table(title=f"Cycles of {core}, a body of each loop", title_justify="left")
    table.add_column("kernel")
    for column in ("published", "model", "between", ""):
        table.add_column(column, justify="right")
    for one in measured:
        manual = one.kernel.between
        table.add_row(
            one.kernel.name,
            str(one.kernel.cycles) if manual is None else f"{manual[0]}–{manual[1]}",
            f"{one.expected:g}",
            f"{one.shortest:g}–{one.longest:g}",
            "[green]ok[/]" if one.good else "[red]no[/]",
        )
    return table


def of_coremark(results: Sequence[CoreMark]) -> Table:
    """The model beside what was published, for each core."""
    table = Table(title="CoreMark/MHz, GCC -O3", title_justify="left")
    table.add_column("core")
    table.add_column("")
    table.add_column("CoreMark/MHz", justify="right")
    for found in results:
        low, score, high = found.score
        crcs = "checksums pass" if found.good else f"[red]wrong checksums: {found.crcs}[/]"
        table.add_row(found.core, f"model, {crcs}", f"{score:.2f} ({low:.2f}–{high:.2f})")
        for name, value in PUBLISHED[found.core]:
            table.add_row("", name, f"{value:.2f}")
    return table
