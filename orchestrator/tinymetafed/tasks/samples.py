"""Samples: what a device's sensor delivers."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Samples:
    """Inputs with their targets.

    inputs: float32 [n, values per sample].
    targets: float32 [n, outputs] for a loss on values, uint32 [n] for one on classes.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32] | NDArray[np.uint32]

    @classmethod
    def of(
        cls, inputs: NDArray[np.float32], targets: NDArray[np.float32], packed: bytes
    ) -> "Samples":
        """Samples that were packed already."""
        samples = cls.__new__(cls)  # a round makes many, and a frozen dataclass takes its time
        vars(samples).update(inputs=inputs, targets=targets, packed=packed)
        return samples

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, part: slice) -> "Samples":
        return Samples(self.inputs[part], self.targets[part])

    @property
    def size(self) -> int:
        """Bytes of one packed sample."""
        targets = self.targets.shape[1] if self.targets.ndim == 2 else 1
        return 4 * (self.inputs.shape[1] + targets)

    @cached_property
    def packed(self) -> bytes:
        """The samples one behind the other as the node takes them: inputs, then target."""
        if not len(self):
            return b""
        parts = self.inputs, self.targets.reshape(len(self), -1)
        words = [part.view("u4").astype("<u4", copy=False) for part in parts]
        return np.concatenate(words, axis=1).tobytes()
