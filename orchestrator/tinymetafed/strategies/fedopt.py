"""FedAdam and FedYogi: Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar, McMahan 2021,
arXiv:2003.00295, algorithm 2.

The server takes the mean of the nodes' Δ for a negative gradient, and steps by an adaptive
optimiser: m ← β₁ m + (1 − β₁) Δ; v follows Δ² (Adam) or moves towards it by its sign (Yogi);
θ ← θ + η m / (√v + τ). At the start m is 0 and v is τ². The clients are those of any strategy whose
server averages.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..models.model import Model
from ..nodes.program import Program
from ..nodes.update import Update
from .base import Averaging, Rate, Round, ServerState, Strategy, own_strategy
from .fedavg import FedAvg
from .fedper import FedPer
from .fedprox import FedProx
from .fedrep import FedRep
from .perfedavg import PerFedAvg
from .reptile import Reptile
from .tinymetafed import TinyMetaFed
from .tinyreptile import TinyReptile

ClientSettings = Annotated[
    FedAvg | FedPer | FedProx | FedRep | PerFedAvg | Reptile | TinyMetaFed | TinyReptile,
    Field(discriminator="name"),
    own_strategy(Averaging),
]
Decay = Annotated[float, Field(ge=0, lt=1)]
Vector = NDArray[np.float64]


class ServerOptimiser(Strategy):
    """An adaptive optimiser on the server, over the clients of another strategy."""

    rate: Rate = 0.01
    """η, the server's rate."""
    beta1: Decay = 0.9
    """β₁, of the mean."""
    beta2: Decay = 0.99
    """β₂, of the mean of squares."""
    tau: Annotated[float, Field(gt=0, le=1)] = 1e-3
    """τ, which is added to the root of the mean of squares."""
    client: ClientSettings = FedAvg(name="fedavg")
    """Strategy whose nodes these are, with its settings; its outer rate has no effect."""

    @property
    def support(self) -> int:
        """See Strategy."""
        return self.client.support

    @property
    def query(self) -> int:
        """See Strategy."""
        return self.client.query

    @property
    def uses_local(self) -> bool:
        """See Strategy."""
        return self.client.uses_local

    @property
    def serial(self) -> bool:
        """See Strategy."""
        return self.client.serial

    @property
    def accumulates(self) -> bool:
        """See Strategy."""
        return self.client.accumulates

    @property
    def capacity(self) -> int:
        """See Strategy."""
        return self.client.capacity

    @property
    def marks(self) -> bool:
        """See Strategy."""
        return self.client.marks

    @property
    def keeps(self) -> Literal["residual", "variate"] | None:
        """See Strategy."""
        return self.client.keeps

    @property
    def takes_fewer(self) -> bool:
        """See Strategy."""
        return self.client.takes_fewer

    def start(self, theta: NDArray[np.float32], devices: int) -> ServerState:
        """See Strategy."""
        kept = {"m": np.zeros(len(theta)), "v": np.full(len(theta), self.tau**2)}
        return ServerState(theta, kept)

    def program(self, state: ServerState, model: Model, server_round: Round) -> Program:
        """See Strategy."""
        return self.client.program(state, model, server_round)

    def aggregate(
        self, state: ServerState, updates: Sequence[Update], server_round: Round
    ) -> ServerState:
        """See Strategy."""
        delta = self.client.mean(updates, len(state.theta))
        m = self.beta1 * state.kept["m"] + (1 - self.beta1) * delta
        v = self.second_moment(state.kept["v"], delta**2)
        return state.moved(state.theta + self.rate * m / (np.sqrt(v) + self.tau), m=m, v=v)

    @abstractmethod
    def second_moment(self, v: NDArray[Any], square: Vector) -> Vector:
        """The next v, from v and Δ²."""

    def personalise(self, model: Model, support: int, steps: int) -> Program:
        """See Strategy."""
        return self.client.personalise(model, support, steps)


class FedAdam(ServerOptimiser):
    """Adam on the server, over the clients of another strategy."""

    name: Literal["fedadam"]

    def second_moment(self, v: NDArray[Any], square: Vector) -> Vector:
        """See ServerOptimiser."""
        return self.beta2 * v + (1 - self.beta2) * square


class FedYogi(ServerOptimiser):
    """Yogi on the server, over the clients of another strategy."""

    name: Literal["fedyogi"]

    def second_moment(self, v: NDArray[Any], square: Vector) -> Vector:
        """See ServerOptimiser."""
        return v - (1 - self.beta2) * square * np.sign(v - square)
