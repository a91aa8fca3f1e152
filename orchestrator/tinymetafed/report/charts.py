"""The charts of a report as Vega-Lite specifications: one for the page and for the files. Strings
that begin with @ are filled in by axes.py."""

from collections.abc import Mapping, Sequence
from typing import Any

from .axes import Spec
from .colors import FAINT, INK, PAPER, STATES, Style, parts

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
BREAK = "\u200b"
"""Where a line of a title ends: a space of no width, since Vega has titles in
expressions too, where a line feed is an error."""
CONFIG: Spec = {
    "lineBreak": BREAK,
    "background": PAPER, "font": "system-ui, DejaVu Sans, sans-serif", "padding": 4,
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK, "titleColor": INK, "gridColor": FAINT, "domainColor": INK,
        "tickColor": INK, "titleFontWeight": "normal", "labelFontSize": 11, "titleFontSize": 12,
        "labelLimit": 260, "titlePadding": 6, "titleLimit": 600,
    },
    "legend": {
        "labelColor": INK, "titleColor": INK, "labelFontSize": 11, "labelLimit": 0,
        "symbolStrokeWidth": 1.8, "title": None, "orient": "bottom",
    },
    "text": {"color": INK, "fontSize": 11},
}  # fmt: skip
ZOOM: Spec = {
    "name": "zoom", "bind": "scales",
    "select": {
        "type": "interval",
        # A wheel alone scrolls the page.
        "zoom": "wheel![event.ctrlKey || event.metaKey || event.shiftKey]",
    },
}  # fmt: skip
INTERVAL = (
    "isValid(datum.low) && datum.low != datum.high ? "
    "'[' + format(datum.low, '.4~g') + ', ' + format(datum.high, '.4~g') + ']' : '–'"
)
LABELS = 110
"""Points: the most that the names of bars take beside them, in a file."""


def _spec(**parts: Any) -> Spec:
    return {
        "$schema": SCHEMA, "width": "@width", "height": "@height",
        "autosize": {"type": "fit", "contains": "padding"}, "data": {"name": "rows"}, **parts,
    }  # fmt: skip


def _look(labels: Sequence[str], styles: Sequence[Style]) -> tuple[Spec, Spec, Spec]:
    """The channels of a strategy's line, of its markers, and of its areas."""

    # One without a legend would take it from the others of its layer.
    def channel(values: list[Any], legend: str | None = None) -> Spec:
        return {
            "field": "label", "type": "nominal", "scale": {"domain": [*labels], "range": values},
            "legend": legend, "sort": None,
        }  # fmt: skip

    colors = [one.color for one in styles]
    dash = channel([[*one.dash] for one in styles])
    markers = {
        "stroke": channel(colors, "@legend"),
        "shape": channel([one.marker for one in styles], "@legend"),
        "fill": channel([one.fill for one in styles], "@legend"),
    }  # fmt: skip
    return (
        {"stroke": channel(colors, "@legend"), "strokeDash": dash},
        markers,
        {"color": channel(colors, "@legend")},
    )


def _along(name: str, axis: str = "") -> Spec:
    """A field along the x or y axis, the one of its first letter where it is not said which."""
    axis = axis or name
    return {
        "field": name, "type": "quantitative", "title": f"@{axis}.title", "scale": f"@{axis}.scale",
        "axis": {"labelOverlap": "greedy", "tickCount": 6, "gridOpacity": f"@{axis}.grid"},
    }  # fmt: skip


_CHOSEN = [
    {"calculate": "@x.value", "as": "x"}, {"calculate": "@y.value", "as": "y"},
    {"calculate": "@y.low", "as": "low"}, {"calculate": "@y.high", "as": "high"},
    {"filter": "@x.shown"}, {"filter": "@y.shown"},
    {"filter": "indexof(hidden, datum.label) < 0"},
    {"calculate": INTERVAL, "as": "interval"},
    # A band that goes below all means, and perhaps below zero, does not fill a logarithmic axis.
    {"joinaggregate": [{"op": "min", "field": "y", "as": "floor"}]},
    {"calculate": "@y.clipped", "as": "low"},
]  # fmt: skip
_HIDDEN = [{"name": "hidden", "value": []}]
_TOOLTIP = [
    {"field": "label", "title": "strategy"},
    {"field": "x", "title": "@x.title", "format": ".4~g"},
    {"field": "y", "title": "@y.title", "format": ".4~g"},
    {"field": "interval", "title": "95% interval"}, {"field": "seeds", "title": "seeds"},
]  # fmt: skip


