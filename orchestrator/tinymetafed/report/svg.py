"""A figure as SVG: in a file of its own, or inside an HTML page."""

import io
import re
from pathlib import Path
from typing import IO, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from .colors import ON_DARK


def save(figure: Figure, name: str, file: Path | IO[str]) -> None:
    """Text stays text, and the same figure is the same file. Raises OSError."""
    rc: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.sans-serif": ["DejaVu Sans"]}
    with mpl.rc_context(rc):
        figure.savefig(file, format="svg", metadata={"Date": None})


def inline(figure: Figure, name: str) -> str:
    """For a page, which is to have no other figure of that name: all ids begin with it. A colour of
    the palette, say #0072b2, is the page's variable --c0072b2."""
    file = io.StringIO()
    save(figure, name, file)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    # matplotlib's style sheet would be the whole page's; what it says is inherited.
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg ", '<svg stroke-linejoin="round" ', 1)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' * (m[1] in used), svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub("#([0-9a-f]{6})", lambda m: f"var(--c{m[1]})" if m[0] in ON_DARK else m[0], svg)
    svg = re.sub(r' d="[^"]*"', lambda m: re.sub(r"(\.\d\d)\d+| ?\n", r"\1", m[0]), svg)
    return re.sub(r">\s+<", "><", svg)
