"""Reptile, batched: Nichol, Achiam, Schulman 2018, arXiv:1803.02999, algorithm 2.

The node stores its samples and does several epochs of mini-batch SGD on them; all weights are
exchanged both ways.
"""

from collections.abc import Sequence
from typing import Literal

from ..nodes.update import Update
from .base import MiniBatchSGD, Rate, Round, ServerState, annealed, outer_step


class Reptile(MiniBatchSGD):
    """Settings: inner rate, outer rate ε0, samples per device, mini-batch and epochs."""

    name: Literal["reptile"]
    outer_rate: Rate = 1.0  # ε0

    def aggregate(
        self, state: ServerState, updates: Sequence[Update], server_round: Round
    ) -> ServerState:
        """See Strategy."""
        return outer_step(state, updates, annealed(self.outer_rate, server_round))
