"""A firmware image with a mistake in it: tests/firmware/planted_faults.c."""

import re
import struct
from pathlib import Path

from elftools.elf.elffile import ELFFile

from tinymetafed.energy.program import open_elf, symbols
from tinymetafed.places import BUILD, PROJECT

IMAGE = BUILD / "mps2/tinymetafed_faults.elf"
SOURCE = PROJECT / "tests/firmware/planted_faults.c"

BOOT = 0
"""The call at which a mistake is made before the node says hello."""


def plant(mistake: str, folder: Path, call: int = 2) -> Path:
    """An image in `folder` that makes the mistake at that selection of an update after a boot."""
    names = re.search(r"enum mistake \{(.*?)\}", SOURCE.read_text(), re.DOTALL)
    assert names is not None
    number = [name.strip().lower() for name in names[1].split(",")].index(mistake)
    with open_elf(IMAGE) as elf:
        offset = _offset(elf, "planted")
    data = bytearray(IMAGE.read_bytes())
    assert data[offset : offset + 8] == bytes(8)
    data[offset : offset + 8] = struct.pack("<2I", number, call)
    image = folder / f"{mistake}-{call}.elf"
    image.write_bytes(data)
    return image


def _offset(elf: ELFFile, name: str) -> int:
    """Of an object in the file."""
    (symbol,) = (one for one in symbols(elf) if one.name == name)
    section = elf.get_section(symbol["st_shndx"])
    return symbol["st_value"] - section["sh_addr"] + section["sh_offset"]


def line(mark: str) -> int:
    """The line of the source that is marked so: "line: bad_write"."""
    (found,) = (
        number
        for number, text in enumerate(SOURCE.read_text().splitlines(), 1)
        if f"/* {mark} */" in text
    )
    return found
