"""Fills docs/claims.md with what the comparisons of `make claims` came to.

    python docs/claims.py build/claims docs/claims.md

A claim holds on a task where the whole 95% confidence interval of its quantity is on its side of
the baseline's, and is refuted where all of it is on the other.
"""

import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
WORDS = {1: "yes", 0: "open", -1: "no"}


@dataclass(frozen=True)
class Claim:
    """A claim about a strategy, by its label.

    file: the comparison. quantities: the first that a task has is what counts. controls: labels of
    tasks that are shown, but do not count, since what the claim is about is not there.
    """

    name: str
    file: str
    strategy: str
    quantities: tuple[str, ...]
    controls: tuple[str, ...] = ()


ALIKE = (
    "sine, alike",
    "Omniglot, as many samples",
    "digits, as many samples",
    "iris, α = 100",
)
QUALITY = ("accuracy after adaptation", "loss after adaptation")
CLAIMS = [
    Claim("communication", "claims-communication", "P = 10%", ("bytes",)),
    Claim("energy", "claims-communication", "P = 10%", ("joules",)),
    Claim("convergence", "claims-communication", "P = 10%", ("rounds until target",)),
    Claim("stability", "claims-stability", "TinyMetaFed", ("spread of the last fifth",)),
    Claim("heterogeneity", "claims-heterogeneity", "TinyMetaFed", QUALITY, ALIKE),
]


def better(quantity: str, row: dict[str, Any]) -> tuple[float, float, float] | None:
    """How much better than the baseline it is, and the bounds of that: of accuracy the difference
    in points, of all else how many percent less. None where it is not known. Where the ratio is a
    bound, since some runs did not reach the target, its other end is what a ratio can be."""
    if quantity.startswith("accuracy"):
        keys = ("difference", "difference_low", "difference_high")
        scale, start = 100.0, 0.0
    else:
        keys = ("ratio", "ratio_high", "ratio_low")
        scale, start = -100.0, 1.0
    ends: dict[str, dict[str, Any]] = {
        "upper": {"ratio_low": 0.0},
        "lower": {"ratio_high": math.inf},
    }
    found = [ends.get(row.get("bound", ""), {}).get(key, row[key]) for key in keys]
    if any(one is None for one in found):
        return None
    middle, low, high = (scale * (one - start) for one in found)
    return middle, low, high


def judged(claim: Claim, rows: Rows) -> dict[str, tuple[str, tuple[float, float, float] | None]]:
    """By task: the quantity, and what `better` says of it."""
    found: dict[str, tuple[str, tuple[float, float, float] | None]] = {}
    for quantity in claim.quantities:
        for row in rows:
            if (row["strategy"], row["quantity"]) == (claim.strategy, quantity):
                found.setdefault(row["task"], (quantity, better(quantity, row)))
    return found


def verdict(claim: Claim, rows: Rows) -> str:
    """A sentence and a table, as Markdown."""
    lines, sides = list[str](), list[int]()
    for task, (quantity, measured) in judged(claim, rows).items():
        side, text = 0, "not known"
        if measured is not None:
            middle, low, high = measured
            side = 1 if low > 0 else -1 if high < 0 else 0
            unit = " points" if quantity.startswith("accuracy") else "%"
            # A ratio's bound: its other end is infinite, or 0.
            sign = "< " if low == -math.inf else "> " if high == 100.0 else ""
            text = f"{sign}{middle:.1f}{unit} ({low:.1f} to {high:.1f})".replace("inf", "∞")
        holds = WORDS[side]
        if task in claim.controls:
            holds = f"control: {holds}"
        else:
            sides.append(side)
        lines.append(f"| {task} | {quantity} | {text} | {holds} |")
    if not sides:
        raise SystemExit(f"{claim.file}: nothing of {claim.strategy} is there for {claim.name}")
    yes, no = sides.count(1), sides.count(-1)
    if yes:
        says = "Holds" if yes == len(sides) else "Holds partly"
    else:
        says = "Does not hold here" if no else "Open"
    open_ones = len(sides) - yes - no
    head = f"**{says}**: yes on {yes} of {len(sides)} tasks, no on {no}, open on {open_ones}."
    if controls := len(lines) - len(sides):
        head += f" {controls} controls do not count."
    table = [
        "| task | quantity | better than the baseline by | holds |",
        "| --- | --- | ---: | --- |",
    ]
    return "\n".join([head, "", *table, *lines])


def fill(text: str, folder: Path) -> str:
    """The page with each verdict in its place, of the comparisons that are there."""
    for claim in CLAIMS:
        if not (results := folder / f"{claim.file}.json").is_file():
            continue
        rows: Rows = json.loads(results.read_text())["results"]
        place = re.compile(rf"(<!-- {claim.name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not place.search(text):
            raise SystemExit(f"no place for {claim.name} on the page")
        made = verdict(claim, rows)
        text = place.sub(lambda found, made=made: f"{found[1]}\n{made}\n\n{found[2]}", text)
    return text


if __name__ == "__main__":
    folder, page = map(Path, sys.argv[1:])
    page.write_text(fill(page.read_text(), folder))
