"""Units in which figures are shown: one for a column or an axis, so that its largest number has one
to three digits before the point."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

PREFIXES = {1e-12: "p", 1e-9: "n", 1e-6: "µ", 1e-3: "m", 1.0: "", 1e3: "k", 1e6: "M", 1e9: "G",
            1e12: "T", 1e15: "P"}  # fmt: skip
TIMES = {1e-6: "µs", 1e-3: "ms", 1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "d"}
LAST_IN = 2.0
"""A time is told in minutes from so many of them on, and so in hours and days."""


@dataclass(frozen=True)
class Unit:
    """name: as it is written. size: of one, in bytes, joules, seconds or what it is of."""

    name: str
    size: float = 1.0

    def of(self, what: str) -> str:
        """A title: what, and the unit."""
        return f"{what} ({self.name})" if self.name else what


def best(base: str, values: Iterable[float | None]) -> Unit:
    """For these values, in `base`: "B", "J", "s", or "" for plain numbers, which stay as they
    are."""
    if not base:
        return Unit("")
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    if base == "s":
        sizes = [size for size in TIMES if largest >= size * (LAST_IN if size > 1 else 1)]
        size = max(sizes, default=1.0 if largest == 0 else min(TIMES))
        return Unit(TIMES[size], size)
    # 999.6 would be written as 1000.
    sizes = [size for size in PREFIXES if largest >= 0.9995 * size]
    size = max(sizes, default=1.0 if largest == 0 else min(PREFIXES))
    return Unit(PREFIXES[size] + base, size)


def three(value: float | None, digits: int = 3) -> str:
    """To three significant digits, without an exponent; whole digits are all written."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if places > 9:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    return f"{value:,.{max(0, places)}f}".replace("-", "−")


def one(value: float, base: str) -> str:
    """A single figure with its unit, e.g. 717 kJ."""
    unit = best(base, [value])
    return f"{three(value / unit.size)} {unit.name}".rstrip()
