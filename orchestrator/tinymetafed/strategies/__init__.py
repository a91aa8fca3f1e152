"""Strategies: one file each. A new one is a file here and a name in the union below."""

from typing import Annotated

from pydantic import Field

from .base import Round, ServerState, Strategy
from .fedavg import FedAvg
from .local import Local
from .reptile import Reptile
from .tinymetafed import TinyMetaFed
from .tinyreptile import TinyReptile

StrategySettings = Annotated[
    FedAvg | Local | Reptile | TinyMetaFed | TinyReptile, Field(discriminator="name")
]

__all__ = [
    "FedAvg", "Local", "Reptile", "Round", "ServerState", "Strategy", "StrategySettings",
    "TinyMetaFed", "TinyReptile",
]  # fmt: skip
