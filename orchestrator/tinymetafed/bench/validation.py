"""The cycle model against the manuals' figures, and against published CoreMark results."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

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
KERNELS = FOLDER / "kernels"
CROSS_GCC = "arm-none-eabi-gcc"
PACKAGES = "gcc-arm-none-eabi libnewlib-arm-none-eabi"
FLAGS = {
    "cortex-m0plus": ("-mcpu=cortex-m0plus", "-mthumb"),
    "cortex-m4": ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    "cortex-m33": ("-mcpu=cortex-m33", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
}
"""Of the compiler, by core; QEMU's Cortex-M4 executes what they make of these programs."""

COREMARK_FLAGS = {
    "cortex-m33": (
        "-funroll-all-loops", "-finline-limit=10000", "--param", "max-inline-insns-auto=200",
        "-falign-functions=4", "-falign-jumps=4", "-falign-loops=4",
    ),
}  # fmt: skip
"""Besides -O3, by core: of what was published (GorgonMeducer/coremark_cortex-m33)."""

EMPTY = "empty"

ITERATIONS = 10  # of CoreMark; each does the same
COREMARK_SOURCES = tuple(
    f"core_{part}.c" for part in ("list_join", "main", "matrix", "state", "util")
)
CRCS = {"seedcrc": 0xE9F5, "[0]crclist": 0xE714, "[0]crcmatrix": 0x1FD7, "[0]crcstate": 0x8E3A}
"""Of CoreMark's performance run (core_main.c, list_known_crc and the like)."""

PUBLISHED = {
    "cortex-m0plus": (
        ("Microchip SAM D20, compiler not said", 2.14),
        ("Arm's figure, Arm's compiler", 2.46),
    ),
    "cortex-m4": (
        ("Adafruit Metro M4 (SAMD51), GCC, 458 at 180 MHz", 458 / 180),
        ("Adafruit Metro M4 (SAMD51), GCC, 536 at 200 MHz", 536 / 200),
        ("vendors' figures, other compilers (STM32L412 data sheet)", 3.42),
    ),
    "cortex-m33": (
        ("MPS2 AN505, GCC 13.2 -O3, loops unrolled (GorgonMeducer/coremark_cortex-m33)", 3.40),
        ("Arm's figure, Arm's compiler", 4.10),
    ),
}
"""CoreMark/MHz of boards with these cores."""


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
    """A file of emulation/validation/kernels: for the core that it names."""

    core: Literal["cortex-m0plus", "cortex-m33", "cortex-m4"]
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
    """CoreMark's own checksums, and what a run of it took on a core.

    score: CoreMark/MHz, by the longest, the expected and the shortest cycles.
    """

    core: str
    crcs: dict[str, int]
    instructions: int
    cycles: int
    score: tuple[float, float, float]

    @property
    def good(self) -> bool:
        """Its checksums are those that they have to be."""
        return self.crcs == CRCS


def run_kernels(path: Path) -> list[Measured]:
    """Builds and runs those of a file, in one program. Raises TinyMetaFedError."""
    settings = read(Kernels, path)
    kernels, core = settings.kernels, settings.core
    with private_directory() as folder:
        source, image = folder / "kernels.S", folder / "kernels.elf"
        source.write_text(_assembly(settings))
        build(image, [str(source)], ["-nostdlib"], core)
        profile = program.run(image, trusted=True).profile([Timing.load(core)])
    empty = profile.cycles[core][profile.phases.index(EMPTY)]
    found: list[Measured] = []
    for i, kernel in enumerate(kernels):
        more = profile.cycles[core][profile.phases.index(f"k{i}")] - empty
        # Rounded, because the way out of the loop takes a cycle more or less after some bodies.
        found.append(Measured(kernel, *np.round(more / settings.turns / kernel.repeat, 1).tolist()))
    return found


_PREPARE = {
    "cortex-m0plus": [
        "ldr r4, =room", "ldr r5, =room + 64", "movs r6, #0",
        *(f"movs r{i}, #{i + 3}" for i in range(4)),
    ],
    "cortex-m4": [
        "ldr r8, =room", "add r9, r8, #64", "mov r10, #0", "mov r11, #4",
        *(f"mov r{i}, #{i + 3}" for i in range(8)),
        *(f"vmov.f32 s{i}, #1.0" for i in range(16)),
    ],
}  # fmt: skip


def _assembly(settings: Kernels) -> str:
    loops = [("end", None), (EMPTY, ""), *(
        (f"k{i}", "\n".join(kernel.body * kernel.repeat))
        for i, kernel in enumerate(settings.kernels)
    )]  # fmt: skip
    small = settings.core == "cortex-m0plus"
    begin = ["movs r7, #{}", "1:"] if small else ["mov.w r12, #{}", "1:"]
    end = ["subs r7, #1", "bne 1b"] if small else ["subs.w r12, r12, #1", "bne.w 1b"]
    saved = "r4-r7" if small else "r4-r11"
    text = [".syntax unified", ".thumb", ".text"]
    for name, _ in loops:  # phases are functions, each at an address of its own
        function = f"tmf_phase_{name}"
        text += [".balign 4", f".type {function}, %function", f"{function}: bx lr"]
    text += [".global main", ".type main, %function", f"main: push {{{saved}, lr}}"]
    for name, body in loops:
        if body is not None:
            text += [".balign 4", "bl prepare", f"bl tmf_phase_{name}"]
            text += [begin[0].format(settings.turns), *begin[1:], body, *end]
            text += ["bl tmf_phase_end"]
            text += ["b 2f", ".ltorg", "2:"]  # near to who loads from it
    text += ["movs r0, #0", f"pop {{{saved}, pc}}"]
    text += ["prepare:", *_PREPARE["cortex-m0plus" if small else CORE]]
    text += ["bx lr", ".ltorg", ".bss", ".balign 8", ".space 64", "room: .space 256"]
    return "\n".join(text) + "\n"


def run_coremark(sources: Path, core: str) -> CoreMark:
    """Builds the CoreMark in `sources` with -O3 for this core and runs it. Raises
    TinyMetaFedError."""
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
            ["-O3", *COREMARK_FLAGS.get(core, ()), f"-I{port}", f"-I{sources}",
             f"-DITERATIONS={ITERATIONS}", '-DFLAGS_STR="-O3"', "-DPERFORMANCE_RUN=1",
             "--specs=rdimon.specs"],
            core,
        )  # fmt: skip
        ended = program.run(image, trusted=True)
    crcs = {
        name: int(value, 16)
        for name, value in re.findall(r"^(\S+) *: 0x([0-9a-f]{4})$", ended.output, re.MULTILINE)
        if name in CRCS
    }
    return _score(core, crcs, ended.profile([Timing.load(core)]))


def _score(core: str, crcs: dict[str, int], profile: Profile) -> CoreMark:
    phase = profile.phases.index("coremark")
    shortest, expected, longest = profile.cycles[core][phase].tolist()
    low, score, high = (ITERATIONS * 1e6 / cycles for cycles in (longest, expected, shortest))
    return CoreMark(core, crcs, int(profile.instructions[phase]), expected, (low, score, high))


def build(image: Path, sources: list[str], options: list[str], core: str = CORE) -> None:
    """A program for QEMU's mps2-an386, of instructions of this core. Raises TinyMetaFedError."""
    script, start = FOLDER / "validation.ld", FOLDER / "start.S"
    command = [
        CROSS_GCC, *FLAGS[core], *options, "-nostartfiles", "-T", str(script), "-o", str(image),
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
