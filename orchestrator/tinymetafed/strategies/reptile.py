"""Reptile, batched: Nichol, Achiam, Schulman 2018, arXiv:1803.02999, algorithm 2.

The node stores its samples and does several epochs of mini-batch SGD on them; all weights are
exchanged both ways.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from ..model import Model
from ..nodes.node import Delta, Node
from ..samples import Samples
from ..settings import Settings
from .base import Theta, annealed, outer_step


class Reptile(Settings):
    """Settings: inner rate, outer rate ε0, samples per device, mini-batch and epochs."""

    name: Literal["reptile"]
    rate: Annotated[float, Field(gt=0, le=10)] = 0.01
    outer_rate: Annotated[float, Field(gt=0, le=10)] = 1.0  # ε0
    query: Annotated[int, Field(ge=1, le=100_000)] = 32
    batch: Annotated[int, Field(ge=1, le=65535)] = 8
    epochs: Annotated[int, Field(ge=1, le=65535)] = 8

    @property
    def uses_local(self) -> bool:
        return False

    @property
    def support(self) -> int:
        return 0

    @property
    def capacity(self) -> int:
        return self.query

    async def adapt(self, node: Node, model: Model, support: Samples, query: Samples) -> Delta:
        await node.store(query)
        await node.train(None, rate=self.rate, batch=self.batch, epochs=self.epochs)
        return await node.update(model.global_runs, model.parameters)

    def aggregate(
        self, theta: Theta, deltas: Sequence[Delta], round_number: int, rounds: int
    ) -> Theta:
        return outer_step(theta, deltas, annealed(self.outer_rate, round_number, rounds))

    async def personalise(self, node: Node, model: Model, support: Samples, steps: int) -> None:
        # Adapts as it was trained: mini-batches from the node's store.
        batch = min(self.batch, len(support))
        epochs = round(steps * batch / len(support))
        if epochs:
            await node.store(support)
            await node.train(None, rate=self.rate, batch=batch, epochs=epochs)
