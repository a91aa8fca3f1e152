"""Vega-Lite as vl-convert brings it: the script for a page, and charts as files without a
browser."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import TinyMetaFedError, without_extra
from ..files import replacing, reporting, writing
from ..places import CACHE
from .axes import Spec
from .charts import CONFIG

VERSION = "6.4"
"""Of Vega-Lite."""
SNIPPET = "window.vegaEmbed = vegaEmbed;"
"""Of the script: what it gives to the page; Vega and Vega-Lite are parts of it."""
PPI = 300
"""Of PNG files."""


def _library() -> Any:
    try:
        import vl_convert
    except ImportError as error:
        raise without_extra("a report", "report", error) from None
    return vl_convert


def script() -> str:
    """Vega, Vega-Lite and Vega-Embed for a page that is opened without a network: 0.9 MB. It takes
    seconds to make, and is kept in the cache. Raises TinyMetaFedError without the extra."""
    library = _library()
    path = CACHE / f"vega-{VERSION}-{version('vl-convert-python')}.js"
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        pass
    # A script must not have the end of the element that it is in.
    found: str = library.javascript_bundle(SNIPPET, vl_version=VERSION).replace(
        "</script", "<\\/script"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as file:
            file.write(found)
    except (OSError, TinyMetaFedError):
        pass  # a cache that cannot be written is none
    return found


def files(spec: Spec, rows: list[dict[str, Any]], stem: Path) -> list[Path]:
    """The chart as SVG, PNG and PDF, and the specification with its data as JSON; returns their
    paths. Raises TinyMetaFedError."""
    library = _library()
    whole = _whole(spec, rows)
    made = {
        ".svg": lambda: svg(spec, rows).encode(),
        ".png": lambda: library.vegalite_to_png(whole, vl_version=VERSION, ppi=PPI),
        ".pdf": lambda: library.vegalite_to_pdf(whole, vl_version=VERSION),
        ".vl.json": lambda: (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode(),
    }
    found: list[Path] = []
    for ending, make in made.items():
        path = stem.with_name(stem.name + ending)
        with reporting(path), replacing(path) as file:
            file.write(make())
        found.append(path)
    return found


def svg(spec: Spec, rows: list[dict[str, Any]]) -> str:
    """The chart as SVG. Raises TinyMetaFedError without the extra."""
    return _library().vegalite_to_svg(_whole(spec, rows), vl_version=VERSION)


def _whole(spec: Spec, rows: list[dict[str, Any]]) -> Spec:
    return spec | {"data": {"values": rows}, "config": _printed()}


def _printed() -> Spec:
    """Sizes for a column of a paper, of 8 point type."""
    found: Spec = {**CONFIG, "font": "DejaVu Sans, Liberation Sans, Arial, sans-serif"}
    for part in ("axis", "legend"):
        found[part] = {**CONFIG[part], "labelFontSize": 7}
    found["axis"] |= {"titleFontSize": 8, "titlePadding": 4}
    found["legend"] |= {"symbolSize": 36, "columnPadding": 8, "rowPadding": 1, "offset": 6,
                        "symbolStrokeWidth": 1.2}  # fmt: skip
    found["text"] = {**CONFIG["text"], "fontSize": 7}
    return found
