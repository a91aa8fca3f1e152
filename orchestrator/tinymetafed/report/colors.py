"""Colours of figures and page, on paper and on a dark screen.

Lines have five, most of them Okabe and Ito's (https://jfly.uni-koeln.de/color/), and markers
besides. Stacked parts have those of Tol's "muted" (https://sronpersonalpages.nl/~pault/), in the
same order everywhere; what the radio takes is hatched.
"""

from ..energy import ledger

PAPER, INK, FAINT = "#ffffff", "#1d2129", "#d3d6db"
LINES = ("#0072b2", "#d55e00", "#009e73", INK, "#cc79a7")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY, CYAN, TEAL, GREEN, OLIVE, SAND, ROSE, INDIGO, WINE, PALE = (
    "#747b85", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#332288",
    "#882255", "#dddddd",
)  # fmt: skip

ON_DARK = {
    PAPER: "#14171c", INK: "#f2f4f7", FAINT: "#3d434d",
    "#0072b2": "#4da3e0", "#d55e00": "#f07f3c", "#009e73": "#2fd0a3", "#cc79a7": "#d17fb5",
    GREY: "#9aa1ab", CYAN: CYAN, TEAL: TEAL, GREEN: "#3c9e5c", OLIVE: OLIVE, SAND: SAND,
    ROSE: ROSE, INDIGO: "#8a7be0", WINE: "#c2588f", PALE: "#4b515b",
}  # fmt: skip
"""What stands for each of them there."""

ACCOUNTS = {
    "start": GREY, ledger.WAKE_UP: WINE, ledger.RECEIVE: ROSE, "receive": CYAN,
    "reconstruct": TEAL, "learn": GREEN, "select": OLIVE, "evaluate": GREY, "send": SAND,
    ledger.TRANSMIT: INDIGO, ledger.SLEEP: PALE,
}  # fmt: skip
"""Of the ledger, in the order in which a round goes."""

MESSAGES = {
    "hello": GREY, "load": WINE, "weights": INDIGO, "store": TEAL, "train": GREEN,
    "select": OLIVE, "update": ROSE,
}  # fmt: skip
"""Requests, in the order in which they are sent."""

HATCHES = {ledger.RECEIVE: "\\\\\\\\", ledger.TRANSMIT: "////"}
