"""What an experiment takes and costs, as tables for the terminal."""

import json
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ..energy import ledger, power
from ..energy.timing import READINGS
from ..experiments.experiment import Experiment
from ..experiments.plan import Freezing, LayerPlan, Memory, Played
from ..models.layers import Shape
from ..plugins import short
from ..results import accounts
from ..results.store import NodeRound
from ..settings import names
from .energy import in_order

PARTS = {
    "activations": "activations, then derivatives in their place",
    "backward": "a layer at work: derivative, window",
    "held": "weights as broadcast",
    "working": "weights being trained",
    "residual": "what was not sent of updates",
    "variate": "control variate",
    "mark": "weights to come back to",
    "gradient": "gradient of a mini-batch",
    "store": "samples stored",
}
"""Of struct tmf_sizes; what is not here is shown by its name there."""


def before(
    experiment: Experiment, layers: Sequence[LayerPlan], memory: Memory
) -> Iterator[RenderableType]:
    """What is known before a node plays a round."""
    yield Text.assemble(
        (f"Plan of {experiment.name}", "bold"),
        f"\n{short(experiment.strategy.name)} on {short(experiment.task.name)}, "
        f"{experiment.per_round} of {experiment.nodes.count} nodes in a round",
    )
    yield _layers(layers)
    yield _memory(memory)
    yield _devices(experiment, memory)


def after(
    experiment: Experiment, played: Played, uncounted: str | None
) -> Iterator[RenderableType]:
    """What a round costs; without what is counted where nothing counts it."""
    yield _bytes(played)
    if uncounted is not None:
        yield Text(f"Cycles, time and energy are missing: {uncounted}")
        return
    yield from _cycles(played)
    own = experiment.energy.device
    entries = {
        str(device): entries_of(experiment, played, device)
        for device in dict.fromkeys([*names(power.FOLDER), own])
    }
    radio = power.radio(experiment.energy.radio).name
    yield _by_device(f"Milliseconds of a later round, {radio}", entries, "seconds")
    yield _by_device(f"Millijoules of a later round, {radio}", entries, "joules")
    yield _radios(experiment, played)


def frozen(experiment: Experiment, found: Sequence[Freezing], memory: Memory) -> Table:
    """What freezing the first layers saves."""
    device = power.device(experiment.energy.device)
    table = _table(
        "With the first layers frozen",
        "layers", "frozen", "moving", "KiB of RAM", "of flash", "fits", "thousand cycles", "mJ",
        caption=f"Layers are those with parameters. RAM: as above in all, with the frozen weights; "
        f"flash: the image. Cycles and mJ are of an inner step on the {experiment.energy.device}, "
        "all that is not frozen moving.",
    )  # fmt: skip
    for one in found:
        step = ["", ""]
        if one.cycles:
            n = one.cycles[device.core]
            step = [f"{n / 1e3:,.1f}", f"{1e3 * device.seconds(n) * device.run_power:,.4f}"]
        too_few = f"[red]{one.memory - one.available:,} bytes too few[/]"
        table.add_row(
            str(one.layers), f"{one.frozen:,}", f"{one.moving:,}",
            f"{(one.memory + memory.ram) / 1024:.1f}", f"{memory.flash / 1024:.1f}",
            "yes" if one.fits else too_few, *step,
        )  # fmt: skip
    return table


def _table(title: str, *columns: str, caption: str | None = None) -> Table:
    """The first column is text, the others numbers."""
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _layers(layers: Sequence[LayerPlan]) -> Table:
    table = _table("Layers", "layer", "outputs", "parameters", "part", "bytes of activations")
    for layer in layers:
        count = "" if layer.part is None else f"{layer.parameters:,}"
        table.add_row(layer.name, _sides(layer.shape), count, layer.part, f"{layer.outputs:,}")
    table.add_section()
    parts = ["global", "local"] + ["frozen"] * any(one.part == "frozen" for one in layers)
    sums = [sum(one.parameters for one in layers if one.part == part) for part in parts]
    table.add_row(
        "all", "", f"{sum(sums):,}",
        ", ".join(f"{count:,} {part}" for count, part in zip(sums, parts, strict=True)),
        f"{sum(layer.outputs for layer in layers):,}",
    )  # fmt: skip
    return table


def _sides(shape: Shape) -> str:
    if shape[:2] == (1, 1):
        return str(shape.channels)
    return " × ".join(map(str, shape))


def _memory(memory: Memory) -> Table:
    table = _table("A node's memory", "what it is for", "bytes", "available")
    for part, size in memory.parts.items():
        if size:
            table.add_row(PARTS.get(part, part), f"{size:,}", "")
    table.add_section()
    needed = f"[red]{memory.needed:,}[/]" if not memory.fits else f"{memory.needed:,}"
    table.add_row("the model and its training", needed, f"{memory.available:,}")
    table.add_row("stack, frames, all else of the image", f"{memory.ram:,}", "")
    table.add_section()
    table.add_row("RAM in all", f"{memory.needed + memory.ram:,}", "")
    table.add_row("flash: the image", f"{memory.flash:,}", "")
    return table


