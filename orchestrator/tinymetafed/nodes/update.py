"""What a node sends of what it has learnt."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .library import host_library


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

    def add_to(self, total: NDArray[np.float64], weight: float) -> None:
        """Adds weight · Δ to `total`, float64 [parameters]."""
        found = host_library()
        ffi = found.ffi
        found.lib.tmf_clients_add(
            ffi.from_buffer("double[]", total), ffi.from_buffer("int32_t[]", self.indices),
            ffi.from_buffer("float[]", self.values), len(self.indices), weight,
        )  # fmt: skip
