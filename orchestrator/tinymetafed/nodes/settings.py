"""[nodes] and [faults] of an experiment file."""

from itertools import accumulate
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, TypeAdapter, ValidationError, ValidationInfo, model_validator

from ..energy.settings import DeviceName, RadioName
from ..settings import Settings
from .backend import Backend, Named, Options

Direction = Literal["down", "up"]
EMULATED = "mps2_an386", "nrf52840dk", "arduino_nano_33_ble"
"""Boards that are emulated."""
AUTO = "auto"
"""In place of the ports' names."""
Probability = Annotated[float, Field(ge=0, le=1)]


class NodeKind(Settings):
    """Nodes that are alike: how many, and what runs them."""

    backend: Annotated[Literal["qemu", "renode", "serial", "host"], Named()] = "qemu"
    # Of a backend of the user's own its settings, else None.
    options: Annotated[Backend | None, Options(), Field(validate_default=True)] = None
    firmware: Literal["bare", "zephyr"] = "bare"  # an emulated node's: bare metal, or on Zephyr
    # What an emulated node is. Of serial nodes: of which board a plan is, that of the smallest one.
    board: Literal[
        "mps2_an386", "nrf52840dk", "arduino_nano_33_ble", "mps2_an521", "nucleo_f401re",
        "nucleo_l476rg", "nucleo_l552ze_q", "stm32f4_disco",
    ] = "mps2_an386"  # fmt: skip
    image: str | None = None  # of 'tinymetafed firmware build', for emulated nodes; else the usual
    link: Literal["dma", "uart"] | None = None  # dma where not given, if Renode has it
    # Of serial nodes, one for each; or "auto": any that a node answers at. And their speed.
    ports: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    baud: Annotated[int, Field(ge=9600, le=4_000_000)] = 115_200
    measure: bool | None = None  # its own counter's cycles by phase; serial nodes' where not given
    count: Annotated[int, Field(ge=1, le=10_000)] = 4  # one for each port where these are given
    # Seconds without an answer until a frame is repeated to a node that does not compute, and
    # seconds of its own time that a node may compute for a frame.
    timeout: Annotated[float, Field(gt=0, le=3600)] = 20.0
    patience: Annotated[float, Field(gt=0, le=1e9)] = 3600.0

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
        """A port may be given without a list around it."""
        if not isinstance(tree, dict) or "ports" not in tree:
            return tree  # pyright: ignore[reportUnknownVariableType]
        found: dict[str, Any] = dict(tree)  # pyright: ignore[reportUnknownArgumentType]
        if isinstance(found["ports"], str):
            found["ports"] = [found["ports"]]
        if isinstance(found["ports"], list) and found["ports"] != [AUTO]:
            found.setdefault("count", len(found["ports"]))
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
    radio: RadioName | None = None


class NodeSettings(NodeKind):
    """[nodes]: how many, and what runs them; or the groups of a fleet, whose nodes are numbered in
    their order."""

    groups: tuple[NodeGroup, ...] = ()
    count: Annotated[int, Field(ge=1, le=10_000)] = 4  # of all groups together
    per_round: Annotated[int, Field(ge=1, le=10_000)] | None = None  # M; all where not given
    emulate: Annotated[int, Field(ge=0)] = 0  # rounds that a qemu node for each of these plays too
    counted: Annotated[int, Field(ge=1)] | None = (
        None  # rounds, of renode nodes; all where not given
    )

    # What has host nodes at work: threads of this process, or a Ray cluster.
    engine: Literal["local", "ray"] = "local"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None  # one a core where not given
    address: Annotated[str, Field(pattern=r"^(local|[^\s:]+:\d{1,5})$")] | None = (
        None  # of Ray's head
    )

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

    nodes: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = (
        None  # all where not given
    )
    direction: Literal["both", "down", "up"] = "both"  # down: to the node
    flipped_bytes: Probability = 0.0
    lost_bytes: Probability = 0.0
    lost_frames: Probability = 0.0
    doubled_frames: Probability = 0.0
    reordered_frames: Probability = 0.0

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

    tolerate: bool = False  # a firmware fault leaves the exit status as it is, else that is 3
    links: tuple[LinkNoise, ...] = ()

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
