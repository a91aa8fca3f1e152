"""Arguments of keywords that are given with a unit."""

import re


class Energy(float):
    """Joules, given with a unit: ``3 mJ``, ``250 uJ``, ``250 µJ`` or ``0.003 J``."""

    @classmethod
    def parse(cls, text: str) -> "Energy":
        """Raises ValueError."""
        return cls(_quantity(text, {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "µJ": 1e-6}))


class Size(float):
    """Bytes, given with a unit: ``4096 B``, ``30 kB`` (30,000 bytes) or ``2 MB``."""

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Raises ValueError."""
        return cls(_quantity(text, {"B": 1.0, "kB": 1e3, "MB": 1e6}))


def _quantity(text: str, units: dict[str, float]) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(\S+)", text.strip())
    if not found or found[2] not in units:
        raise ValueError(f"give a number and one of {', '.join(units)}")
    return float(found[1]) * units[found[2]]
