"""The cycle model and the ledger beside the manual and boards, as tables for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from ..bench.measured_energy import Priced, Summed
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


def of_energy(priced: Sequence[Priced]) -> Table:
    """The ledger beside what boards took."""
    counted = any(one.cycles is not None for one in priced)
    table = Table(
        title="Energy, measured on boards and by the ledger", title_justify="left",
        caption=None if counted else "The ledger is for the board's own cycles.",
        caption_justify="left",
    )  # fmt: skip
    table.add_column("workload")
    table.add_column("device")
    table.add_column("code")
    table.add_column("cycles", justify="right")
    if counted:
        table.add_column("model", justify="right")
        table.add_column("%", justify="right")
    for column in ("µJ", "ledger", "%"):
        table.add_column(column, justify="right")
    for one in priced:
        board = one.measurement
        cells = [board.workload, board.device, board.code, f"{board.cycles:,}"]
        if counted:
            error = one.cycles_error
            cells += ["", ""] if error is None else [f"{one.cycles:,}", f"{100 * error:+.1f}"]
        joules = f"{board.microjoules:,.0f}", f"{1e6 * one.joules:,.0f}"
        table.add_row(*cells, *joules, f"{100 * one.error:+.1f}")
    return table


def of_currents(summed: Sequence[Summed]) -> Table:
    """Processor and radio at once beside the ledger's sum."""
    table = Table(title="Processor and radio at once", title_justify="left")
    table.add_column("workload")
    table.add_column("device")
    for column in ("mA", "ledger, one after the other", "%"):
        table.add_column(column, justify="right")
    for one in summed:
        chip = one.together
        drawn, error = f"{one.milliamperes:.2f}", f"{100 * one.error:+.1f}"
        table.add_row(chip.workload, chip.device, f"{chip.milliamperes:g}", drawn, error)
    return table
