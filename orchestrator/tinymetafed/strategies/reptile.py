"""Reptile, batched: Nichol, Achiam, Schulman 2018, arXiv:1803.02999, algorithm 2.

The node stores its samples and does several epochs of mini-batch SGD on them; all weights are
exchanged both ways.
"""

from typing import Literal

from .base import MiniBatchSGD, Rate, Round, annealed


class Reptile(MiniBatchSGD):
    """Reptile, batched: mini-batches on the nodes; the server moves towards their mean."""

    name: Literal["reptile"]
    outer_rate: Rate = 1.0
    """ε0, the server's rate in the first round; it falls linearly to 0 over the rounds."""

    def step_size(self, server_round: Round) -> float:
        """See Averaging."""
        return annealed(self.outer_rate, server_round)
