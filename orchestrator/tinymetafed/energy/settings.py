"""[energy] of an experiment file, and the names of devices and radios."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from .. import settings
from ..settings import Settings
from . import power


def _known(folder: Path) -> AfterValidator:
    def check_name(name: str) -> str:
        known = settings.names(folder)
        if name not in known:
            raise PydanticCustomError("tmf_known", "{known}", {"known": f"use {', '.join(known)}"})
        return name

    return AfterValidator(check_name)


DeviceName = Annotated[str, _known(power.FOLDER)]
RadioName = Annotated[str, _known(power.FOLDER / "radios")]


class EnergySettings(Settings):
    """[energy]: what the cycles and bytes are priced for."""

    device: DeviceName = "nrf52840"
    radio: RadioName = "ble1m"
    interval: Annotated[float, Field(ge=0, le=1e9)] = 0.0  # seconds between two rounds, at least


Priced = Sequence[tuple[range, EnergySettings]]
"""What nodes are priced for, by the indices of those that are alike; the interval is the same."""
