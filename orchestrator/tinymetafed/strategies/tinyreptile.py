"""TinyReptile: Ren, Anicic, Runkler 2023, arXiv:2304.05201.

Reptile (arXiv:1803.02999), serial and online: one node in a round, which uses each sample once and
drops it; all weights are exchanged both ways.
"""

from collections.abc import Sequence
from typing import Literal

from ..models.model import Model
from ..nodes.node import Delta, Node
from ..tasks.samples import Samples
from .base import Count, Rate, Theta, Usual, annealed, outer_step, stream, whole_update


class TinyReptile(Usual):
    """Settings: inner rate β, outer rate α0, samples per device."""

    name: Literal["tinyreptile"]
    rate: Rate = 0.01  # β
    outer_rate: Rate = 1.0  # α0
    query: Count = 32

    @property
    def serial(self) -> bool:
        return True

    @property
    def support(self) -> int:
        return 0

    @property
    def batch(self) -> int:
        return 1

    async def adapt(
        self, node: Node, model: Model, support: Samples, query: Samples, round_number: int,
        rounds: int,
    ) -> Delta:  # fmt: skip
        await node.train(query, rate=self.rate)
        return await whole_update(node, model)

    def aggregate(
        self, theta: Theta, deltas: Sequence[Delta], round_number: int, rounds: int
    ) -> Theta:
        return outer_step(theta, deltas, annealed(self.outer_rate, round_number, rounds))

    async def personalise(self, node: Node, model: Model, support: Samples, steps: int) -> None:
        if steps:
            await node.train(stream(support, steps), rate=self.rate)
