"""SCAFFOLD: Karimireddy, Kale, Mohri, Reddi, Stich, Suresh 2020, arXiv:1910.06378, algorithm 1 with
option II.

A step on a node goes by its gradient plus c − cᵢ, the difference of the server's control variate
and the device's own, so that nodes with different data do not drift apart. What it costs: a node
keeps one more vector of its parameters, and c comes down with each broadcast, as large as all
weights. Nothing more goes up: the server knows cᵢ⁺ = cᵢ − c + (θ − y) / (Kη) by Δ = y − θ.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..models.model import Model
from ..nodes.program import Program, Renew, Store, Variate
from ..nodes.update import Update
from .base import MiniBatchSGD, Rate, Round, ServerState, mean_update, send_all


class Scaffold(MiniBatchSGD):
    """SCAFFOLD: control variates correct the drift between nodes with different data."""

    name: Literal["scaffold"]
    outer_rate: Rate = 1.0
    """η_g, the server's rate, the same in every round."""

    @property
    def keeps(self) -> Literal["variate"]:
        """See Strategy."""
        return "variate"

    def start(self, theta: NDArray[np.float32], devices: int) -> ServerState:
        """See Strategy."""
        return ServerState(theta, {"c": np.zeros(len(theta)), "devices": np.array(devices)})

    def program(self, state: ServerState, model: Model, server_round: Round) -> Program:
        """See Strategy."""
        variate = Variate(state.kept["c"].astype(np.float32))
        learn = Store("query"), self.train(corrected=True), Renew(self.rate)
        return variate, *learn, *send_all(model)

    def step_size(self, server_round: Round) -> float:
        """See Averaging."""
        return self.outer_rate

    def aggregate(
        self, state: ServerState, updates: Sequence[Update], server_round: Round
    ) -> ServerState:
        """See Strategy. The mean change of cᵢ is −c − mean of Δ / (Kη)."""
        steps = [self.epochs * -(-update.samples // self.batch) for update in updates]
        scales = [1 / (k * self.rate) for k in steps]
        drift = mean_update(updates, len(state.theta), scales) * sum(scales) / len(updates)
        part = len(updates) / int(state.kept["devices"])
        c = state.kept["c"] - part * (state.kept["c"] + drift)
        moved = super().aggregate(state, updates, server_round)
        return ServerState(moved.theta, {**moved.kept, "c": c})
