"""TinyReptile: Ren, Anicic, Runkler 2023, arXiv:2304.05201.

Reptile (arXiv:1803.02999), serial and online: one node in a round, which uses each sample once and
drops it; all weights are exchanged both ways.
"""

from typing import Literal

from ..models.model import Model
from ..nodes.program import Program, Train
from .base import OnlineSGD, Rate, Round, ServerState, WithoutSupport, send_all


class TinyReptile(OnlineSGD, WithoutSupport):
    """TinyReptile: one node in a round, which uses each sample once."""

    name: Literal["tinyreptile"]
    rate: Rate = 0.01
    """β, the inner rate."""

    @property
    def serial(self) -> bool:
        """See Strategy."""
        return True

    def program(self, state: ServerState, model: Model, server_round: Round) -> Program:
        """See Strategy."""
        return Train("query", rate=self.rate), *send_all(model)

    def personalise(self, model: Model, support: int, steps: int) -> Program:
        """See Strategy."""
        return (Train("support", rate=self.rate, steps=steps),) if steps else ()
