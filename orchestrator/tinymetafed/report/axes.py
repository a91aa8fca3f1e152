"""What is along the axes of a chart, and how it gets into its specification.

A string of a specification that begins with @ stands for what the reader chooses; `fill` puts it
in, and the page's script does the same. Data have neutral names of columns, which an axis turns
into x and y.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]

LOG: Spec = {"type": "log", "nice": False, "padding": 14}
LINEAR: Spec = {"zero": False, "nice": False, "padding": 10}
DECADES: Spec = {
    "condition": {
        "test": "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-9", "value": 1,
    },
    "value": 0.35,
}  # fmt: skip
"""How strong the lines of a grid are, along a logarithmic axis."""


@dataclass(frozen=True)
class Axis:
    """What may be along an axis. title: with the unit. value, low, high: Vega expressions of a
    row, the last two empty where there is no interval; sign: -1 where more is better."""

    title: str
    value: str
    low: str = ""
    high: str = ""
    sign: int = 1


def fill(spec: Any, chosen: Mapping[str, Any]) -> Any:
    """The specification with what is chosen in the place of strings that are keys of it."""
    if isinstance(spec, dict):
        return {key: fill(value, chosen) for key, value in spec.items()}
    if isinstance(spec, list | tuple):
        return [fill(value, chosen) for value in spec]
    return chosen.get(spec, spec) if isinstance(spec, str) else spec


def axes(
    x: Axis | None,
    y: Axis | None = None,
    logarithmic: Sequence[str] = (),
    legend: Spec | None = None,
) -> dict[str, Any]:
    """What `fill` puts in for these axes; legend: None where the page has one of its own."""
    found: dict[str, Any] = {"@legend": legend}
    for name, axis in (("x", x), ("y", y)):
        if axis is None:
            continue
        log = name in logarithmic
        low = axis.low or axis.value
        under, floor = ("low", "datum.floor") if name == "y" else ("xlow", "datum.x / 10")
        found |= {
            f"@{name}.title": axis.title,
            f"@{name}.value": axis.value,
            f"@{name}.low": low,
            f"@{name}.clipped": f"max(datum.{under}, {floor} / 1.5)" if log else f"datum.{under}",
            f"@{name}.high": axis.high or axis.value,
            f"@{name}.cost": f"{axis.sign} * datum.{name}",
            f"@{name}.scale": dict(LOG if log else LINEAR),
            f"@{name}.grid": dict(DECADES) if log else 1,
            f"@{name}.shown": f"isValid(datum.{name})" + (f" && datum.{name} > 0" if log else ""),
        }
    return found
