"""Colours of charts and page, on paper and on a dark screen.

Lines have eight, the first of them Okabe and Ito's (https://jfly.uni-koeln.de/color/), that readers
of each kind of colour vision tell apart. A line's marker goes with its colour, and from the ninth
to the sixteenth markers are open and lines dashed. Stacked parts have Tol's "muted"
(https://sronpersonalpages.nl/~pault/), in the same order everywhere, with ink and violet for its
grey and purple, which some readers take for others of them.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..energy import ledger

PAPER, INK, FAINT, PANEL, LINK, GREY = (
    "#ffffff", "#1d2129", "#d3d6db", "#f3f5f8", "#0b62a0", "#747b85",
)  # fmt: skip
COLORS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", INK, "#5a2d00", "#9600ff", "#3c1ea5",
)  # fmt: skip
MARKERS = (
    "circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right",
    "M-0.9,-0.3L0.9,-0.3L0.9,0.3L-0.9,0.3ZM-0.3,-0.9L0.3,-0.9L0.3,0.9L-0.3,0.9Z",
)  # fmt: skip
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3))
VIOLET, CYAN, TEAL, GREEN, OLIVE, SAND, ROSE, INDIGO, WINE, PALE = (
    "#9600ff", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#332288",
    "#892256", "#dddddd",
)  # fmt: skip
PARTS = (INK, VIOLET, CYAN, TEAL, GREEN, OLIVE, SAND, ROSE, INDIGO, WINE, PALE)
"""Of the parts of a bar."""

ON_DARK = {
    PAPER: "#14171c", INK: "#f2f4f7", FAINT: "#3d434d", PANEL: "#1d2229", LINK: "#6cb6f0",
    GREY: "#9aa1ab",
    "#0072b2": "#4da3e0", "#d55e00": "#f07f3c", "#009e73": "#2fd0a3", "#cc79a7": "#d17fb5",
    "#5a2d00": "#f0d20f", "#9600ff": "#872dff", "#3c1ea5": "#d2004b",
    CYAN: CYAN, TEAL: TEAL, GREEN: "#2a8545", OLIVE: OLIVE, SAND: SAND, ROSE: ROSE,
    INDIGO: "#8a7be0", WINE: "#a0306e", PALE: "#3d434d",
}  # fmt: skip
"""What stands for each of them there."""


@dataclass(frozen=True)
class Style:
    """Of a line: colour, what its marker is filled with, dash in pixels, and marker as Vega names
    it."""

    color: str
    fill: str
    dash: tuple[int, ...]
    marker: str


def style(i: int) -> Style:
    """Of the i-th line; 32 are told apart."""
    turn, place = divmod(i, len(COLORS))
    color = COLORS[place]
    fill = PAPER if turn % 2 else color
    return Style(color, fill, DASHES[turn % len(DASHES)], MARKERS[place])


ACCOUNTS = {
    "start": INK, ledger.WAKE_UP: WINE, ledger.RECEIVE: ROSE, "receive": CYAN,
    "reconstruct": TEAL, "learn": GREEN, "select": OLIVE, "evaluate": VIOLET, "send": SAND,
    ledger.TRANSMIT: INDIGO, ledger.SLEEP: PALE,
}  # fmt: skip
"""Of the ledger, in the order in which a round goes."""

MESSAGES = {
    "hello": INK, "load": WINE, "weights": INDIGO, "store": TEAL, "train": GREEN,
    "select": OLIVE, "update": ROSE, "mark": SAND, "renew": CYAN, "variate": PALE,
    "framing": VIOLET,
}  # fmt: skip
"""Requests, in the order in which they are sent, and what is around them."""

STATES = {
    "took part": TEAL, "not chosen": PALE, "away": INDIGO, "late": SAND, "diverged": ROSE,
    "left out": WINE,
}  # fmt: skip
"""Of a node in a round."""


def order(names: set[str], known: dict[str, str]) -> list[str]:
    """In the order of `known`; others behind."""
    return [name for name in known if name in names] + sorted(names - known.keys())


def parts(names: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """The colours of these parts, no two the same as long as there are as many: those of `known`;
    of others, the ones that are left."""
    used = {known[name] for name in names if name in known}
    left = [color for color in PARTS if color not in used] or PARTS
    others = itertools.cycle(left)
    return [known[name] if name in known else next(others) for name in names]
