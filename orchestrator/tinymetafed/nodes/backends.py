"""The backends by name."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..energy.profile import Pricing
from ..energy.program import Program
from ..energy.timing import Timing
from ..errors import TinyMetaFedError
from ..experiment import NodeSettings
from ..places import MPS2_IMAGE, ZEPHYR_IMAGE
from . import window
from .host import HostTransport
from .node import Node
from .qemu import QemuTransport
from .renode import Renode, RenodeTransport
from .transport import OpenTransport, Transport

IMAGES = {"bare": (MPS2_IMAGE, "make firmware"), "zephyr": (ZEPHYR_IMAGE, "make zephyr")}
"""What an emulated MPS2 runs, and the command that builds it."""


@contextmanager
def private_directory() -> Iterator[Path]:
    """A run directory for sockets, logs and counters: mode 0700, with a path short enough for a
    socket's name (108 bytes), gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="tinymetafed-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def make_nodes(settings: NodeSettings, directory: Path) -> list[Node]:
    """The nodes of an experiment, not started yet; what they need lies in `directory`."""

    def opener(name: str) -> OpenTransport:
        async def open_transport() -> Transport:
            match settings.backend:
                case "host":
                    return HostTransport()
                case "qemu":
                    return await QemuTransport.open(
                        directory, name, image=image, program=program, place=place
                    )
                case "renode":
                    return await RenodeTransport.open(renode, name, image)

        return open_transport

    image, built_by = IMAGES[settings.firmware]
    if settings.backend != "host" and not image.is_file():
        raise TinyMetaFedError(f"{image}: no firmware image; run '{built_by}'")
    renode = Renode(directory)
    pricing = None
    if settings.backend == "qemu":
        pricing = Pricing(Program.read(image), Timing.all())
    program = pricing and pricing.program
    place = window.find(image) if settings.uses_dma else None
    names = [f"node-{i}" for i in range(settings.count)]
    return [Node(name, opener(name), timeout=settings.timeout, pricing=pricing) for name in names]
