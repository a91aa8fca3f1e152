"""The backends by name."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ..energy.opcodes import TracedPricing
from ..energy.profile import Pricing
from ..energy.program import Program
from ..energy.timing import Timing
from ..errors import TinyMetaFedError
from ..places import MPS2_IMAGE, zephyr_image
from . import window
from .host import open_host
from .node import Node
from .qemu import QemuTransport
from .renode import PLATFORMS, Renode, RenodeTransport
from .settings import NodeSettings


@contextmanager
def private_directory() -> Iterator[Path]:
    """A run directory for sockets, logs and counters: mode 0700, with a path short enough for a
    socket's name (108 bytes). It is gone afterwards; but where an error ends the run, logs that
    say something stay."""
    directory = Path(tempfile.mkdtemp(prefix="tinymetafed-"))
    try:
        yield directory
    except TinyMetaFedError:
        for file in directory.iterdir():
            if file.suffix != ".log" or file.stat().st_size == 0:
                file.unlink()
        with suppress(OSError):  # there is something left
            directory.rmdir()
        raise
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    shutil.rmtree(directory, ignore_errors=True)


def make_nodes(settings: NodeSettings, directory: Path) -> list[Node]:
    """The nodes of an experiment, not started yet; what they need lies in `directory`."""
    names = [f"node-{i}" for i in range(settings.count)]
    make = partial(Node, timeout=settings.timeout, patience=settings.patience)
    if settings.backend == "host":
        return [make(name, open_host) for name in names]
    image, built_by = emulated_image(settings)
    if not image.is_file():
        raise TinyMetaFedError(f"{image}: no firmware image; run '{built_by}'")
    pricing = Pricing(Program.read(image), Timing.all())
    if settings.backend == "qemu":
        start = partial(
            QemuTransport.open, directory, image=image, program=pricing.program,
            place=window.find(image) if settings.uses_dma else None,
        )  # fmt: skip
        return [
            make(name, partial(start, name=name), pricing=pricing, image=image) for name in names
        ]
    traced = TracedPricing(pricing)
    renode = Renode(directory, image, PLATFORMS[settings.board], traced)
    return [
        make(
            name, partial(RenodeTransport.open, renode, name), pricing=traced,
            watch=partial(renode.watch, name), image=image,
        )
        for name in names
    ]  # fmt: skip


def emulated_image(settings: NodeSettings) -> tuple[Path, str]:
    """What an emulated node runs, and the command that builds it."""
    if settings.firmware == "bare":
        return MPS2_IMAGE, "make firmware"
    return zephyr_image(settings.board), "make zephyr"
