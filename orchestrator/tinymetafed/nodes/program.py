"""What a node does in a round, as data: a program is a list of primitives.

A program is the same for all nodes of a round; only the samples differ. It names samples by the set
that they are of: the device's `support` or its `query`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Source = Literal["support", "query"]


@dataclass(frozen=True)
class Store:
    """Puts the samples into the node's memory, in place of those there."""

    samples: Source = "query"


@dataclass(frozen=True)
class Train:
    """SGD on samples in their order.

    Attributes:
        samples: a set, each sample of which is used once and dropped (online learning); or
            "stored" for those in the node's memory.
        rate: of SGD.
        frozen: bit i: the parameters of layer i of the node's description do not move.
        batch: samples in a step.
        epochs: passes over stored samples.
        steps: samples to use of an endless repetition of the set; all of the set once where None.
        part: first sample and the one after the last, of the set; all of it where None. A part
            that a smaller set does not have is left out.
        proximal: μ of FedProx: each step also goes by rate · μ towards the weights that were
            broadcast.
        from_mark: a step starts from the marked weights, with the gradient where the working
            weights are.
        corrected: the control variate is added to each gradient (SCAFFOLD).
    """

    samples: Literal["support", "query", "stored"]
    rate: float
    frozen: int = 0
    batch: int = 1
    epochs: int = 1
    steps: int | None = None
    part: tuple[int, int] | None = None
    proximal: float = 0.0
    from_mark: bool = False
    corrected: bool = False


@dataclass(frozen=True)
class Mark:
    """Remembers the working weights, for steps `from_mark`."""


@dataclass(frozen=True, eq=False)
class Variate:
    """Sends the server's control variate, float32 [parameters]: the node then has its difference to
    its own, for steps `corrected`."""

    values: NDArray[np.float32]


@dataclass(frozen=True)
class Renew:
    """Makes the node's new control variate of the steps that it has done, by option II of SCAFFOLD
    (arXiv:1910.06378, equation 4). rate: of these steps."""

    rate: float


@dataclass(frozen=True)
class Select:
    """Marks the `keep` entries of largest magnitude of what training did to the global part, with
    the residual added where the node keeps one. values: how they are sent, a key of chunk.VALUES.
    """

    keep: int
    values: str = "float32"


@dataclass(frozen=True)
class Send:
    """Sends the marked entries."""


@dataclass(frozen=True)
class Evaluate:
    """Judges the working weights on a set of samples."""

    samples: Source = "query"


Primitive = Store | Train | Mark | Variate | Renew | Select | Send | Evaluate
Program = tuple[Primitive, ...]
