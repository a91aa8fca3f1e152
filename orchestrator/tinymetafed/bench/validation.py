"""The cycle model against the manual's figures, and against published CoreMark results."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from ..energy.profile import Profile
from ..energy.timing import Timing
from ..errors import TinyMetaFedError
from ..nodes import standalone as program
from ..nodes.folder import private_directory
from ..places import EMULATION
from ..settings import Settings, read

CORE = "cortex-m4"
FOLDER = EMULATION / "validation"
CROSS_GCC = "arm-none-eabi-gcc"
PACKAGES = "gcc-arm-none-eabi libnewlib-arm-none-eabi"
FLAGS = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
EMPTY = "empty"

ITERATIONS = 10  # of CoreMark; each does the same
COREMARK_SOURCES = tuple(
    f"core_{part}.c" for part in ("list_join", "main", "matrix", "state", "util")
)
CRCS = {"seedcrc": 0xE9F5, "[0]crclist": 0xE714, "[0]crcmatrix": 0x1FD7, "[0]crcstate": 0x8E3A}
"""Of CoreMark's performance run (core_main.c, list_known_crc and the like)."""

PUBLISHED = (
    ("Adafruit Metro M4 (SAMD51), GCC, 458 at 180 MHz", 458 / 180),
    ("Adafruit Metro M4 (SAMD51), GCC, 536 at 200 MHz", 536 / 200),
    ("vendors' figures, other compilers (STM32L412 data sheet)", 3.42),
)
"""CoreMark/MHz of Cortex-M4F boards."""


class Kernel(Settings):
    """[[kernels]]: a loop's body, and what the manual, or a measurement, says that it takes.

    body: assembly. cycles: of the body; or between: the least and the most. repeat: of the body in
    the loop.
    """

    name: str
    body: Annotated[tuple[str, ...], Field(min_length=1)]
    cycles: Annotated[int, Field(ge=1)] | None = None
    between: tuple[int, int] | None = None
    repeat: Annotated[int, Field(ge=1)] = 1
    source: str

    @model_validator(mode="after")
    def _one_figure(self) -> "Kernel":
        if (self.cycles is None) == (self.between is None):
            raise ValueError("cycles: give either cycles or between")
        return self


class Kernels(Settings):
    """The file emulation/validation/kernels.toml."""

    turns: Annotated[int, Field(ge=1)]
    kernels: Annotated[tuple[Kernel, ...], Field(min_length=1, max_length=60)]


@dataclass(frozen=True)
class Measured:
    """A kernel's cycles by the model, for one body."""

    kernel: Kernel
    shortest: float
    expected: float
    longest: float

    @property
    def good(self) -> bool:
        """The manual's figure exactly; or within what it gives."""
        if self.kernel.between is None:
            return self.expected == self.kernel.cycles
        least, most = self.kernel.between
        return least <= self.shortest <= self.expected <= self.longest <= most


@dataclass(frozen=True)
class CoreMark:
    """CoreMark's own checksums, and what a run of it took.

    score: CoreMark/MHz, by the longest, the expected and the shortest cycles.
    """

    crcs: dict[str, int]
    instructions: int
    cycles: int
    score: tuple[float, float, float]

    @property
    def good(self) -> bool:
        """Its checksums are those that they have to be."""
        return self.crcs == CRCS


def run_kernels(path: Path = FOLDER / "kernels.toml") -> list[Measured]:
    """Builds and runs them all, in one program. Raises TinyMetaFedError."""
    settings = read(Kernels, path)
    kernels = settings.kernels
    with private_directory() as folder:
        source, image = folder / "kernels.S", folder / "kernels.elf"
        source.write_text(_assembly(settings))
        build(image, [str(source)], ["-nostdlib"])
        profile = program.run(image, trusted=True).profile([Timing.load(CORE)])
    empty = profile.cycles[CORE][profile.phases.index(EMPTY)]
    found: list[Measured] = []
    for i, kernel in enumerate(kernels):
        more = profile.cycles[CORE][profile.phases.index(f"k{i}")] - empty
        # Rounded, because the way out of the loop takes a cycle more or less after some bodies.
        found.append(Measured(kernel, *np.round(more / settings.turns / kernel.repeat, 1).tolist()))
    return found


