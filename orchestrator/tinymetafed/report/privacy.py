"""Tables of what updates tell of samples."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from rich.markup import escape
from rich.table import Table

from ..privacy.measuring import CANDIDATES, Case, Told

HEAD = (
    "samples", "sent", "entries", "error", "quartiles", "solved", "% recognised", "targets",
)  # fmt: skip


def described(case: Case) -> str:
    """In a word or two."""
    share = "as the run sends" if case.percent is None else f"P = {case.percent:g}%"
    return f"{case.samples} sample{'s' * (case.samples > 1)}, {_sent(case, share)}"


def _sent(case: Case, share: str) -> str:
    return share if case.values is None else f"{share}, {case.values}"


def _row(told: Told) -> tuple[str, ...]:
    case = told.case
    share = "as run" if case.percent is None else f"{case.percent:g}%"
    low, middle, high = np.quantile(told.error, (0.25, 0.5, 0.75))
    solved = f"{np.median(told.solved):.3f}" if told.solved else "–"
    is_class = told.chance < 1
    targets = f"{100 * told.targets:.0f}%" if is_class else f"{told.targets:.3f}"
    return (
        str(case.samples), _sent(case, share), f"{told.entries:,.0f}", f"{middle:.3f}",
        f"{low:.3f} – {high:.3f}", solved, f"{100 * told.recognised:.0f}", targets,
    )  # fmt: skip


def _title(told: Told) -> str:
    when = f"after {told.done} rounds" if told.done else "before training"
    return f"Run {told.run}, {told.strategy} on {told.task}, {when}: {told.devices} devices"


def _caption(told: Told) -> str:
    targets = (
        f"targets: classes found, {100 * told.chance:.0f}% by chance"
        if told.chance < 1
        else "targets: their error, as for inputs"
    )
    return (
        "error: squared, of the inputs, divided by that of the mean of other devices' samples, "
        "which is 1; the median over devices. solved: by the first layer's update alone. "
        f"% recognised: of samples, among {CANDIDATES}, by what the search found. {targets}."
    )


def _runs(found: Sequence[Told]) -> Iterator[list[Told]]:
    for _, some in groupby(found, key=lambda told: told.run):
        yield list(some)


def tables(found: Sequence[Told]) -> Iterator[Table]:
    """One for each run."""
    for some in _runs(found):
        table = Table(
            title=escape(_title(some[0])), title_justify="left",
            caption=_caption(some[0]), caption_justify="left",
        )  # fmt: skip
        for name in HEAD:
            table.add_column(name, justify="right")
        for told in some:
            table.add_row(*_row(told))
        yield table
