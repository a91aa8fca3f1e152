"""Strategies: one file each. A new one is a file here and a name in the union below. A user's
own needs neither: plugins.py."""

from typing import Annotated

from pydantic import Field

from .base import Round, ServerState, Strategy, own_strategy
from .fedavg import FedAvg
from .fedopt import FedAdam, FedYogi
from .fedper import FedPer
from .fedprox import FedProx
from .fedrep import FedRep
from .local import Local
from .perfedavg import PerFedAvg
from .reptile import Reptile
from .scaffold import Scaffold
from .tinymetafed import TinyMetaFed
from .tinyreptile import TinyReptile

StrategySettings = Annotated[
    FedAdam
    | FedAvg
    | FedPer
    | FedProx
    | FedRep
    | FedYogi
    | Local
    | PerFedAvg
    | Reptile
    | Scaffold
    | TinyMetaFed
    | TinyReptile,
    Field(discriminator="name"),
    own_strategy(Strategy),
]

__all__ = [
    "FedAdam", "FedAvg", "FedPer", "FedProx", "FedRep", "FedYogi", "Local", "PerFedAvg", "Reptile",
    "Round", "Scaffold", "ServerState", "Strategy", "StrategySettings", "TinyMetaFed",
    "TinyReptile",
]  # fmt: skip
