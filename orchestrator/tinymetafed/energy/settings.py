"""[energy] of an experiment file; devices and radios by their names, or by files of a user's own,
of which all is in the settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from .. import settings
from ..settings import Settings, folder_of
from . import power
from .power import BitRadio, Device, LoRaRadio
from .timing import Timing


@dataclass(frozen=True)
class _Choice:
    """Annotates a name of a file in `folder`, or what is in a file of a user's own."""

    kinds: tuple[type[Any], ...]
    load: Callable[[Path], Any]
    build: Callable[[dict[str, Any]], Any]
    folder: Path

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self._choose, serialization=core_schema.simple_ser_schema("any")
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        own = {"type": "string", "pattern": r"\.toml$"}
        return {"anyOf": [{"enum": settings.names(self.folder)}, own]}

    def _choose(self, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, self.kinds):
            return value
        if isinstance(value, dict):  # of a run's row
            return self.build(value)
        if isinstance(value, str) and value.endswith(".toml"):
            return self.load(folder_of(info) / value)
        if value not in (known := settings.names(self.folder)):
            text = f"use {', '.join(known)}, or a file such as ./mine.toml"
            raise PydanticCustomError("tmf_known", "{known}", {"known": text})
        return value


DeviceName = Annotated[
    str | Device,
    _Choice((Device,), power.read_device, Device.model_validate, power.FOLDER),
]
RadioName = Annotated[
    str | BitRadio | LoRaRadio,
    _Choice(
        (BitRadio, LoRaRadio),
        power.read_radio,
        lambda tree: power.Radio.model_validate(tree).root,
        power.FOLDER / "radios",
    ),
]


class EnergySettings(Settings):
    """[energy]: what the cycles and bytes are priced for."""

    device: DeviceName = "nrf52840"
    """Microcontroller: a name of `emulation/power`, or a file of your own, `"./board.toml"`."""
    radio: RadioName = "ble1m"
    """Radio: a name of `emulation/power/radios`, or a file of your own, `"./radio.toml"`."""
    interval: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    """Least seconds from the start of a round to that of the next; what is left over is sleep."""


Priced = Sequence[tuple[range, EnergySettings]]
"""What nodes are priced for, by the indices of those that are alike; the interval is the same."""


def timings(priced: Priced) -> tuple[Timing, ...]:
    """The tables by which cycles are counted: those that there are, and devices' own."""
    devices = (power.device(one.device) for _, one in priced)
    own = {one.core: one.timing for one in devices if one.timing is not None}
    return (*Timing.all(), *(Timing.of(name, table) for name, table in own.items()))
