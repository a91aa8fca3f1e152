"""What an experiment takes on a node and costs in a round, before anything is trained.

Nothing is computed here that a node knows: a node says what the model needs, and one plays a round.
"""

import asyncio
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from elftools.elf.constants import SH_FLAGS

from ..energy.program import open_elf, symbols
from ..energy.timing import READINGS
from ..errors import TinyMetaFedError
from ..federation.client import Client
from ..federation.engines import LinkEngine, make_engine
from ..federation.federation import Federation
from ..federation.participation import Participation
from ..models.layers import LayerSettings, LayerWithParameters, Shape
from ..models.model import FirstWeights
from ..nodes import window
from ..nodes.answers import NodeRefused
from ..nodes.backends import emulated_image, image_on_zephyr, make_nodes, private_directory
from ..nodes.broadcast import Broadcast
from ..nodes.host import HostTransport
from ..nodes.image import frozen_weights
from ..nodes.node import Node
from ..nodes.program import Train
from ..nodes.qemu import MISSING, QEMU
from ..nodes.settings import NodeKind, NodeSettings
from ..results.store import NodeRound, PhaseCount
from .experiment import Experiment

RAM = range(0x2000_0000, 0x4000_0000)
"""Where a Cortex-M has it (Armv7-M Architecture Reference Manual, B3.1)."""

STEP_RATE = 2.0**-20
"""Of the inner steps that are counted alone: weights move, and stay what they are."""

MOST_NODES = 8
"""That play a round before the one that is counted, so that a plan takes seconds."""


@dataclass(frozen=True)
class LayerPlan:
    """A layer of the experiment.

    name: its kind and activation. shape: of its outputs. part: of the model that its parameters
    are, "global", "local" or "frozen"; None where it has none.
    """

    name: str
    shape: Shape
    parameters: int
    part: str | None

    @property
    def outputs(self) -> int:
        """Bytes of its activations."""
        return 4 * self.shape.values


@dataclass(frozen=True)
class Memory:
    """What a node takes, in bytes.

    parts: of the model and its training, as struct tmf_sizes of the firmware names them. available:
    for these. flash, ram: of the image, without these.
    """

    parts: dict[str, int]
    available: int
    flash: int
    ram: int

    @property
    def needed(self) -> int:
        """Of the model and its training."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """On a node of any backend."""
        return self.needed <= self.available


@dataclass(frozen=True)
class Played:
    """A device's round when its node holds nothing, and a later one.

    devices: whose updates have changed the weights in between. phases: executed in the later one;
    empty where nothing counts it.
    """

    first: NodeRound
    later: NodeRound
    devices: int
    phases: list[PhaseCount]


def layers(experiment: Experiment) -> Iterator[LayerPlan]:
    """The inputs, then the layers."""
    before = experiment.shape
    yield LayerPlan("input", before, 0, None)
    for one, shape in zip(experiment.model.layers, experiment.model.shapes(before), strict=True):
        if not isinstance(one, LayerWithParameters):
            yield LayerPlan(one.type, shape, 0, None)
        else:
            outputs, inputs = one.weights(before)
            activation = "" if one.activation == "linear" else f", {one.activation}"
            name = f"{one.type}{activation}"
            part = "local" if one.local else "frozen" if one.frozen else "global"
            yield LayerPlan(name, shape, outputs * (inputs + 1), part)
        before = shape


def memory(experiment: Experiment) -> Memory:
    """As the node and its image say. Raises TinyMetaFedError."""
    one = _one(experiment.nodes)
    image, built_by = emulated_image(one)
    on_board = one.backend == "serial" and one.board != "mps2_an386"
    if on_board:
        image, built_by = image_on_zephyr(one.board)
    if not image.is_file():
        raise TinyMetaFedError(f"{image}: no firmware image; run '{built_by}'")
    parts, available = asyncio.run(_load(_with(experiment, NodeSettings(backend="host", count=1))))
    if on_board:
        available = _model_memory(image)
    flash, ram = footprint(image)
    model = experiment.built_model
    if len(model.backbone) and frozen_weights(image) == model.frozen_weights:
        parts["backbone"] = 0
    return Memory(parts, available, flash, ram - available)


def _model_memory(image: Path) -> int:
    """Bytes for a model on a board: its image's array `memory`. Raises TinyMetaFedError."""
    with open_elf(image) as elf:
        sizes = [one["st_size"] for one in symbols(elf) if one.name == "memory"]
    if len(sizes) != 1:
        raise TinyMetaFedError(f"{image}: it is no node's image; build it anew")
    return sizes[0]


async def _load(experiment: Experiment) -> tuple[dict[str, int], int]:
    """What the model takes by part, and what there is for it."""
    with private_directory() as directory:
        (node,) = make_nodes(experiment.nodes, directory, experiment.timings)
        try:
            await Client(experiment).boot(node)
        except NodeRefused as refused:
            if not refused.error.needed:
                raise
        try:
            assert node.hello is not None
            assert isinstance(node.transport, HostTransport)
            return node.transport.sizes(), node.hello.memory
        finally:
            await node.close()


def footprint(image: Path) -> tuple[int, int]:
    """Bytes of flash and of RAM; what a node shares with an emulator's host is none of its own.

    Raises TinyMetaFedError where it is no ELF file for Arm.
    """
    with open_elf(image) as elf:
        flash = sum(segment["p_filesz"] for segment in elf.iter_segments("PT_LOAD"))
        ram = sum(
            section["sh_size"]
            for section in elf.iter_sections()
            if section["sh_flags"] & SH_FLAGS.SHF_ALLOC
            and section["sh_addr"] in RAM
            and section["sh_addr"] not in window.MEMORY
        )
    return flash, ram


