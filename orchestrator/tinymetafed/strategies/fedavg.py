"""FedAvg: McMahan, Moore, Ramage, Hampson, Agüera y Arcas 2017, arXiv:1602.05629, algorithm 1.

The node stores its samples and does E epochs of mini-batches of B on them; all weights are
exchanged both ways. The new θ is the mean of the nodes' weights, each weighted by the samples that
it learnt from. C, the part of the nodes in a round, is nodes.per_round.
"""

from collections.abc import Sequence
from typing import Literal

from ..nodes.update import Update
from .base import MiniBatchSGD


class WeightedAveraging(MiniBatchSGD):
    """The server's half of FedAvg, and the client's."""

    def weights(self, updates: Sequence[Update]) -> Sequence[float]:
        """See Averaging. The number of samples is on no link: it would be a byte or two beside all
        weights."""
        return [float(update.samples) for update in updates]


class FedAvg(WeightedAveraging):
    """FedAvg: mini-batches on the nodes, and the mean of their weights by their samples."""

    name: Literal["fedavg"]
