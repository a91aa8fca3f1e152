"""The bytes of a firmware image, beside those that were built.

The build-id that a node says is a part of the image and says nothing of the rest of it: an image
with a spoilt byte says the same, and computes something else.
"""

import hashlib
from pathlib import Path

from ..energy.program import Program, open_elf, symbols
from ..errors import TinyMetaFedError


def frozen_weights(image: Path) -> tuple[int, int] | None:
    """Number and CRC-32 of the frozen weights that the image has in its flash (struct tmf_backbone
    of firmware/core/tmf_node.h); None where it has none. Raises TinyMetaFedError where `image` is
    no ELF file for Arm."""
    with open_elf(image) as elf:
        found = [
            symbol["st_value"]
            for symbol in symbols(elf)
            if symbol.name == "tmf_backbone" and symbol["st_value"]
        ]
    if not found:
        return None
    data = Program.read(image).code(found[0] + 4, found[0] + 12)
    return int.from_bytes(data[:4], "little"), int.from_bytes(data[4:], "little")


def checksum(image: Path, built_by: str) -> str:
    """SHA-256 of the image, in hexadecimal.

    built_by: the command for it. Raises TinyMetaFedError where there is none, or where its build
    has noted another checksum beside it, in IMAGE.sha256 (as sha256sum writes it).
    """
    try:
        found = hashlib.sha256(image.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise TinyMetaFedError(f"{image}: no firmware image; run '{built_by}'") from None
    except OSError as error:
        raise TinyMetaFedError(f"{image}: cannot be read: {error.strerror}") from None
    noted = image.with_name(f"{image.name}.sha256")
    built = noted.read_text(errors="replace").split()[:1] if noted.is_file() else [found]
    if built != [found]:
        raise TinyMetaFedError(
            f"{image}: it is not as it was built: its SHA-256 is {found}, and {noted.name} has "
            f"{' '.join(built) or 'none'}; remove it, then run '{built_by}'"
        )
    return found