def learning(labels: Sequence[str], styles: Sequence[Style]) -> Spec:
    """A line for each strategy, its band the interval over the seeds. Rows have label, seeds,
    marked, round, and the columns of the axes."""
    line, markers, area = _look(labels, styles)
    tooltip = [_TOOLTIP[0], {"field": "round", "title": "round"}, *_TOOLTIP[1:]]
    return _spec(
        params=_HIDDEN,
        transform=_CHOSEN,
        encoding={"x": _along("x"), "y": _along("y")},
        layer=[
            {
                "name": "bands",
                "mark": {"type": "area", "opacity": "@bands", "clip": True},
                "encoding": area | {"y": _along("low", "y"),
                                    "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "line", "strokeWidth": 1.8, "clip": True},
                "params": [ZOOM],
                "encoding": line,
            },
            {
                "transform": [{"filter": "datum.marked"}],
                "mark": {"type": "point", "size": "@size", "strokeWidth": 1.4, "opacity": 1,
                         "clip": True},
                "encoding": markers,
            },
            {
                "name": "hover",
                "params": [{
                    "name": "over",
                    "select": {"type": "point", "on": "pointerover", "nearest": True,
                               "clear": "pointerout"},
                }],
                "mark": {"type": "point", "size": 110, "strokeWidth": 2, "clip": True},
                "encoding": {
                    "stroke": line["stroke"],
                    "opacity": {"condition": {"param": "over", "empty": False, "value": 1},
                                "value": 0},
                    "tooltip": tooltip,
                },
            },
        ],
    )  # fmt: skip


def pareto(labels: Sequence[str], styles: Sequence[Style]) -> Spec:
    """A point for each strategy with its intervals, and the front of those that no other betters
    in one without being worse in the other. Rows have label, seeds, and the columns of the axes."""
    _, markers, area = _look(labels, styles)
    front = [
        {"calculate": "@y.cost", "as": "cost"},
        {"window": [{"op": "min", "field": "cost", "as": "best"}],
         "sort": [{"field": "x"}, {"field": "cost"}], "frame": [None, 0]},
        {"filter": "datum.cost <= datum.best"},
    ]  # fmt: skip
    return _spec(
        params=_HIDDEN,
        transform=[
            *_CHOSEN,
            {"calculate": "@x.low", "as": "xlow"}, {"calculate": "@x.clipped", "as": "xlow"},
            {"calculate": "@x.high", "as": "xhigh"},
        ],
        encoding={"x": _along("x"), "y": _along("y")},
        layer=[
            {
                "transform": front,
                "mark": {"type": "line", "interpolate": "step-after", "strokeDash": [3, 3],
                         "color": INK, "strokeWidth": 1.2, "opacity": 0.7},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.4},
                "encoding": area | {"y": _along("low", "y"), "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.4},
                "encoding": area | {"x": _along("xlow", "x"), "x2": {"field": "xhigh"}},
            },
            {
                "params": [ZOOM],
                "mark": {"type": "point", "size": "@large", "strokeWidth": 1.8, "opacity": 1},
                "encoding": markers | {"tooltip": _TOOLTIP},
            },
        ],
    )  # fmt: skip


def bars(colors: Mapping[str, str], order: Sequence[str], *, bounded: bool) -> Spec:
    """A bar for each label, stacked of parts. Rows have label, part, place (of the part), and the
    columns of the axis; bounded: rows with the part "" have the ends of a bar."""
    layers: list[Spec] = [
        {
            "transform": [{"filter": "datum.part != ''"}],
            "mark": {"type": "bar", "stroke": PAPER, "strokeWidth": 0.5},
            "encoding": {
                "x": {"field": "x", "type": "quantitative", "title": "@x.title",
                      "stack": "@stack", "axis": {"tickCount": 6, "labelOverlap": "greedy",
                      "labelExpr": "replace(datum.label, '−', '')"}},
                "color": {
                    "field": "part", "type": "nominal",
                    "scale": {"domain": [*order], "range": parts(order, colors)},
                    "legend": {"orient": "bottom", "title": None, "columns": "@columns"},
                },
                "order": {"field": "place", "type": "quantitative"},
                "tooltip": [
                    {"field": "label", "title": "of"}, {"field": "part", "title": "part"},
                    {"field": "size", "title": "@x.title", "format": ".4~g"},
                ],
            },
        }
    ]  # fmt: skip
    if bounded:
        layers.append(
            {
                "transform": [{"filter": "@bounded"}],
                "mark": {"type": "rule", "color": INK, "strokeWidth": 1.4},
                "encoding": {
                    "x": {"field": "low", "type": "quantitative", "title": "@x.title"},
                    "x2": {"field": "high"},
                },
            }
        )
    return _spec(
        params=_HIDDEN,
        transform=[
            {"calculate": "@x.value", "as": "x"}, {"calculate": "@x.low", "as": "low"},
            {"calculate": "@x.high", "as": "high"}, {"filter": "isValid(datum.x)"},
            {"calculate": "abs(datum.x)", "as": "size"},
            {"filter": "indexof(hidden, datum.label) < 0"},
        ],
        encoding={"y": {"field": "label", "type": "nominal", "sort": None, "title": None,
                        "axis": {"ticks": False, "domain": False, "labelLimit": "@labels"}}},
        layer=layers,
    )  # fmt: skip


def spread(labels: Sequence[str], styles: Sequence[Style]) -> Spec:
    """How unseen devices fare with each strategy: the middle half of them as a bar, a tick for the
    median, a line from the best to the worst, a point for the mean of the worst tenth. Rows have
    label, count, and by quantile q0, q25, q50, q75, q100, worst."""
    color = _look(labels, styles)[2]["color"] | {"legend": None}

    def x(name: str) -> Spec:
        return {"field": name, "type": "quantitative", "title": "@x.title", "scale": "@x.scale",
                "axis": {"gridOpacity": "@x.grid", "labelOverlap": "greedy"}}  # fmt: skip

    tooltip = [
        {"field": "label", "title": "strategy"}, {"field": "count", "title": "devices × seeds"},
        *({"field": name, "title": title, "format": ".4~g"} for name, title in (
            ("q0", "least"), ("q25", "a quarter below"), ("q50", "median"),
            ("q75", "three quarters below"), ("q100", "most"), ("worst", "mean of worst tenth"))),
    ]  # fmt: skip
    return _spec(
        params=_HIDDEN,
        transform=[
            {"filter": "indexof(hidden, datum.label) < 0"}, {"filter": "@x.positive"},
        ],
        encoding={"y": {"field": "label", "type": "nominal", "sort": None, "title": None,
                        "axis": {"ticks": False, "domain": False, "labelLimit": "@labels"}},
                  "tooltip": tooltip},
        layer=[
            {"mark": {"type": "rule", "strokeWidth": 1.4},
             "encoding": {"x": x("q0"), "x2": {"field": "q100"}, "color": color}},
            {"mark": {"type": "bar", "size": 11},
             "encoding": {"x": x("q25"), "x2": {"field": "q75"}, "color": color}},
            {"mark": {"type": "tick", "size": 15, "thickness": 2.5, "color": INK},
             "encoding": {"x": x("q50")}},
            {"mark": {"type": "point", "shape": "diamond", "size": 60, "filled": True,
                      "stroke": PAPER, "strokeWidth": 1, "opacity": 1},
             "encoding": {"x": x("worst"), "color": {"value": INK}}},
        ],
    )  # fmt: skip


def rounds() -> Spec:
    """What became of each node in each round. Rows have node, first, last, state; or node, first
    and event, with detail."""
    there = list(STATES)
    y: Spec = {"field": "node", "type": "nominal", "sort": None, "title": None,
               "axis": {"ticks": False, "domain": False}}  # fmt: skip
    return _spec(
        encoding={"y": y},
        layer=[
            {
                "transform": [{"filter": "isValid(datum.state)"},
                              {"calculate": "datum.first - 0.5", "as": "start"},
                              {"calculate": "datum.last + 0.5", "as": "end"}],
                "mark": {"type": "bar", "height": {"band": 0.8}},
                "encoding": {
                    "x": {"field": "start", "type": "quantitative", "title": "round",
                          "scale": {"zero": False, "nice": False}, "axis": {"tickMinStep": 1}},
                    "x2": {"field": "end"},
                    "color": {
                        "field": "state", "type": "nominal",
                        "scale": {"domain": there, "range": [STATES[one] for one in there]},
                        "legend": {"orient": "bottom", "title": None, "columns": "@columns"},
                    },
                    "tooltip": [{"field": "node", "title": "node"},
                                {"field": "first", "title": "from round"},
                                {"field": "last", "title": "to round"},
                                {"field": "state", "title": "state"}],
                },
            },
            {
                "transform": [{"filter": "isValid(datum.event)"}],
                "mark": {"type": "point", "shape": "triangle-up", "filled": True, "size": 90,
                         "color": INK, "stroke": PAPER, "strokeWidth": 0.8, "opacity": 1},
                "encoding": {
                    "x": {"field": "first", "type": "quantitative", "title": "round"},
                    "tooltip": [{"field": "node", "title": "node"},
                                {"field": "first", "title": "round"},
                                {"field": "event", "title": "event"},
                                {"field": "detail", "title": "detail"}],
                },
            },
        ],
    )  # fmt: skip


def width(spec: Spec, inches: float, height: float) -> dict[str, Any]:
    """What `fill` puts in for a file of this width; height: in inches, too. A pixel of Vega's is a
    point of a PDF."""
    return {
        "@width": round(72 * inches), "@height": round(72 * height), "@labels": LABELS, "@size": 18,
        "@large": 40,
    }  # fmt: skip
