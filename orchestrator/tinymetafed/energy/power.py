"""What devices and radios draw: the files of emulation/power."""

import math
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field, RootModel

from ..errors import TinyMetaFedError
from ..places import EMULATION
from ..settings import Settings, check, names, parse, read, read_text
from .instructions import NODES
from .timing import Timing, TimingTable

FOLDER = EMULATION / "power"

T = TypeVar("T")
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Size = Annotated[int, Field(ge=1, le=2**32)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Figure(Settings, Generic[T]):
    """A number and the document that it is from."""

    value: T
    source: Annotated[str, Field(min_length=1)]


class Device(Settings):
    """A microcontroller: currents by what it does.

    flash_factor: cycles from its flash, with wait states and cache, to those without wait states.
    ram_kib: of each bank; what lies in one place has to fit into one bank.
    """

    name: str
    core: str  # a table of emulation/timing; in a user's file also the path of one
    timing: TimingTable | None = None  # the table of a core of the user's own
    supply_voltage_v: Figure[_Positive]
    clock_mhz: Figure[_Positive]
    run_current_ma: Figure[_Positive]
    sleep_current_ua: Figure[_NotNegative]
    wake_up_us: Figure[_NotNegative]
    flash_factor: Figure[Annotated[float, Field(ge=1, le=100)]]
    flash_kib: Figure[_Size]
    ram_kib: Figure[Annotated[tuple[_Size, ...], Field(min_length=1)]]

    def __str__(self) -> str:
        return self.name

    @property
    def run_power(self) -> float:
        """Watts."""
        return self.supply_voltage_v.value * self.run_current_ma.value * 1e-3

    @property
    def sleep_power(self) -> float:
        """Watts, with the RAM kept."""
        return self.supply_voltage_v.value * self.sleep_current_ua.value * 1e-6

    def missing(self, flash: int, block: int, ram: int) -> dict[str, int]:
        """Bytes that it has too few of: for a program of `flash` bytes that needs `ram`, `block` of
        them in one place. Empty where it fits."""
        banks = [1024 * kib for kib in self.ram_kib.value]
        missing = {
            "flash": flash - 1024 * self.flash_kib.value,
            "RAM": max(block - max(banks), ram - sum(banks)),
        }
        return {memory: n for memory, n in missing.items() if n > 0}

    def seconds(self, cycles: float) -> float:
        """For cycles of the core without wait states."""
        return cycles * self.flash_factor.value / (self.clock_mhz.value * 1e6)


class _Radio(Settings):
    name: str
    transceiver: str
    supply_voltage_v: Figure[_Positive]
    transmit_current_ma: Figure[_Positive]
    receive_current_ma: Figure[_Positive]
    payload_bytes: Figure[Annotated[int, Field(ge=1, le=65535)]]
    overhead_bytes: Figure[Annotated[int, Field(ge=0, le=65535)]]

    def __str__(self) -> str:
        return self.name

    @property
    def transmit_power(self) -> float:
        """Watts."""
        return self.supply_voltage_v.value * self.transmit_current_ma.value * 1e-3

    @property
    def receive_power(self) -> float:
        """Watts."""
        return self.supply_voltage_v.value * self.receive_current_ma.value * 1e-3

    @property
    def gap(self) -> float:
        """Seconds of waiting with each packet, receiver on."""
        return 0.0

    @property
    def acknowledgement(self) -> float:
        """Seconds that the acknowledgement of a packet is on the air."""
        return 0.0

    def packets(self, size: int) -> list[tuple[int, int]]:
        """How a stream of `size` bytes is cut: (number of packets, their payload in bytes)."""
        full, rest = divmod(size, self.payload_bytes.value)
        return [(n, payload) for n, payload in ((full, self.payload_bytes.value), (1, rest))
                if n and payload]  # fmt: skip


class BitRadio(_Radio):
    """One that sends bits at a rate, and may have each packet acknowledged."""

    modulation: Literal["bits"]
    bit_rate_kbps: Figure[_Positive]
    gap_us: Figure[_NotNegative]
    acknowledgement_bytes: Figure[Annotated[int, Field(ge=0, le=65535)]]

    def air_time(self, payload: int) -> float:
        """Seconds that a packet of `payload` bytes is on the air."""
        return (payload + self.overhead_bytes.value) * 8 / (self.bit_rate_kbps.value * 1e3)

    @property
    def gap(self) -> float:
        return self.gap_us.value * 1e-6

    @property
    def acknowledgement(self) -> float:
        return self.acknowledgement_bytes.value * 8 / (self.bit_rate_kbps.value * 1e3)


class LoRaRadio(_Radio):
    """Chirps; explicit header, CRC, no acknowledgement."""

    modulation: Literal["lora"]
    spreading_factor: Figure[Annotated[int, Field(ge=6, le=12)]]
    bandwidth_khz: Figure[_Positive]
    coding_rate: Figure[Annotated[int, Field(ge=1, le=4)]]  # 4/(4 + it)
    preamble_symbols: Figure[Annotated[int, Field(ge=1, le=65535)]]

    def air_time(self, payload: int) -> float:
        """Seconds that a packet of `payload` bytes is on the air (SX1276 data sheet, 4.1.1.7)."""
        sf, rate = self.spreading_factor.value, self.coding_rate.value
        symbol = 2**sf / (self.bandwidth_khz.value * 1e3)
        slow = 2 if symbol > 0.016 else 0  # low data rate optimisation
        bits = 8 * (payload + self.overhead_bytes.value) - 4 * sf + 28 + 16
        symbols = 8 + max(math.ceil(bits / (4 * (sf - slow))) * (rate + 4), 0)
        return (self.preamble_symbols.value + 4.25 + symbols) * symbol


class Radio(RootModel[Annotated[BitRadio | LoRaRadio, Field(discriminator="modulation")]]):
    """A radio, or a cable; what it is, its modulation says."""


def device(name: str | Device, folder: Path = FOLDER) -> Device:
    """The device in `folder`/`name`.toml; itself where it is one. Raises TinyMetaFedError."""
    return _device(name, folder) if isinstance(name, str) else name


@cache
def _device(name: str, folder: Path) -> Device:
    return read(Device, _file(name, folder, "device"))


def radio(
    name: str | BitRadio | LoRaRadio, folder: Path = FOLDER / "radios"
) -> BitRadio | LoRaRadio:
    """The radio in `folder`/`name`.toml; itself where it is one. Raises TinyMetaFedError."""
    return _radio(name, folder) if isinstance(name, str) else name


@cache
def _radio(name: str, folder: Path) -> BitRadio | LoRaRadio:
    return read_radio(_file(name, folder, "radio"))


def read_device(path: Path) -> Device:
    """The device in a file of a user's own, with the timing table that it names by a path. Raises
    TinyMetaFedError."""
    tree = parse(read_text(path), str(path))
    core = tree.get("core")
    if isinstance(core, str) and core.endswith(".toml"):
        table = read(TimingTable, path.parent / core)
        # Of the same name cycles are the same, in whichever run.
        digest = sha256(table.model_dump_json().encode()).hexdigest()[:8]
        tree |= {"core": f"{Path(core).stem}-{digest}", "timing": table.model_dump(mode="json")}
    found = check(Device, tree, str(path))
    known = [timing.name for timing in Timing.all()]
    if found.timing is None and found.core not in known:
        raise TinyMetaFedError(
            f"{path}: core: no timing table {found.core!r} of a core that executes the nodes' "
            f"firmware; use {', '.join(known)}, or the path of a file such as ./core.toml"
        )
    if found.timing is not None and not Timing.of(found.core, found.timing).executes(NODES):
        raise TinyMetaFedError(
            f"{path}: core: {core}: architecture: a core for {found.timing.architecture} does not "
            f"execute the nodes' firmware, which is for {NODES}"
        )
    return found


def read_radio(path: Path) -> BitRadio | LoRaRadio:
    """The radio in a file. Raises TinyMetaFedError."""
    return read(Radio, path).root


def _file(name: str, folder: Path, what: str) -> Path:
    known = names(folder)
    if name not in known:
        raise TinyMetaFedError(f"{folder}: no {what} '{name}'; there are: {', '.join(known)}")
    return folder / f"{name}.toml"