def _assembly(settings: Kernels) -> str:
    loops = [("end", None), (EMPTY, ""), *(
        (f"k{i}", "\n".join(kernel.body * kernel.repeat))
        for i, kernel in enumerate(settings.kernels)
    )]  # fmt: skip
    text = [".syntax unified", ".thumb", ".text"]
    for name, _ in loops:  # phases are functions, each at an address of its own
        function = f"tmf_phase_{name}"
        text += [".balign 4", f".type {function}, %function", f"{function}: bx lr"]
    text += [".global main", ".type main, %function", "main: push {r4-r11, lr}"]
    for name, body in loops:
        if body is not None:
            text += [
                ".balign 4",
                "bl prepare",
                f"bl tmf_phase_{name}",
                f"mov.w r12, #{settings.turns}",
            ]
            text += ["1:", body, "subs.w r12, r12, #1", "bne.w 1b"]
            text += ["bl tmf_phase_end"]
    text += ["movs r0, #0", "pop {r4-r11, pc}"]
    text += ["prepare:", "ldr r8, =room", "add r9, r8, #64", "mov r10, #0", "mov r11, #4"]
    text += [f"mov r{i}, #{i + 3}" for i in range(8)]
    text += [f"vmov.f32 s{i}, #1.0" for i in range(16)]
    text += ["bx lr", ".ltorg", ".bss", ".balign 8", ".space 64", "room: .space 256"]
    return "\n".join(text) + "\n"


def run_coremark(sources: Path) -> CoreMark:
    """Builds the CoreMark in `sources` with -O3 and runs it. Raises TinyMetaFedError."""
    missing = [name for name in COREMARK_SOURCES if not (sources / name).is_file()]
    if missing:
        raise TinyMetaFedError(
            f"{sources}: no CoreMark: {missing[0]} is missing; its sources are at "
            "github.com/eembc/coremark"
        )
    port = FOLDER / "coremark"
    with private_directory() as folder:
        image = folder / "coremark.elf"
        build(
            image,
            [str(sources / name) for name in COREMARK_SOURCES] + [str(port / "core_portme.c")],
            ["-O3", f"-I{port}", f"-I{sources}", f"-DITERATIONS={ITERATIONS}", '-DFLAGS_STR="-O3"',
             "-DPERFORMANCE_RUN=1", "--specs=rdimon.specs"],
        )  # fmt: skip
        ended = program.run(image, trusted=True)
    crcs = {
        name: int(value, 16)
        for name, value in re.findall(r"^(\S+) *: 0x([0-9a-f]{4})$", ended.output, re.MULTILINE)
        if name in CRCS
    }
    return _score(crcs, ended.profile([Timing.load(CORE)]))


def _score(crcs: dict[str, int], profile: Profile) -> CoreMark:
    phase = profile.phases.index("coremark")
    shortest, expected, longest = profile.cycles[CORE][phase].tolist()
    low, score, high = (ITERATIONS * 1e6 / cycles for cycles in (longest, expected, shortest))
    return CoreMark(crcs, int(profile.instructions[phase]), expected, (low, score, high))


def build(image: Path, sources: list[str], options: list[str]) -> None:
    script, start = FOLDER / "validation.ld", FOLDER / "start.S"
    command = [
        CROSS_GCC, *FLAGS, *options, "-nostartfiles", "-T", str(script), "-o", str(image),
        str(start), *sources,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise TinyMetaFedError(
            f"{CROSS_GCC} is not installed; apt-get install {PACKAGES}"
        ) from None
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        raise TinyMetaFedError(f"{CROSS_GCC}: {(errors or [done.stderr])[0]}")
