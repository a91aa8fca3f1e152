"""Reptile, batched: Nichol, Achiam, Schulman 2018, arXiv:1803.02999, algorithm 2.

The node stores its samples and does several epochs of mini-batch SGD on them; all weights are
exchanged both ways.
"""

from collections.abc import Sequence
from typing import Literal

from ..models.model import Model
from ..nodes.node import Delta, Node
from ..tasks.samples import Samples
from .base import MiniBatches, Rate, Theta, annealed, outer_step, whole_update


class Reptile(MiniBatches):
    """Settings: inner rate, outer rate ε0, samples per device, mini-batch and epochs."""

    name: Literal["reptile"]
    outer_rate: Rate = 1.0  # ε0

    async def adapt(
        self, node: Node, model: Model, support: Samples, query: Samples, round_number: int,
        rounds: int,
    ) -> Delta:  # fmt: skip
        await self.learn(node, query)
        return await whole_update(node, model)

    def aggregate(
        self, theta: Theta, deltas: Sequence[Delta], round_number: int, rounds: int
    ) -> Theta:
        return outer_step(theta, deltas, annealed(self.outer_rate, round_number, rounds))
