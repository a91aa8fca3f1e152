"""[nodes] and [faults] of an experiment file."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..settings import Settings

Direction = Literal["down", "up"]
EMULATED = "mps2_an386", "nrf52840dk", "arduino_nano_33_ble"
"""Boards that are emulated."""
AUTO = "auto"
"""In place of the ports' names."""
Probability = Annotated[float, Field(ge=0, le=1)]


class NodeSettings(Settings):
    """[nodes]: how many, and what runs them."""

    backend: Literal["qemu", "renode", "serial", "host"] = "qemu"
    firmware: Literal["bare", "zephyr"] = "bare"  # an emulated node's: bare metal, or on Zephyr
    # What an emulated node is. Of serial nodes: of which board a plan is, that of the smallest one.
    board: Literal[
        "mps2_an386", "nrf52840dk", "arduino_nano_33_ble", "mps2_an521", "nucleo_f401re",
        "nucleo_l476rg", "nucleo_l552ze_q", "stm32f4_disco",
    ] = "mps2_an386"  # fmt: skip
    image: str | None = None  # of 'tinymetafed firmware build', for emulated nodes; else the usual
    link: Literal["dma", "uart"] | None = None  # dma on qemu, uart on renode where not given
    # Of serial nodes, one for each; or "auto": any that a node answers at. And their speed.
    ports: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    baud: Annotated[int, Field(ge=9600, le=4_000_000)] = 115_200
    count: Annotated[int, Field(ge=1, le=10_000)] = 4  # one for each port where these are given
    per_round: Annotated[int, Field(ge=1, le=10_000)] | None = None  # M; all where not given
    # Seconds without an answer until a frame is repeated to a node that does not compute, and
    # seconds of its own time that a node may compute for a frame.
    timeout: Annotated[float, Field(gt=0, le=3600)] = 20.0
    patience: Annotated[float, Field(gt=0, le=1e9)] = 3600.0
    emulate: Annotated[int, Field(ge=0)] = 0  # rounds that a qemu node for each of these plays too

    # Cycles by phase, by a node's own counter; serial nodes' where not given.
    measure: bool | None = None

    # What has host nodes at work: threads of this process, or a Ray cluster.
    engine: Literal["local", "ray"] = "local"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None  # one a core where not given
    address: Annotated[str, Field(pattern=r"^(local|[^\s:]+:\d{1,5})$")] | None = (
        None  # of Ray's head
    )

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
    def _has_ports(self) -> "NodeSettings":
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

    @property
    def measures(self) -> bool:
        """Nodes are asked for their cycles."""
        return self.backend == "serial" if self.measure is None else self.measure

    @property
    def on_qemu(self) -> "NodeSettings":
        """As those that play a sample of the rounds."""
        plain = {"firmware": "bare", "board": "mps2_an386", "ports": None}
        changes = {"backend": "qemu", "measure": False} | (
            plain if self.backend == "serial" else {}
        )
        return self.model_copy(update=changes)

    @property
    def uses_dma(self) -> bool:
        """Frames go through memory that a node shares, and not over its UART byte by byte."""
        return self.backend == "qemu" and self.link != "uart"


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