@dataclass(frozen=True)
class Freezing:
    """What a node takes where the first layers that have parameters are frozen.

    layers: how many. frozen, moving: parameters. memory: bytes of RAM of the model and its
    training, with the frozen weights. available: for these. cycles: of an inner step, by core,
    expected reading; empty where it does not fit or nothing counts it.
    """

    layers: int
    frozen: int
    moving: int
    memory: int
    available: int
    cycles: Mapping[str, int]

    @property
    def fits(self) -> bool:
        """On a node of any backend."""
        return self.memory <= self.available


def freezing(experiment: Experiment) -> list[Freezing]:
    """For none of the layers, the first, the first two …, all but the last; what is not frozen
    moves in a step, local or not. Raises TinyMetaFedError."""
    return asyncio.run(_freezing(experiment))


async def _freezing(experiment: Experiment) -> list[Freezing]:
    alone = _with(experiment, NodeSettings(backend="host", count=1))
    model = experiment.built_model
    vectors = model.of_layers(model.initial(experiment.seed))
    found: list[Freezing] = []
    with private_directory() as directory:
        (node,) = make_nodes(_emulated(experiment.nodes), directory, alone.timings)
        try:
            await node.start()
            for count in range(len(vectors)):
                other = _frozen(alone, count)
                parts, available = await _load(other)
                needed, built = sum(parts.values()), other.built_model
                cycles: dict[str, int] = {}
                if needed <= available and uncounted() is None:
                    client = Client(other.starting_with(built.first_weights(vectors)))
                    cycles = await _step(client, node)
                found.append(
                    Freezing(
                        count, built.backbone_parameters, built.parameters, needed, available,
                        cycles,
                    )
                )  # fmt: skip
        finally:
            await node.close()
    return found


def _frozen(experiment: Experiment, count: int) -> Experiment:
    """With so many of the layers that have parameters frozen, the others global; no weights."""
    changed: list[LayerSettings] = []
    for one in experiment.model.layers:
        if isinstance(one, LayerWithParameters):
            changes = {"frozen": count > 0, "local": False}
            changed.append(one.model_copy(update=changes))
            count -= 1
        else:
            changed.append(one)
    model = experiment.model.model_copy(update={"layers": tuple(changed)})
    other = experiment.model_copy(update={"model": model})
    return other.starting_with(FirstWeights())


async def _step(client: Client, node: Node) -> dict[str, int]:
    """Cycles of an inner step on a sample that is judged by, by core: those of two steps less those
    of one. The last layer starts at zero, and has moved before the second."""
    model, samples = client.model, client.never_seen(client.settings.devices.seen)[1]
    await node.load(model, client.load)
    theta = model.initial(client.settings.seed)
    await node.set_weights(Broadcast(theta, np.ones(len(theta), np.int64), 1))
    found: list[dict[str, int]] = []
    for count in (1, 2):
        node.take_usage()
        await node.run((Train("query", rate=STEP_RATE),), query=samples[:count])
        profile = node.take_usage().profile
        assert profile is not None
        phase, expected = profile.phases.index("learn"), READINGS.index("expected")
        found.append({core: int(n[phase, expected]) for core, n in profile.cycles.items()})
    one, two = found
    return {core: two[core] - one[core] for core in two}


def uncounted() -> str | None:
    """Why nothing here counts what a node executes; None where something does."""
    if shutil.which(QEMU) is None:
        return f"{QEMU} is not installed; {MISSING}"
    return None


def play(experiment: Experiment) -> Played:
    """Plays a round in which a node takes part for the first time, and its next one, emulated where
    that can be. In between, every other node takes part once, as it does on average.

    Raises TinyMetaFedError.
    """
    return asyncio.run(_play(experiment))


async def _play(experiment: Experiment) -> Played:
    count = min(experiment.nodes.count, MOST_NODES)
    per_round = min(experiment.per_round, count)
    emulated = _emulated(experiment.nodes)
    # Frozen weights may lie in the image, and be more than a host node has memory for.
    others = emulated if emulated.image is not None else NodeSettings(backend="host")
    others = others.model_copy(update={"count": count, "per_round": per_round})
    every = _with(experiment, others)
    alone = _with(experiment, emulated)
    with private_directory() as directory:
        everyone = Federation(every, make_engine(every, directory))
        engine = LinkEngine(Client(alone), make_nodes(alone.nodes, directory, alone.timings))
        one = Federation(alone, engine)
        try:
            start = await everyone.start()
            result = await everyone.round(start)
            first, devices = result.rows[0], len(result.rows)
            while devices < count:
                result = await everyone.round(result.state)
                devices += len(result.rows)
            await one.start()
            (node,) = engine.nodes
            await node.set_weights(start.broadcast)
            node.take_usage()
            played = await one.round(result.state)
            (later,) = played.rows
        finally:
            await everyone.close()
            await one.close()
    return Played(first, later, devices, played.phases)


def _emulated(settings: NodeSettings) -> NodeSettings:
    """A node, emulated where that can be; as those of the settings, but on QEMU."""
    if uncounted():
        return NodeSettings(backend="host", count=1)
    one = _one(settings)
    link = "uart" if one.backend == "renode" else one.link
    return NodeSettings(backend="qemu", firmware=one.firmware, link=link, image=one.image, count=1)


def _one(settings: NodeSettings) -> NodeKind:
    """Of a fleet, the first kind that is emulated."""
    return next((kind for _, kind in settings.fleet if kind.emulated), settings)


def _with(experiment: Experiment, nodes: NodeSettings) -> Experiment:
    """The experiment on these nodes, with rounds enough for each of them; no node leaves."""
    rounds = max(experiment.rounds, nodes.count)
    changes = {"nodes": nodes, "rounds": rounds, "participation": Participation()}
    return experiment.model_copy(update=changes)
