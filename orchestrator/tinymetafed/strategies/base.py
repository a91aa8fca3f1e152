"""What a strategy is, and the steps that several share."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..model import Model
from ..nodes.node import Delta, Node
from ..samples import Samples

Theta = NDArray[np.float32]


class Strategy(Protocol):
    """An algorithm of federated meta-learning, composed of the nodes' primitives.

    A strategy holds its settings and nothing else: what it does is a function of its arguments.

    Attributes:
        uses_local: whether parts of the model that are marked local stay on the nodes.
        support: samples that a training device adapts its local part on, may be 0.
        query: samples that a training device learns from.
        batch: samples per step of SGD, more than one where the node is to hold a gradient.
        capacity: samples that a node is to store.
    """

    @property
    def uses_local(self) -> bool: ...
    @property
    def support(self) -> int: ...
    @property
    def query(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def capacity(self) -> int: ...

    async def adapt(self, node: Node, model: Model, support: Samples, query: Samples) -> Delta:
        """Steps 3 to 5 on one node, which has θ: trains and returns what is sent of Δ = θ' − θ."""
        ...

    def aggregate(
        self, theta: Theta, deltas: Sequence[Delta], round_number: int, rounds: int
    ) -> Theta:
        """Step 6: the new θ from the deltas of round `round_number` of 0 … rounds − 1."""
        ...

    async def personalise(self, node: Node, model: Model, support: Samples, steps: int) -> None:
        """Few-shot adaptation of an unseen device, which has θ, in `steps` inner steps."""
        ...


def annealed(rate: float, round_number: int, rounds: int) -> float:
    """α_t: linear from `rate` in round 0 to 0 after the last."""
    return rate * (1 - round_number / rounds)


def outer_step(theta: Theta, deltas: Sequence[Delta], rate: float) -> Theta:
    """θ + rate · mean of Δ over the nodes, an entry that was not sent counting as zero.

    In float64 and in the order of the nodes, rounded once: the same bits everywhere.
    """
    total = np.zeros(len(theta))
    for delta in deltas:
        total[delta.indices] += delta.values
    return (theta + rate * (total / len(deltas))).astype(np.float32)


def stream(samples: Samples, steps: int) -> Samples:
    """The first `steps` samples of an endless repetition of `samples`."""
    index = np.arange(steps) % len(samples)
    return Samples(samples.inputs[index], samples.targets[index])
