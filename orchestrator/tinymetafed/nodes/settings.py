"""[nodes] and [faults] of an experiment file."""

from typing import Annotated, Literal

from pydantic import Field

from ..settings import Settings


class NodeSettings(Settings):
    """[nodes]: how many, and what runs them."""

    backend: Literal["qemu", "renode", "host"] = "qemu"
    firmware: Literal["bare", "zephyr"] = "bare"  # an emulated node's: bare metal, or on Zephyr
    board: Literal["mps2_an386", "nrf52840dk", "arduino_nano_33_ble"] = "mps2_an386"  # emulated
    link: Literal["dma", "uart"] | None = None  # dma on qemu, uart on renode where not given
    count: Annotated[int, Field(ge=1, le=10_000)] = 4
    per_round: Annotated[int, Field(ge=1, le=10_000)] | None = None  # M; all where not given
    # Seconds without an answer until a frame is repeated to a node that does not compute, and
    # seconds of its own time that a node may compute for a frame.
    timeout: Annotated[float, Field(gt=0, le=3600)] = 20.0
    patience: Annotated[float, Field(gt=0, le=1e9)] = 3600.0
    emulate: Annotated[int, Field(ge=0)] = 0  # rounds that a qemu node for each host node plays too

    # What has host nodes at work: threads of this process, or a Ray cluster.
    engine: Literal["local", "ray"] = "local"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None  # one a core where not given
    address: Annotated[str, Field(pattern=r"^(local|[^\s:]+:\d{1,5})$")] | None = (
        None  # of Ray's head
    )

    @property
    def uses_dma(self) -> bool:
        """Frames go through memory that a node shares, and not over its UART byte by byte."""
        return self.backend == "qemu" and self.link != "uart"


class Faults(Settings):
    """[faults]: what is done about a node's faults."""

    tolerate: bool = False  # a firmware fault leaves the exit status as it is, else that is 3
