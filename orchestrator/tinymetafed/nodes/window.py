"""The window of an emulated node: memory that the host shares with it, in which frames lie whole.

Of a frame all is in the window but the zero that ends it, which follows over the UART and is the
doorbell (struct tmf_window in firmware/core/tmf_link.h).
"""

import mmap
import os
from pathlib import Path

from elftools.elf.constants import SH_FLAGS

from ..energy.program import open_elf, symbols
from ..errors import TinyMetaFedError

SYMBOL = "tmf_window"
MEMORY = range(0x2100_0000, 0x2200_0000)
"""What the host can share: the PSRAM of the MPS2 (Arm DAI 0386, 3.1)."""


def find(image: Path) -> range:
    """The addresses of an image's window.

    Raises TinyMetaFedError where it has none, or one that cannot be shared.
    """
    with open_elf(image) as elf:
        symbol = next((one for one in symbols(elf) if one.name == SYMBOL), None)
        if symbol is None:
            raise TinyMetaFedError(
                f"{image}: it has no {SYMBOL}, which nodes.link=dma needs; use nodes.link=uart"
            )
        window = range(symbol["st_value"], symbol["st_value"] + symbol["st_size"])
        others = {
            section.name: range(section["sh_addr"], section["sh_addr"] + section["sh_size"])
            for number, section in enumerate(elf.iter_sections())
            if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and number != symbol["st_shndx"]
        }
    taken = [f"overlaps {name}" for name, memory in others.items() if _overlap(memory, window)]
    if window.start < MEMORY.start or window.stop > MEMORY.stop:
        taken.append(f"is not within {MEMORY.start:#x} to {MEMORY.stop:#x}, which can be shared")
    if taken:
        raise TinyMetaFedError(
            f"{image}: its {SYMBOL}, {window.start:#x} to {window.stop:#x}, {taken[0]}; correct "
            "its linker script or use nodes.link=uart"
        )
    return window


def _overlap(one: range, other: range) -> bool:
    return max(one.start, other.start) < min(one.stop, other.stop)


class Window:
    """A file that is one node's MEMORY, of which only the window takes space.

    Raises TinyMetaFedError where it cannot be made.
    """

    def __init__(self, path: Path, place: range, base: int | None = None) -> None:
        """place: addresses, of find. base: where in the file MEMORY begins, of one that an emulator
        has made; None where it is to be made."""
        self.path = path
        offset, half = (base or 0) + place.start - MEMORY.start, len(place) // 2
        try:
            with path.open("w+b" if base is None else "r+b") as file:
                if base is None:
                    file.truncate(len(MEMORY))
                # A page that finds no room when it is written to ends who writes it.
                os.posix_fallocate(file.fileno(), offset, len(place))
                memory = memoryview(mmap.mmap(file.fileno(), 0))
        except OSError as error:
            raise TinyMetaFedError(
                f"{path}: the memory to share with the node cannot be made: {error.strerror}; name "
                "another folder in TMPDIR or use nodes.link=uart"
            ) from None
        self._up, self._down = memory[offset:][:half], memory[offset + half :][:half]

    def put(self, frame: bytes) -> bytes:
        """Lays a frame down for the node. Returns what is left to send over the UART.

        Raises TinyMetaFedError where the frame is longer than the window.
        """
        size, most = len(frame) - 1, len(self._down) - 4
        if size > most:
            raise TinyMetaFedError(
                f"{self.path}: a frame of {size} bytes is longer than the node's window of {most}; "
                "its hello says that it takes such frames"
            )
        self._down[4 : 4 + size] = frame[:-1]
        self._down[:4] = size.to_bytes(4, "little")
        return frame[-1:]

    def completed(self, data: bytes) -> bytes:
        """What came over the UART, with the frame that its doorbell stands for."""
        return data[:-1] + self.take() + data[-1:] if data[-2:] in (b"\0", b"\0\0") else data

    def take(self) -> bytes:
        """The frame that the node has laid down, without its zero; empty where there is none."""
        size = int.from_bytes(self._up[:4], "little")
        self._up[:4] = bytes(4)
        return bytes(self._up[4 : 4 + size])
