"""Charts as files: nothing of them is clipped."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from tinymetafed.report import charts, figures, page, vega
from tinymetafed.report.groups import compare
from tinymetafed.report.results import Result
from tinymetafed.results.store import Store


@pytest.mark.parametrize("inches", [3.5, 7.16])
def test_nothing_of_a_file_is_clipped(compared: Store, inches: float):
    """The titles of the axes are there whole, in lines that are inside the drawing."""
    results = [Result.read(compared, run) for run in compared.runs()]
    (part,) = page.page(compare(results)).tasks
    for chart in part.charts:
        (x, *_) = (one.at(0) for one in chart.xs if one.key == chart.x)
        spec, rows = figures.filled(chart, x, inches, part.curves.labels)
        drawing = ElementTree.fromstring(vega.svg(spec, rows))
        width, height = (float(drawing.attrib[side]) for side in ("width", "height"))
        assert width == pytest.approx(72 * inches, abs=1)
        titles: list[str] = []
        for group, corner in _placed(drawing, (0.0, 0.0)):
            if "role-axis-title" not in group.attrib.get("class", ""):
                continue
            for text, (across, down) in _placed(group, corner):
                if not text.tag.endswith("}text"):
                    continue
                lines = [one for one in text if one.tag.endswith("}tspan")] or [text]
                titles.append(" ".join("".join(one.itertext()) for one in lines))
                assert text.attrib["text-anchor"] == "middle"
                upright = "rotate(-90)" in text.attrib["transform"]
                for i, line in enumerate(lines):
                    # DejaVu Sans has 0.55 em a character of such text, of 8 points.
                    half = 0.55 * 8 * len("".join(line.itertext()).strip()) / 2
                    middle = down if upright else across
                    assert half <= middle <= (height if upright else width) - half
                    assert (across if upright else down) + 8 * i < (width if upright else height)
        (y,) = [one.axis for one in chart.ys if one.key == chart.y] or [None]
        wanted = {_plain(axis.title) for axis in (x, y) if axis is not None}
        assert {_plain(one) for one in titles} == wanted


def _plain(text: str) -> str:
    return " ".join(text.replace(charts.BREAK, " ").split())


def _placed(
    part: ElementTree.Element, corner: tuple[float, float]
) -> Iterator[tuple[ElementTree.Element, tuple[float, float]]]:
    """All elements below, with the place of their origin in the drawing."""
    for one in part:
        moved = re.match(r"translate\(([-\d.e]+),\s*([-\d.e]+)\)", one.attrib.get("transform", ""))
        x, y = map(float, moved.groups()) if moved else (0.0, 0.0)
        here = (corner[0] + x, corner[1] + y)
        yield one, here
        yield from _placed(one, here)
