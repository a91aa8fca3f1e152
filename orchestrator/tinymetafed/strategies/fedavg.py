"""FedAvg: McMahan, Moore, Ramage, Hampson, Agüera y Arcas 2017, arXiv:1602.05629, algorithm 1.

The node stores its samples and does E epochs of mini-batches of B on them; all weights are
exchanged both ways. The new θ is the mean of the nodes' weights, each weighted by the samples that
it learnt from. C, the part of the nodes in a round, is nodes.per_round.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from ..models.model import Model
from ..nodes.node import Delta, Node
from ..tasks.samples import Samples
from .base import MiniBatches, Theta, outer_step, whole_update


class FedAvg(MiniBatches):
    """Settings: η, samples per device, B and E."""

    name: Literal["fedavg"]

    async def adapt(
        self, node: Node, model: Model, support: Samples, query: Samples, round_number: int,
        rounds: int,
    ) -> Delta:  # fmt: skip
        await self.learn(node, query)
        # The number is on no link: it would be a byte or two beside all weights.
        return dataclasses.replace(await whole_update(node, model), samples=len(query))

    def aggregate(
        self, theta: Theta, deltas: Sequence[Delta], round_number: int, rounds: int
    ) -> Theta:
        # The weighted mean of θ + Δ.
        return outer_step(theta, deltas, 1.0, [delta.samples for delta in deltas])
