"""The backends by name."""

from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path

from ..energy.opcodes import TracedPricing
from ..energy.profile import Pricing
from ..energy.program import PHASE_PREFIX, Program
from ..energy.timing import Timing
from ..errors import TinyMetaFedError
from ..places import BUILT_BY, IS_CHECKOUT, MPS2_IMAGE, zephyr_image
from . import limits, window
from .backend import opener
from .boards import Finder, image_of
from .folder import private_directory
from .host import open_host
from .image import checksum
from .node import Node
from .qemu import QemuTransport
from .renode import PLATFORMS, Renode, RenodeTransport
from .serial_port import ANSWER_TIME, SerialNode, SerialTransport
from .settings import AUTO, NodeKind, NodeSettings

__all__ = [
    "emulated_image", "image_checksum", "image_on_zephyr", "make_group", "make_nodes",
    "private_directory",
]  # fmt: skip


PHASES = {"idle", "receive", "reconstruct", "learn", "select", "send", "evaluate"}
"""That each image of a node marks."""


def make_nodes(
    settings: NodeSettings, directory: Path, timings: Sequence[Timing] | None = None
) -> list[Node]:
    """The nodes of an experiment, not started yet; what they need lies in `directory`. timings: by
    which their cycles are counted, those that there are where not given. Raises
    TinyMetaFedError."""
    limits.check(settings)
    groups = (make_group(kind, directory, group.start, timings) for group, kind in settings.fleet)
    return list(chain(*groups))


def make_group(
    settings: NodeKind, directory: Path, first: int = 0, timings: Sequence[Timing] | None = None
) -> list[Node]:
    """Nodes of one kind, see make_nodes. first: the first one's index in the federation."""
    names = [f"node-{first + i}" for i in range(settings.count)]
    make = partial(
        Node, timeout=settings.timeout, patience=settings.patience, measures=settings.measures
    )
    if settings.backend == "host":
        return [make(name, open_host) for name in names]
    if settings.backend == "serial":
        return _on_boards(settings, [make(name, open_host) for name in names])
    if settings.options is not None:
        return [make(name, opener(settings.options, name, directory)) for name in names]
    image, built_by = emulated_image(settings)
    sha256 = checksum(image, built_by)
    pricing = _pricing(image, sha256, Timing.all() if timings is None else tuple(timings))
    place = window.find(image) if settings.uses_dma else None
    if settings.backend == "qemu":
        start = partial(
            QemuTransport.open, directory, image=image, program=pricing.program, place=place
        )
        return [
            make(name, partial(start, name=name), pricing=pricing, image=image) for name in names
        ]
    traced = TracedPricing(pricing)
    renode = Renode(
        directory, image, PLATFORMS[settings.board], traced, place, settings.link == "dma"
    )
    return [
        make(
            name, partial(RenodeTransport.open, renode, name), pricing=traced,
            watch=partial(renode.watch, name), switch=partial(renode.set_counting, name),
            image=image,
        )
        for name in names
    ]  # fmt: skip


@lru_cache(maxsize=4)
def _pricing(image: Path, sha256: str, timings: Sequence[Timing]) -> Pricing:
    """Of the image with this checksum. All runs of a process share it: what one has priced, which
    takes a second, none prices again."""
    return Pricing(_program(image), timings)


def _program(image: Path) -> Program:
    """Raises TinyMetaFedError where it is no node's."""
    program = Program.read(image)
    if missing := PHASES - program.phases.keys():
        raise TinyMetaFedError(
            f"{image}: no image of a node: it has no {PHASE_PREFIX}{min(missing)}; write one with "
            "'tinymetafed firmware build'"
        )
    return program


def _on_boards(settings: NodeKind, nodes: list[Node]) -> list[Node]:
    """The nodes, at their ports. What is built here of what they run tells the places of faults."""
    ports = settings.ports or ()
    finder = Finder(settings.count, settings.baud, min(settings.timeout, ANSWER_TIME))

    async def find(i: int) -> str:
        return await finder.find(i) if ports == (AUTO,) else ports[i]

    async def start(node: Node, where: SerialNode) -> SerialTransport:
        transport = await where.open()
        if transport.hello is not None:
            node.image = image_of(transport.hello.build)
        return transport

    for i, node in enumerate(nodes):
        where = SerialNode(node.name, partial(find, i), settings.baud, settings.timeout)
        node.open_transport = partial(start, node, where)
    return nodes


def image_checksum(settings: NodeKind) -> str | None:
    """SHA-256 of what an emulated node runs; None where none is emulated. Raises
    TinyMetaFedError."""
    if not settings.emulated:
        return None
    return checksum(*emulated_image(settings))


def emulated_image(settings: NodeKind) -> tuple[Path, str]:
    """What an emulated node runs, and the command that builds it. Raises TinyMetaFedError."""
    if settings.image is not None:
        return Path(settings.image), "tinymetafed firmware build"
    if settings.firmware == "bare" or settings.backend == "serial":  # that one for a sample
        return MPS2_IMAGE, BUILT_BY
    return image_on_zephyr(settings.board)


def image_on_zephyr(board: str) -> tuple[Path, str]:
    """The node on Zephyr for a board, and the command that builds it. Raises TinyMetaFedError."""
    image = zephyr_image(board)
    if not IS_CHECKOUT and not image.is_file():
        raise TinyMetaFedError(
            f"the installed package has no image of Zephyr for {board}; 'make zephyr dist' in a "
            "checkout makes one that has"
        )
    return image, "make zephyr"
