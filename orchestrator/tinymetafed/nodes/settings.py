"""[nodes] and [faults] of an experiment file."""

from itertools import accumulate
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from ..energy.settings import DeviceName, RadioName
from ..settings import Settings
from .backend import Backend, Named, Options

Direction = Literal["down", "up"]
EMULATED = "mps2_an386", "nrf52840dk", "arduino_nano_33_ble"
"""Boards that are emulated."""
AUTO = "auto"
"""In place of the ports' names."""
Probability = Annotated[float, Field(ge=0, le=1)]
Ports = Annotated[tuple[str, ...], Field(min_length=1)]


def _listed(value: object) -> object:
    """A port may be given without a list around it."""
    return [value] if isinstance(value, str) else value


class NodeKind(Settings):
    """Nodes that are alike: how many, and what runs them."""

    backend: Annotated[Literal["qemu", "renode", "serial", "host"], Named()] = "qemu"
    """What runs a node: `qemu` or `renode`, emulators; `host`, the firmware's core in this process,
    not counted; `serial`, real boards; or a backend of your own, `"./file.py:Class"`."""
    options: Annotated[Backend | None, Options(), Field(validate_default=True)] = None
    """Settings of a backend of your own; the built-in ones have none."""
    firmware: Literal["bare", "zephyr"] = "bare"
    """What an emulated node runs: bare metal, or Zephyr."""
    board: Literal[
        "mps2_an386", "nrf52840dk", "arduino_nano_33_ble", "mps2_an521", "nucleo_f401re",
        "nucleo_l476rg", "nucleo_l552ze_q", "stm32f4_disco",
    ] = "mps2_an386"  # fmt: skip
    """Board that is emulated. For `serial` nodes, the board that `plan` reckons with."""
    image: str | None = None
    """ELF file of `tinymetafed firmware build` for emulated nodes; the usual one if not given."""
    link: Literal["dma", "uart"] | None = None
    """How frames reach an emulated node: through memory, as by DMA, or over the UART byte by byte.
    `dma` if not given, where the emulator has it."""
    ports: Annotated[Ports | None, BeforeValidator(_listed, Ports | str | None)] = None
    """Serial ports of the boards, one a node; or `"auto"`, any at which a node answers."""
    baud: Annotated[int, Field(ge=9600, le=4_000_000)] = 115_200
    """Speed of the serial ports."""
    measure: bool | None = None
    """Whether nodes are asked for the cycles of their own counter, by phase. `serial` nodes are if
    not given."""
    count: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Nodes; where `ports` are named, one for each if not given."""
    timeout: Annotated[float, Field(gt=0, le=3600)] = 20.0
    """Seconds without an answer after which a frame is sent again to a node that does not
    compute."""
    patience: Annotated[float, Field(gt=0, le=1e9)] = 3600.0
    """Seconds of its own time that a node may compute for one frame."""

    @property
    def emulated(self) -> bool:
        """An emulator runs them, and counts what they execute."""
        return self.backend in ("qemu", "renode")

    @property
    def uses_dma(self) -> bool:
        """Frames go through memory that a node shares, and not over its UART byte by byte."""
        return self.emulated and self.link != "uart"

    @property
    def measures(self) -> bool:
        """Nodes are asked for their cycles."""
        return self.backend == "serial" if self.measure is None else self.measure

    @property
    def on_qemu(self) -> Self:
        """As those that play a sample of the rounds."""
        changes: dict[str, Any] = {"backend": "qemu", "options": None, "measure": False}
        if self.backend == "serial":
            changes |= {"firmware": "bare", "board": "mps2_an386", "ports": None}
        return self.model_copy(update=changes)

    @model_validator(mode="after")
    def _exists(self) -> "NodeKind":
        if self.options is not None:
            usual: tuple[tuple[str, Any], ...] = (
                ("firmware", "bare"), ("board", "mps2_an386"), ("image", None), ("link", None),
            )  # fmt: skip
            for key, value in usual:
                if getattr(self, key) != value:
                    raise ValueError(
                        f"{key}: a backend of your own has nodes.options; leave it out"
                    )
            return self
        if self.backend == "host" and self.firmware != "bare":
            raise ValueError(
                f"firmware: host nodes are the firmware's core alone, without {self.firmware}; use "
                "nodes.backend=qemu or renode"
            )
        if self.board not in EMULATED and self.backend != "serial":
            raise ValueError(f"board: no backend emulates {self.board}; use nodes.backend=serial")
        if (
            self.board != "mps2_an386"
            and self.backend != "serial"
            and (self.backend, self.firmware) != ("renode", "zephyr")
        ):
            raise ValueError(
                f"board: {self.firmware} firmware on {self.backend} has no {self.board}; use "
                "nodes.backend=renode with nodes.firmware=zephyr"
            )
        if self.link is not None and not self.emulated:
            raise ValueError(f"link: {self.backend} nodes have no choice of it; leave it out")
        if self.measure and self.backend == "host":
            raise ValueError("measure: host nodes have no counter of cycles; leave it out")
        return self

    @model_validator(mode="before")
    @classmethod
    def _count_ports(cls, tree: Any) -> Any:
        """Where ports are named, the number of nodes need not be given."""
        if not isinstance(tree, dict) or "ports" not in tree:
            return tree  # pyright: ignore[reportUnknownVariableType]
        found: dict[str, Any] = dict(tree)  # pyright: ignore[reportUnknownArgumentType]
        ports = _listed(found["ports"])
        if isinstance(ports, list) and ports != [AUTO]:
            found.setdefault("count", len(ports))  # pyright: ignore[reportUnknownArgumentType]
        return found

    @model_validator(mode="after")
    def _has_ports(self) -> "NodeKind":
        ports = self.ports
        if (self.backend == "serial") != (ports is not None):
            raise ValueError(
                "ports: serial nodes have some, and no others; give their names, or auto "
                "('tinymetafed boards' lists them)"
            )
        if ports is None or ports == (AUTO,):
            return self
        if AUTO in ports or len(set(ports)) < len(ports):
            raise ValueError("ports: each has to be named once, and auto stands for all of them")
        if self.count > len(ports):
            raise ValueError(
                f"ports: {len(ports)} are too few for {self.count} nodes; set nodes.count"
            )
        return self


class NodeGroup(NodeKind):
    """[[nodes.groups]]: nodes of one kind in a fleet, and what they are priced for; as [energy] has
    it where not given."""

    device: DeviceName | None = None
    """Microcontroller that its nodes are priced for; `energy.device` if not given."""
    radio: RadioName | None = None
    """Radio that its nodes are priced for; `energy.radio` if not given."""


class NodeSettings(NodeKind):
    """[nodes]: how many, and what runs them; or the groups of a fleet, whose nodes are numbered in
    their order."""

    groups: tuple[NodeGroup, ...] = ()
    """Nodes of several kinds, in place of one kind: each group has its own backend, board and so
    on."""
    count: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Nodes; where `ports` or `groups` are given, as many as these have if not given."""
    per_round: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """M, the nodes that take part in a round, drawn anew for each. All if not given."""
    emulate: Annotated[int, Field(ge=0)] = 0
    """Rounds of a run on `host` or `serial` nodes that QEMU nodes play again, for cycles and
    energy."""
    counted: Annotated[int, Field(ge=1)] | None = None
    """Rounds in which `renode` nodes are counted; their mean stands for the others. All if not
    given."""

    engine: Literal["local", "ray"] = "local"
    """What computes for `host` nodes: threads of this process, or a Ray cluster."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Threads for `host` nodes; one for each core if not given."""
    address: Annotated[str, Field(pattern=r"^(local|[^\s:]+:\d{1,5})$")] | None = None
    """`HOST:PORT` of the Ray cluster's head, or `"local"` for a cluster of this machine's own."""

    @property
    def sampled(self) -> int:
        """Rounds of which what is executed is known, and stands for the others; 0 where nothing has
        to stand for others."""
        return self.emulate or self.counted or 0

    @property
    def fleet(self) -> list[tuple[range, NodeKind]]:
        """The groups with the indices of their nodes; of nodes of one kind, one."""
        ends = list(accumulate((one.count for one in self.groups), initial=0))
        groups = [range(*ends[i : i + 2]) for i in range(len(self.groups))]
        return list(zip(groups, self.groups, strict=True)) or [(range(self.count), self)]

    def kind(self, node: int) -> NodeKind:
        """Of a node, by its index."""
        return next(kind for group, kind in self.fleet if node in group)

    @property
    def backends(self) -> list[str]:
        """Of the nodes, each once, in their order."""
        return list(dict.fromkeys(kind.backend for _, kind in self.fleet))

    @model_validator(mode="before")
    @classmethod
    def _count_groups(cls, tree: Any, info: ValidationInfo) -> Any:
        """Of a fleet, the number of its nodes need not be given."""
        if not isinstance(tree, dict) or "count" in tree:
            return tree  # pyright: ignore[reportUnknownVariableType]
        found = cast("dict[str, Any]", tree)
        try:
            groups = TypeAdapter(tuple[NodeGroup, ...]).validate_python(
                found.get("groups", ()), context=info.context
            )
        except ValidationError:  # which is said of the field itself
            return found
        return found | {"count": sum(one.count for one in groups)} if groups else found

    @model_validator(mode="after")
    def _are_in_groups(self) -> "NodeSettings":
        if not self.groups:
            return self
        total = sum(one.count for one in self.groups)
        if self.count != total:
            raise ValueError(f"count: {self.count}, but the groups have {total}; leave it out")
        named = [port for one in self.groups for port in one.ports or ()]
        if len(set(named)) < len(named):
            raise ValueError("ports: each is in one group, and auto too; name the ports of others")
        usual = NodeKind()
        for key in NodeKind.model_fields:
            if key != "count" and getattr(self, key) != getattr(usual, key):
                raise ValueError(f"{key}: each group has its own; give it there")
        if self.engine != "local":
            raise ValueError(f"engine: {self.engine} has nodes of one kind at work; use local")
        if self.counted is not None:
            raise ValueError("counted: it is for renode nodes alone; leave it out")
        if self.emulate:
            raise ValueError("emulate: a fleet has emulated nodes of its own; leave it out")
        return self


