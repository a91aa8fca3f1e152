"""A strategy of a user's own, which keeps arrays of several kinds on the server."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from tinymetafed.nodes.update import Update
from tinymetafed.strategies import Round, ServerState
from tinymetafed.strategies.base import MiniBatchSGD, mean_update


class Momentum(MiniBatchSGD):
    """FedAvgM (Hsu, Qi, Brown 2019, arXiv:1909.06335), and of the server's rounds an account: what
    a strategy of a user's own may keep."""

    name: Literal["momentum"] = "momentum"
    beta: float = 0.9

    def start(self, theta: np.ndarray, devices: int) -> ServerState:
        """See Strategy."""
        kept = {
            "momentum": np.zeros(len(theta)), "seen": np.zeros(devices, np.bool_),
            "rounds": np.array(0, np.uint8),
        }  # fmt: skip
        return ServerState(theta, kept)

    def aggregate(
        self, state: ServerState, updates: Sequence[Update], server_round: Round
    ) -> ServerState:
        """See Strategy."""
        mean = mean_update(updates, len(state.theta))
        momentum = self.beta * state.kept["momentum"] + mean
        seen = state.kept["seen"].copy()
        seen[[one.device for one in updates]] = True
        rounds = state.kept["rounds"] + np.uint8(1)
        theta = state.theta + (1 - self.beta) * momentum
        return state.moved(theta, momentum=momentum, seen=seen, rounds=rounds)
