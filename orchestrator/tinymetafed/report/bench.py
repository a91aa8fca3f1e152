"""What `tinymetafed bench` measured, as tables for the terminal, JSON and figures."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mode

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from ..bench import Measured
from ..bench.host import HostRound
from ..bench.measuring import REPEATS
from .colors import COLORS

KIB, MIB = 1024, 1 << 20


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> Table:
    table = Table(title=title, title_justify="left", caption=note or None, caption_justify="left")
    for i, column in enumerate(head):
        table.add_column(column, justify="right" if i else "left", no_wrap=not i)
    for row in rows:
        table.add_row(*row)
    return table


def tables(found: Measured) -> Iterable[Table]:
    """For the terminal."""
    yield _table("Machine", ("", ""), found.machine.items())
    flash, ram = found.image
    yield _table(
        "An inner step on a Cortex-M4, all weights moving",
        ("model", "weights", "cycles", "bounds", "each", "forward", "bytes"),
        (
            (
                one.name, f"{one.parameters:,}", f"{one.cycles[1]:,.0f}",
                " ".join(f"{one.cycles[i] / one.cycles[1] - 1:+.0%}" for i in (0, 2)),
                f"{one.cycles[1] / one.parameters:.2f}",
                f"{one.forward:,.0f}", f"{one.memory:,}",
            )
            for one in found.kernels
        ),
        "Cycles by the expected reading, bounds by the shortest and longest; forward: of judging. "
        "Bytes are those that training takes beside the weights held and the working weights. The "
        f"node's image takes {flash / KIB:.1f} KiB of flash and {ram / KIB:.1f} KiB of RAM.",
    )  # fmt: skip
    yield _table(
        "Cycles of a layer on a Cortex-M4",
        ("layer", "count", "forward, each", "backward, each", "a step, each"),
        (
            (
                one.name, f"{one.count:,}", f"{one.forward:.2f}", f"{one.backward:.2f}",
                f"{one.forward + one.backward:.2f}",
            )
            for one in found.layers
        ),
        "By the expected reading; count: multiply-accumulates of a sample, values under the "
        "windows of pools, additions of sums; backward: the derivative for the layer before, and "
        "the weights' moves.",
    )  # fmt: skip
    yield _table(
        "A broadcast of all weights to all nodes",
        ("link", "nodes", "bytes a node", "ms"),
        (
            (one.link, f"{one.nodes}", f"{one.size:,}", f"{1e3 * one.seconds:.2f}")
            for one in found.links
        ),
        f"Median of {REPEATS}, by turns.",
    )
    yield _table(
        "Emulated nodes booted side by side",
        ("nodes", "seconds", "MiB each", *(found.boots[0].memory if found.boots else ())),
        (
            (
                f"{one.nodes}", f"{one.seconds:.2f}", f"{sum(one.memory.values()) / MIB:.1f}",
                *(f"{size / MIB:.1f}" for size in one.memory.values()),
            )
            for one in found.boots
        ),
        "MiB are proportional: what several processes share is divided among them.",
    )  # fmt: skip
    yield _table(
        "A round of emulated nodes",
        ("on", "nodes", "weights", "ms", "emulators", "orchestrator", "share", "ms a node"),
        (
            (
                on, f"{one.nodes}", f"{one.parameters:,}", f"{1e3 * one.wall:.1f}",
                f"{1e3 * one.emulators:.1f}", f"{1e3 * one.orchestrator:.1f}", f"{one.share:.0%}",
                f"{1e3 * one.orchestrator / one.nodes:.2f}",
            )
            for on, rounds in (("QEMU", found.rounds), ("Renode", found.on_renode))
            for one in rounds
        ),
        "Emulators and orchestrator: milliseconds of the processors; the orchestrator's also as "
        "part of the round, and for each node.",
    )  # fmt: skip
    yield _table(
        "A round of host nodes",
        ("threads", "nodes", "weights", "ms", "µs each", "core", "ratio", "own", "MiB"),
        (
            (
                f"{one.threads}", f"{one.nodes:,}", f"{one.parameters:,}", f"{1e3 * one.wall:,.1f}",
                f"{1e6 * one.wall / one.nodes:,.0f}", f"{1e6 * one.core / one.nodes:,.0f}",
                f"{one.wall / one.core:.2f}", f"{1e6 * one.processors / one.nodes:,.0f}",
                f"{one.memory / MIB:,.0f}",
            )
            for one in found.hosts
        ),
        "Core: µs of the C core for a node's inner steps on one core, measured between the rounds; "
        "ratio: of the round to that. Own: µs of a processor for the orchestrator's process.",
    )  # fmt: skip


def write_json(found: Measured, path: Path) -> None:
    """All figures, in seconds and bytes."""
    path.write_text(json.dumps(asdict(found), indent=1) + "\n")


def figures(found: Measured, folder: Path) -> list[Path]:
    """Cost by number of nodes and by size of the model; PNG files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    by_nodes = _by_nodes(found), folder / "cost-by-nodes.png"
    by_size = _by_size(found), folder / "cost-by-model.png"
    for figure, path in (by_nodes, by_size):
        with mpl.rc_context({"svg.hashsalt": "tinymetafed"}):
            figure.savefig(path, dpi=120)
    return [by_nodes[1], by_size[1]]