class LinkNoise(Settings):
    """[[faults.links]]: noise on the links of some nodes, as probabilities. A byte is lost, or one
    of its bits is flipped; a frame is lost, arrives twice, or behind the one sent after it."""

    nodes: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """Nodes whose links have it, by their indices. All if not given."""
    direction: Literal["both", "down", "up"] = "both"
    """`down` is to the node, `up` from it."""
    flipped_bytes: Probability = 0.0
    """Probability, of a byte, that one of its bits is flipped."""
    lost_bytes: Probability = 0.0
    """Probability, of a byte, that it does not arrive."""
    lost_frames: Probability = 0.0
    """Probability, of a frame, that it does not arrive."""
    doubled_frames: Probability = 0.0
    """Probability, of a frame, that it arrives twice."""
    reordered_frames: Probability = 0.0
    """Probability, of a frame, that it arrives behind the one sent after it."""

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Those that are disturbed."""
        return ("down", "up") if self.direction == "both" else (self.direction,)

    @model_validator(mode="after")
    def _are_probabilities(self) -> "LinkNoise":
        for what in (
            ("flipped_bytes", "lost_bytes"),
            ("lost_frames", "doubled_frames", "reordered_frames"),
        ):
            if (total := sum(getattr(self, name) for name in what)) > 1:
                raise ValueError(f"{what[0]}: {' + '.join(what)} is {total:g}, and at most 1")
        return self


class Faults(Settings):
    """[faults]: what is done to nodes, and about their faults."""

    tolerate: bool = False
    """Whether the exit status stays 0 where firmware faults; it is 3 otherwise."""
    links: tuple[LinkNoise, ...] = ()
    """Noise on the nodes' links."""

    def check(self, count: int) -> None:
        """Raises ValueError where not every entry is of some of `count` nodes, or two are of one
        node's frames in one direction."""
        taken: dict[tuple[int, Direction], int] = {}
        for i, one in enumerate(self.links):
            for node in range(count) if one.nodes is None else one.nodes:
                if node >= count:
                    raise ValueError(f"faults.links.{i}.nodes: {node}, but nodes.count is {count}")
                for way in one.directions:
                    if (before := taken.setdefault((node, way), i)) != i:
                        raise ValueError(
                            f"faults.links.{i}.nodes: faults.links.{before} disturbs what goes "
                            f"{way} on the link of node {node} already"
                        )
