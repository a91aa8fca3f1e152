"""FedProx: Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith 2020, arXiv:1812.06127, algorithm 2.

As FedAvg, but a node minimises its loss plus μ/2 · ‖w − θ‖²: each step also goes by η · μ towards
the weights that were broadcast, which keeps nodes with different data together. Nodes are averaged
by their samples, where the paper draws them with that probability.
"""

from typing import Annotated, Literal

from pydantic import Field

from ..models.model import Model
from ..nodes.program import Program, Store
from .base import Round, ServerState, send_all
from .fedavg import WeightedAveraging


class FedProx(WeightedAveraging):
    """FedProx: FedAvg whose steps are also pulled towards the weights that were broadcast."""

    name: Literal["fedprox"]
    proximal: Annotated[float, Field(gt=0, le=1000)] = 0.1
    """μ, the strength of that pull."""

    @property
    def accumulates(self) -> bool:
        """See Strategy."""
        return True

    def program(self, state: ServerState, model: Model, server_round: Round) -> Program:
        """See Strategy."""
        return Store("query"), self.train(proximal=self.proximal), *send_all(model)
