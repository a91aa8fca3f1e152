"""Where in its source an address of a program is, by its ELF file's debug information (DWARF)."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

from elftools.common.exceptions import DWARFError, ELFError
from elftools.dwarf.dwarfinfo import DWARFInfo

from ..energy.program import open_elf, symbols
from ..errors import TinyMetaFedError


@dataclass(frozen=True)
class Place:
    """A place in a source: the function; file and line, None for what has no debug information."""

    function: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        where = "" if self.file is None else f", {PurePosixPath(self.file).name}:{self.line}"
        return self.function + where


class DebugInfo:
    """Of one image. What cannot be read says nothing of any address, and is no error: who asks is
    about to report another one."""

    def __init__(self, image: Path) -> None:
        self._functions: list[tuple[int, int, str]] = []  # first address, size, name
        self._lines: list[tuple[int, str, int]] = []  # from this address on; line 0: none
        self.symbols: dict[str, int] = {}
        try:
            with open_elf(image) as elf:
                for symbol in symbols(elf):
                    self.symbols[symbol.name] = symbol["st_value"]
                    if symbol["st_info"]["type"] == "STT_FUNC":
                        entry = symbol["st_value"] & ~1, symbol["st_size"], symbol.name
                        self._functions.append(entry)
                if elf.has_dwarf_info():
                    self._read_lines(elf.get_dwarf_info())
        except (TinyMetaFedError, DWARFError, ELFError):
            pass
        self._functions.sort()
        # Of several lines at an address the last is meant, in the order that they have there.
        self._lines.sort(key=lambda one: (one[0], one[2] != 0))

    def _read_lines(self, dwarf: DWARFInfo) -> None:
        for unit in dwarf.iter_CUs():
            program = dwarf.line_program_for_CU(unit)
            if program is None:
                continue
            names = _file_names(program.header)
            sequence: list[tuple[int, str, int]] = []
            for entry in program.get_entries():
                state = entry.state
                if state is None:
                    continue
                if not state.end_sequence:
                    sequence.append((state.address, names.get(state.file, "?"), state.line))
                    continue
                sequence.append((state.address, "", 0))
                # What the linker has left out begins at 0, where the vectors are.
                if sequence[0][0] != 0:
                    self._lines += sequence
                sequence = []

    @cached_property
    def _starts(self) -> tuple[list[int], list[int]]:
        return [start for start, *_ in self._functions], [start for start, *_ in self._lines]

    def place(self, address: int) -> Place | None:
        """Of the instruction there; None where that is in no function."""
        functions, lines = self._starts
        i = bisect_right(functions, address) - 1
        if i < 0:
            return None
        start, size, name = self._functions[i]
        if address >= start + (size or 2**10):  # assembly may have none
            return None
        j = bisect_right(lines, address) - 1
        _, file, line = self._lines[j] if j >= 0 else (0, "", 0)
        return Place(name, file, line) if line else Place(name)


def _file_names(header: object) -> dict[int, str]:
    """By the numbers that lines have for them: from 1, and from DWARF 5 on from 0."""
    entries = header["file_entry"]  # type: ignore[index]
    first = 0 if header["version"] >= 5 else 1  # type: ignore[index]
    return {number: entry.name.decode() for number, entry in enumerate(entries, first)}


@lru_cache(maxsize=8)
def _read(image: Path, changed: int) -> DebugInfo:
    del changed
    return DebugInfo(image)


def debug_info(image: Path) -> DebugInfo:
    """Of an image; read once."""
    return _read(image, image.stat().st_mtime_ns if image.is_file() else 0)
