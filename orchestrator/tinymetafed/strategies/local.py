"""No exchange: a device learns alone, from the shared initialisation, which never changes.

What a federation has to beat, and often does not: Yu, Bagdasaryan, Shmatikov 2020,
arXiv:2002.04758. Nothing of an update is asked for; in each round other devices start afresh.
"""

from collections.abc import Sequence
from typing import Literal

from ..models.model import Model
from ..nodes.node import Delta, Node
from ..tasks.samples import Samples
from .base import MiniBatches, Theta


class Local(MiniBatches):
    """Settings: rate, samples per device, mini-batch and epochs."""

    name: Literal["local"]

    async def adapt(
        self, node: Node, model: Model, support: Samples, query: Samples, round_number: int,
        rounds: int,
    ) -> Delta:  # fmt: skip
        await self.learn(node, query)
        return Delta.nothing()

    def aggregate(
        self, theta: Theta, deltas: Sequence[Delta], round_number: int, rounds: int
    ) -> Theta:
        return theta
