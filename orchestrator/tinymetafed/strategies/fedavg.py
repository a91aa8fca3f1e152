"""FedAvg: McMahan, Moore, Ramage, Hampson, Agüera y Arcas 2017, arXiv:1602.05629, algorithm 1.

The node stores its samples and does E epochs of mini-batches of B on them; all weights are
exchanged both ways. The new θ is the mean of the nodes' weights, each weighted by the samples that
it learnt from. C, the part of the nodes in a round, is nodes.per_round.
"""

from collections.abc import Sequence
from typing import Literal

from ..nodes.update import Update
from .base import MiniBatchSGD, Round, ServerState, outer_step


class FedAvg(MiniBatchSGD):
    """Settings: η, samples per device, B and E."""

    name: Literal["fedavg"]

    def aggregate(
        self, state: ServerState, updates: Sequence[Update], server_round: Round
    ) -> ServerState:
        """See Strategy. The number of samples is on no link: it would be a byte or two beside all
        weights."""
        return outer_step(state, updates, 1.0, [one.samples for one in updates])
