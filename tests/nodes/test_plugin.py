"""The plugin that counts is there for each interface of QEMU's plugins; the right one is taken."""

import os
import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tinymetafed.energy.program import Program
from tinymetafed.nodes.qemu import INTERFACES, plugin_arguments, plugin_interface
from tinymetafed.places import MPS2_IMAGE, qemu_plugin


def _qemu(folder: Path, says: str) -> str:
    path = folder / "qemu-system-arm"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("says", "interface"),
    [
        ("QEMU emulator version 4.2.1 (Debian 1:4.2-3ubuntu6.28)", 0),
        ("QEMU emulator version 5.2.0", 0),
        ("QEMU emulator version 6.2.0 (Debian 1:6.2+dfsg-2ubuntu6.22)", 1),
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)", 1),
        ("QEMU emulator version 8.2.2", 1),
        ("QEMU emulator version 9.0.0", 2),
        ("QEMU emulator version 10.1.50 (v10.1.0-12-g0123456789)", 2),
        ("nothing of the kind", 2),
    ],
)
def test_the_interface_of_each_qemu(tmp_path: Path, says: str, interface: int):
    assert plugin_interface(_qemu(tmp_path, says)) == interface


def test_the_newest_where_there_is_no_qemu(tmp_path: Path):
    assert plugin_interface(None) == 2
    assert plugin_interface(str(tmp_path / "none")) == 2


def test_the_plugin_given_is_that_of_the_qemu_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    _qemu(tmp_path, "QEMU emulator version 9.2.0")
    _, plugin = plugin_arguments(tmp_path / "counts", Program.read(MPS2_IMAGE))
    assert plugin.startswith(f"{qemu_plugin(2)},counts=")


@pytest.mark.parametrize("interface", INTERFACES.values())
def test_each_is_built_for_its_interface(interface: int):
    with qemu_plugin(interface).open("rb") as file:
        elf = ELFFile(file)
        table = elf.get_section_by_name(".dynsym")
        assert isinstance(table, SymbolTableSection)
        symbol = (table.get_symbol_by_name("qemu_plugin_version") or [])[0]
        section = elf.get_section(symbol["st_shndx"])
        if section["sh_type"] == "SHT_NOBITS":  # zero
            assert interface == 0
            return
        at = symbol["st_value"] - section["sh_addr"]
        assert struct.unpack("<i", section.data()[at : at + 4]) == (interface,)
