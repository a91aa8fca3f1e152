"""Which boards are at this machine's serial ports, and what they run."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from elftools.elf.sections import NoteSection
from serial.tools import list_ports

from ..energy.program import open_elf
from ..errors import TinyMetaFedError
from ..link import Hello
from ..places import MPS2_IMAGE, ZEPHYR_IMAGES
from .serial_port import SerialTransport

BY_ID = Path("/dev/serial/by-id")
"""Names that stay when a board is plugged in elsewhere (udev)."""


@dataclass(frozen=True)
class Board:
    """What is at a port.

    description: by its USB descriptor, "" where it has none. hello: of the node that answers; None
    where none does, and `problem` says why. image: what it runs, where it was built here.
    """

    port: str
    description: str
    hello: Hello | None
    problem: str = ""
    image: Path | None = None

    @property
    def name(self) -> str:
        """Of the board that the image was built for; "" where that is not known."""
        return "" if self.image is None else board_of(self.image)


def ports() -> dict[str, str]:
    """The machine's serial ports by name, with their descriptions."""
    stable = {}
    if BY_ID.is_dir():
        stable = {str(link.resolve()): str(link) for link in sorted(BY_ID.iterdir())}
    found = sorted(list_ports.comports(), key=lambda one: one.device)
    return {
        stable.get(one.device, one.device): (
            "" if one.description in (None, "n/a") else one.description
        )
        for one in found
    }


async def ask(names: Sequence[str], baud: int, seconds: float) -> list[Board]:
    """Asks a node at each port for its hello, all of them at the same time. Those that do not
    answer in so many seconds have a problem."""
    described = ports()
    return await asyncio.gather(
        *(_ask(name, described.get(name, ""), baud, seconds) for name in names)
    )


async def _ask(port: str, description: str, baud: int, seconds: float) -> Board:
    try:
        transport = await SerialTransport.open("", port, baud, seconds)
    except TinyMetaFedError as error:
        return Board(port, description, None, str(error).removeprefix(": "))
    await transport.close()
    hello = transport.hello
    if hello is None:
        return Board(port, description, None, f"{port}: its firmware faults as it starts")
    return Board(port, description, hello, image=image_of(hello.build))


def image_of(build: bytes) -> Path | None:
    """The image of this build-id, where it was built here."""
    images = [MPS2_IMAGE, *sorted(ZEPHYR_IMAGES.glob("*/zephyr/zephyr.elf"))]
    return next((one for one in images if one.is_file() and _build_of(one) == build), None)


def board_of(image: Path) -> str:
    """The name of its build."""
    return "mps2_an386" if image == MPS2_IMAGE else image.parents[1].name


@cache
def _build_of(image: Path) -> bytes:
    try:
        with open_elf(image) as elf:
            for section in elf.iter_sections():
                if isinstance(section, NoteSection):
                    for note in section.iter_notes():
                        if note["n_type"] == "NT_GNU_BUILD_ID":
                            return bytes.fromhex(note["n_desc"])
    except TinyMetaFedError:
        pass
    return b""


class Finder:
    """The ports of nodes that are at any: those that answer, in the order of their names."""

    def __init__(self, count: int, baud: int, seconds: float) -> None:
        self._count, self._baud, self._seconds = count, baud, seconds
        self._turn = asyncio.Lock()
        self._found: list[str] | None = None

    async def find(self, node: int) -> str:
        """The port of a node, by its number. Raises TinyMetaFedError where too few answer."""
        async with self._turn:
            if self._found is None:
                self._found = await self._look()
        return self._found[node]

    async def _look(self) -> list[str]:
        every = await ask(list(ports()), self._baud, self._seconds)
        found = [one.port for one in every if one.hello is not None]
        if len(found) < self._count:
            problems = "".join(f"\n{one.problem}" for one in every if one.problem)
            raise TinyMetaFedError(
                f"nodes.ports: {self._count} nodes are wanted, and at {len(found)} of "
                f"{len(every)} serial ports one answers at {self._baud} baud{problems}"
            )
        return found