def _devices(experiment: Experiment, memory: Memory) -> Table:
    table = _table("Devices", "device", "KiB of flash", "of", "KiB of RAM", "of", "fits")
    for name in dict.fromkeys([*names(power.FOLDER), experiment.energy.device]):
        device, ram = power.device(name), memory.needed + memory.ram
        missing = device.missing(memory.flash, memory.needed, ram)
        lacks = ", ".join(f"{n:,} bytes of {what} too few" for what, n in missing.items())
        table.add_row(
            str(name), f"{memory.flash / 1024:.1f}", str(device.flash_kib.value),
            f"{ram / 1024:.1f}", " + ".join(map(str, device.ram_kib.value)),
            f"[red]{lacks}[/]" if lacks else "yes",
        )  # fmt: skip
    return table


def _bytes(played: Played) -> Table:
    others = f"{played.devices} devices' updates have" if played.devices > 1 else "its update has"
    table = _table(
        "Bytes of a round, one node",
        "request", "first round, down", "up", "later round, down", "up",
        caption=f"The first time a node is sent all weights; later, here after one round of each, "
        f"what {others} changed.\nSamples come from its sensors and are not counted: "
        f"{played.later.bytes_sensor:,} bytes.",
    )  # fmt: skip
    rounds = [_messages(row) for row in (played.first, played.later)]
    for name in rounds[0] | rounds[1]:
        cells = [f"{n:,}" for one in rounds for n in one.get(name, (0, 0))]
        table.add_row(name, *cells)
    table.add_section()
    totals = [(row.bytes_down, row.bytes_up) for row in (played.first, played.later)]
    table.add_row("all", *(f"{n:,}" for total in totals for n in total))
    return table


def _messages(row: NodeRound) -> dict[str, tuple[int, int]]:
    return json.loads(row.messages)


def _cycles(played: Played) -> Iterator[Table]:
    """For each core, by the readings of its manual."""
    counted = {row.phase: row.cycles for row in played.phases}
    counted.pop(ledger.ASLEEP, None)
    for core in next(iter(counted.values())):
        table = _table(f"Thousands of cycles, {core}", "phase", *READINGS)
        figures = {phase: by_core[core] for phase, by_core in counted.items()}
        for phase in sorted(figures, key=in_order):
            table.add_row(phase, *(f"{n / 1e3:,.1f}" for n in figures[phase]))
        table.add_section()
        sums = map(sum, zip(*figures.values(), strict=True))
        table.add_row("all", *(f"{n / 1e3:,.1f}" for n in sums))
        yield table


def entries_of(
    experiment: Experiment,
    played: Played,
    device: str | power.Device,
    radio: str | power.BitRadio | power.LoRaRadio | None = None,
) -> list[ledger.Entry]:
    """Of the later round, by its node alone."""
    changes = {"device": device, "radio": radio or experiment.energy.radio}
    settings = experiment.energy.model_copy(update=changes)
    return accounts.book([played.later], played.phases, [(range(1), settings)])


def _by_device(title: str, entries: dict[str, list[ledger.Entry]], key: str) -> Table:
    """A column for each device. key: of the entries, shown in thousandths."""
    table = _table(title, "account", *entries)
    found = {
        device: {one.account: 1e3 * getattr(one, key) for one in rows}
        for device, rows in entries.items()
    }
    for account in sorted(next(iter(found.values())), key=in_order):
        figures = [by_account[account] for by_account in found.values()]
        if any(figures):
            table.add_row(account, *(f"{n:,.3f}" for n in figures))
    table.add_section()
    table.add_row("all", *(f"{sum(by_account.values()):,.3f}" for by_account in found.values()))
    if key == "joules":
        balances = [ledger.balance(rows) for rows in entries.values()]
        table.add_row("by the shortest reading", *(f"{1e3 * one.low:,.3f}" for one in balances))
        table.add_row("by the longest reading", *(f"{1e3 * one.high:,.3f}" for one in balances))
    return table


def _radios(experiment: Experiment, played: Played) -> Table:
    table = _table("Radios, the same bytes", "radio", "ms receiving", "ms sending", "mJ")
    for name in dict.fromkeys([*names(power.FOLDER / "radios"), experiment.energy.radio]):
        entries = entries_of(experiment, played, experiment.energy.device, name)
        used = {e.account: e for e in entries if e.account in (ledger.RECEIVE, ledger.TRANSMIT)}
        joules = sum(one.joules for one in used.values())
        seconds = (used[account].seconds for account in (ledger.RECEIVE, ledger.TRANSMIT))
        table.add_row(str(name), *(f"{1e3 * n:,.1f}" for n in seconds), f"{1e3 * joules:,.3f}")
    return table
