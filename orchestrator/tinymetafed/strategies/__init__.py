"""Strategies: one file each. A new one is a file here and a name in the union below."""

from typing import Annotated

from pydantic import Field

from .base import Strategy
from .reptile import Reptile
from .tinymetafed import TinyMetaFed

StrategySettings = Annotated[Reptile | TinyMetaFed, Field(discriminator="name")]

__all__ = ["Reptile", "Strategy", "StrategySettings", "TinyMetaFed"]
