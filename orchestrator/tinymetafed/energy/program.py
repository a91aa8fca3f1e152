"""A program as its ELF file has it: code, and the addresses of its functions."""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import ARMAttributesSection, Symbol, SymbolTableSection

from ..errors import TinyMetaFedError
from .instructions import ARCHITECTURES, NODES

PHASE_PREFIX = "tmf_phase_"

V6M, V6SM, V8R = 11, 12, 15
"""Of Tag_CPU_arch."""


@contextmanager
def open_elf(path: Path) -> Iterator[ELFFile]:
    """Raises TinyMetaFedError where `path` is no ELF file for Arm."""
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            if elf["e_machine"] != "EM_ARM":
                raise TinyMetaFedError(f"{path}: a program for {elf['e_machine']}, not for Arm")
            yield elf
    except OSError as error:
        raise TinyMetaFedError(f"{path}: cannot be read: {error.strerror}") from None
    except ELFError as error:
        raise TinyMetaFedError(f"{path}: not an ELF file: {error}") from None


def symbols(elf: ELFFile) -> Iterator[Symbol]:
    """Of all its symbol tables."""
    for section in elf.iter_sections():
        if isinstance(section, SymbolTableSection):
            yield from section.iter_symbols()


def _architecture(elf: ELFFile) -> str:
    """Of ARCHITECTURES; the nodes' where the file does not say.

    ELF for the Arm Architecture, addenda (Arm IHI 0045), has the values of Tag_CPU_arch.
    """
    section = elf.get_section_by_name(".ARM.attributes")
    value = None
    if isinstance(section, ARMAttributesSection):
        value = next(
            (
                tag.value
                for part in section.iter_subsections()
                for found in part.iter_subsubsections("TAG_FILE")
                for tag in found.iter_attributes("TAG_CPU_ARCH")
            ),
            None,
        )
    if value in (V6M, V6SM):
        return ARCHITECTURES[0]
    return NODES if value is None or value < V8R else ARCHITECTURES[-1]


@dataclass(frozen=True)
class Program:
    """Code by address, and functions by name."""

    segments: tuple[tuple[int, bytes], ...]
    functions: dict[str, int]
    architecture: str = NODES  # of ARCHITECTURES: that it was built for

    @classmethod
    def read(cls, path: Path) -> "Program":
        """Raises TinyMetaFedError where `path` is no ELF file for Arm."""
        with open_elf(path) as elf:
            segments = tuple(
                (segment["p_vaddr"], segment.data()) for segment in elf.iter_segments("PT_LOAD")
            )
            functions = {
                symbol.name: symbol["st_value"] & ~1  # bit 0 says Thumb
                for symbol in symbols(elf)
                if symbol["st_info"]["type"] == "STT_FUNC"
            }
            architecture = _architecture(elf)
        return cls(segments, functions, architecture)

    def code(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, or to where they stop being there."""
        for address, data in self.segments:
            if address <= start < address + len(data):
                return data[start - address : end - address]
        return b""

    def function_at(self, address: int) -> str | None:
        """The function that the address is in; None before the first."""
        place = bisect_right(self._starts, (address, "\uffff")) - 1
        return self._starts[place][1] if place >= 0 else None

    @cached_property
    def _starts(self) -> list[tuple[int, str]]:
        return sorted((address, name) for name, address in self.functions.items())

    @property
    def phases(self) -> dict[str, int]:
        """Where each phase begins: the functions tmf_phase_NAME, by NAME."""
        return {
            name.removeprefix(PHASE_PREFIX): address
            for name, address in sorted(self.functions.items())
            if name.startswith(PHASE_PREFIX)
        }

    @property
    def handlers(self) -> list[int]:
        """Functions in the vector table at address 0 (Armv7-M Architecture Reference Manual,
        B1.5.3), the reset's apart. The table ends before the first function."""
        table = self.code(0, min(self.functions.values(), default=0))
        vectors = {int.from_bytes(table[i : i + 4], "little") for i in range(8, len(table), 4)}
        return sorted({a for a in self.functions.values() if a | 1 in vectors})