def _by_nodes(found: Measured) -> Figure:
    weights = mode(one.parameters for one in found.hosts)
    hosts = [one for one in found.hosts if one.parameters == weights]
    lines: dict[str, list[tuple[int, float]]] = {
        "QEMU": [(one.nodes, one.wall) for one in found.rounds if one.parameters == weights],
        **{
            f"host, threads: {threads}": [
                (one.nodes, one.wall) for one in hosts if one.threads == threads
            ]
            for threads in _threads(hosts)
        },
        CORE: [(one.nodes, one.core) for one in hosts if one.threads == hosts[0].threads],
    }
    figure, axes = _drawn(lines)
    axes.set_xlabel("nodes in a round")
    axes.set_ylabel("a round, ms")
    axes.set_title(f"Sine, {weights:,} weights, {found.machine['cores']} cores")
    return figure


def _by_size(found: Measured) -> Figure:
    few, many = mode(one.nodes for one in found.rounds), mode(one.nodes for one in found.hosts)
    emulated = [one for one in found.rounds if one.nodes == few]
    hosts = [one for one in found.hosts if one.nodes == many]

    lines = {
        f"QEMU, {few} nodes": [(one.parameters, one.wall / few) for one in emulated],
        **{
            f"host, {many:,} nodes, threads: {threads}": [
                (one.parameters, one.wall / many) for one in hosts if one.threads == threads
            ]
            for threads in _threads(hosts)
        },
        CORE: [
            (one.parameters, one.core / many) for one in hosts if one.threads == hosts[0].threads
        ],
    }
    figure, axes = _drawn(lines)
    axes.set_xlabel("weights of the model: dense layers with tanh")
    axes.set_ylabel("a round, ms a node")
    axes.set_title(f"48 inner steps a node, {found.machine['cores']} cores")
    return figure


def _threads(hosts: Sequence[HostRound]) -> list[int]:
    return sorted({one.threads for one in hosts})


CORE = "inner steps alone, C core"


def _drawn(lines: dict[str, list[tuple[int, float]]]) -> tuple[Figure, Axes]:
    """Lines of seconds, in milliseconds."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for i, (label, points) in enumerate(lines.items()):
        style = {"color": "0.4", "linestyle": ":"}
        if label != CORE:
            style = {"color": COLORS[i], "marker": "os^DvPX"[i % 7]}
        x, y = zip(*sorted(points), strict=True)
        axes.loglog(x, [1e3 * seconds for seconds in y], label=label, **style)
    axes.grid(which="both", alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2)
    return figure, axes
