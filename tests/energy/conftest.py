"""Programs for the emulated processor, made for a test."""

import subprocess
from pathlib import Path

import pytest

from assembling import Assemble, MakeProgram
from tinymetafed.bench import validation


@pytest.fixture(scope="session")
def assemble(tmp_path_factory: pytest.TempPathFactory) -> Assemble:
    """The bytes of instructions that stand at an address which is a multiple of four."""
    folder = tmp_path_factory.mktemp("assemble")

    def make(text: str) -> bytes:
        (folder / "a.s").write_text(f".syntax unified\n.thumb\n{text}\n")
        tools = (
            ["arm-none-eabi-as", "-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-o", "a.o", "a.s"],
            ["arm-none-eabi-objcopy", "-O", "binary", "-j", ".text", "a.o", "a.bin"],
        )
        for tool in tools:
            subprocess.run(tool, cwd=folder, check=True)
        return (folder / "a.bin").read_bytes()

    return make


@pytest.fixture
def program(tmp_path: Path) -> MakeProgram:
    """An image with this assembly, whose `main` returns 0 where all is well."""

    def make(text: str) -> Path:
        source, image = tmp_path / "program.S", tmp_path / "program.elf"
        source.write_text(f".syntax unified\n.thumb\n.text\n{text}\n")
        validation.build(image, [str(source)], ["-nostdlib"])
        return image

    return make
