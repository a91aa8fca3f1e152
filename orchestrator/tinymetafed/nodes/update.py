"""What a node sends of what it has learnt."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Update:
    """The entries of Δ = θ' − θ that a node sent.

    device: that it played. samples: of its query set, which strategies may weigh by. indices: int32
    [k], ascending. values: float32 [k].
    """

    device: int
    samples: int
    indices: NDArray[np.int32]
    values: NDArray[np.float32]
