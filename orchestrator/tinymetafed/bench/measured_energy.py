"""The ledger beside energy that was measured on boards and published."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..energy import ledger, power
from ..energy.timing import Timing
from ..errors import TinyMetaFedError
from ..nodes import standalone
from ..settings import Settings, read
from .validation import FOLDER

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Measurement(Settings):
    """[[measurements]]: what a board took for a workload.

    code: where the processor spends it. program: of an ELF file, without the ending; phase: of it.
    cycles, microjoules: on the board.
    """

    workload: str
    device: str
    code: str
    program: str
    phase: str
    cycles: Annotated[int, Field(ge=1)]
    microjoules: _Positive
    source: Annotated[str, Field(min_length=1)]


class Together(Settings):
    """[[together]]: what a chip draws while it computes, and its radio is on.

    milliamperes: at the supply voltage of the device's file.
    """

    workload: str
    device: str
    radio: str
    does: Literal["transmit", "receive"]
    milliamperes: _Positive
    source: Annotated[str, Field(min_length=1)]


class Published(Settings):
    """The file emulation/validation/energy.toml."""

    measurements: tuple[Measurement, ...]
    together: tuple[Together, ...]


@dataclass(frozen=True)
class Priced:
    """A measurement beside the ledger.

    cycles: by the model, expected; None where the program was not there. low, joules, high: what
    the ledger has for them, or for the board's own cycles.
    """

    measurement: Measurement
    cycles: int | None
    low: float
    joules: float
    high: float

    @property
    def cycles_error(self) -> float | None:
        """Of the model's cycles, as a share of the board's."""
        return None if self.cycles is None else self.cycles / self.measurement.cycles - 1

    @property
    def error(self) -> float:
        """Of the ledger's energy, as a share of the board's."""
        return self.joules / (self.measurement.microjoules * 1e-6) - 1


@dataclass(frozen=True)
class Summed:
    """What the ledger has for the processor and the radio, one after the other, in milliamperes of
    the device's supply voltage, beside what they draw at once."""

    together: Together
    milliamperes: float

    @property
    def error(self) -> float:
        """Of the sum, as a share of what is drawn."""
        return self.milliamperes / self.together.milliamperes - 1


def published(path: Path = FOLDER / "energy.toml") -> Published:
    """What was published. Raises TinyMetaFedError."""
    return read(Published, path)


def price(measurements: Sequence[Measurement], programs: Path | None = None) -> list[Priced]:
    """The measurements beside the ledger.

    programs: a folder with their ELF files, which are run and counted; a measurement without one is
    priced by the board's own cycles. Raises TinyMetaFedError.
    """
    counted: dict[str, dict[str, tuple[int, int, int]]] = {}
    if programs is not None:
        for name in dict.fromkeys(one.program for one in measurements):
            core = power.device(next(m.device for m in measurements if m.program == name)).core
            if (image := programs / f"{name}.elf").is_file():
                counted[name] = _count(image, core)
        if not counted:
            names = ", ".join(sorted({one.program for one in measurements}))
            raise TinyMetaFedError(f"{programs}: no program there; NAME.elf is one of {names}")
    return [_price(one, counted.get(one.program)) for one in measurements]


def _count(image: Path, core: str) -> dict[str, tuple[int, int, int]]:
    """The cycles of each phase: shortest, expected, longest."""
    profile = standalone.run(image).profile([Timing.load(core)])
    rows = profile.cycles[core].tolist()
    return {name: (row[0], row[1], row[2]) for name, row in zip(profile.phases, rows, strict=True)}


def _price(one: Measurement, phases: dict[str, tuple[int, int, int]] | None) -> Priced:
    cycles = (one.cycles, one.cycles, one.cycles)
    if phases is not None:
        if not phases.get(one.phase, (0, 0, 0))[1]:
            raise TinyMetaFedError(
                f"{one.program}.elf: never enters the phase {one.phase}, a function "
                f"tmf_phase_{one.phase}"
            )
        cycles = phases[one.phase]
    work = ledger.Work(1, 0, {"learn": cycles}, (), ())
    entries = ledger.awake(work, power.device(one.device), power.radio("ble1m"))
    total = ledger.balance(entries)
    expected = None if phases is None else cycles[1]
    return Priced(one, expected, total.low, total.joules, total.high)


def add(together: Sequence[Together]) -> list[Summed]:
    """The processor's and the radio's current by their files, added. Raises TinyMetaFedError."""
    return [Summed(one, 1e3 * _drawn(one)) for one in together]


def _drawn(one: Together) -> float:
    """Amperes."""
    device, radio = power.device(one.device), power.radio(one.radio)
    air = radio.transmit_power if one.does == "transmit" else radio.receive_power
    return (device.run_power + air) / device.supply_voltage_v.value
