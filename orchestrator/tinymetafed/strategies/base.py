"""What a strategy is, and the steps that several share."""

from collections.abc import Sequence
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..models.model import Model
from ..nodes.node import Delta, Node
from ..settings import Settings
from ..tasks.samples import Samples

Theta = NDArray[np.float32]
Rate = Annotated[float, Field(gt=0, le=10)]
Count = Annotated[int, Field(ge=1, le=100_000)]


class Strategy(Protocol):
    """An algorithm of federated meta-learning, composed of the nodes' primitives.

    A strategy holds its settings and nothing else: what it does is a function of its arguments.

    Attributes:
        uses_local: whether parts of the model that are marked local stay on the nodes.
        serial: whether one node takes part in a round, and no more.
        keeps: whether nodes are to keep what of their updates was not sent: the residual.
        support: samples that a training device adapts its local part on, may be 0.
        query: samples that a training device learns from.
        batch: samples per step of SGD, more than one where the node is to hold a gradient.
        capacity: samples that a node is to store.
    """

    @property
    def uses_local(self) -> bool: ...
    @property
    def serial(self) -> bool: ...
    @property
    def keeps(self) -> bool: ...
    @property
    def support(self) -> int: ...
    @property
    def query(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def capacity(self) -> int: ...

    async def adapt(
        self, node: Node, model: Model, support: Samples, query: Samples, round_number: int,
        rounds: int,
    ) -> Delta:  # fmt: skip
        """Steps 3 to 5 of round `round_number` of 0 … rounds − 1 on one node, which has θ: trains
        and returns what is sent of Δ = θ' − θ."""
        ...

    def aggregate(
        self, theta: Theta, deltas: Sequence[Delta], round_number: int, rounds: int
    ) -> Theta:
        """Step 6: the new θ from the deltas of round `round_number` of 0 … rounds − 1."""
        ...

    async def personalise(self, node: Node, model: Model, support: Samples, steps: int) -> None:
        """Few-shot adaptation of an unseen device, which has θ, in `steps` inner steps."""
        ...


class Usual(Settings):
    """What holds for a strategy that does not say otherwise."""

    @property
    def uses_local(self) -> bool:
        return False

    @property
    def serial(self) -> bool:
        return False

    @property
    def keeps(self) -> bool:
        return False

    @property
    def capacity(self) -> int:
        return 0


class MiniBatches(Usual):
    """Settings of strategies whose nodes store their samples, and learn from them in several epochs
    of mini-batches."""

    rate: Rate = 0.01
    query: Count = 32
    batch: Annotated[int, Field(ge=1, le=65535)] = 8
    epochs: Annotated[int, Field(ge=1, le=65535)] = 8

    @property
    def support(self) -> int:
        return 0

    @property
    def capacity(self) -> int:
        return self.query

    async def learn(self, node: Node, query: Samples) -> None:
        """All parameters move."""
        await node.store(query)
        await node.train(None, rate=self.rate, batch=self.batch, epochs=self.epochs)

    async def personalise(self, node: Node, model: Model, support: Samples, steps: int) -> None:
        # Adapts as it was trained: mini-batches from the node's store.
        batch = min(self.batch, len(support))
        epochs = round(steps * batch / len(support))
        if epochs:
            await node.store(support)
            await node.train(None, rate=self.rate, batch=batch, epochs=epochs)


def annealed(rate: float, round_number: int, rounds: int) -> float:
    """α_t: linear from `rate` in round 0 to 0 after the last."""
    return rate * (1 - round_number / rounds)


async def whole_update(node: Node, model: Model) -> Delta:
    """All of Δ, where no part is local."""
    return await node.update(model.global_runs, model.parameters)


def outer_step(
    theta: Theta, deltas: Sequence[Delta], rate: float, weights: Sequence[int] | None = None
) -> Theta:
    """θ + rate · mean of Δ over the nodes, an entry that was not sent counting as zero.

    weights: of the nodes in the mean; alike where not given. In float64 and in the order of the
    nodes, rounded once: the same bits everywhere.
    """
    weights = [1] * len(deltas) if weights is None else weights
    total = np.zeros(len(theta))
    for delta, weight in zip(deltas, weights, strict=True):
        total[delta.indices] += weight * delta.values.astype(np.float64)
    return (theta + rate * (total / sum(weights))).astype(np.float32)


def stream(samples: Samples, steps: int) -> Samples:
    """The first `steps` samples of an endless repetition of `samples`."""
    index = np.arange(steps) % len(samples)
    return Samples(samples.inputs[index], samples.targets[index])
