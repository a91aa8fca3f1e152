"""Sine regression: y = A·sin(x + φ), another A and φ for each device.

The task of Finn et al. 2017 (MAML, arXiv:1703.03400, section 5.1) and of Nichol et al. 2018
(Reptile, arXiv:1803.02999, section 2): A ∈ [0.1, 5], φ ∈ [0, 2π), x ∈ [−5, 5].
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ..samples import Samples
from .base import Task


class Sine(Task):
    """Settings of the task, which is a function of seed and device alone: no two devices have the
    same sine, so the unseen ones need no other.

    grid: x is one of so many values, evenly spaced, as in the paper's published example; support
    and query, each in random order, have all of them before one comes again, and so share some.
    """

    name: Literal["sine"]
    amplitude: tuple[float, float] = (0.1, 5.0)
    phase: tuple[float, float] = (0.0, 2 * np.pi)
    x: tuple[float, float] = (-5.0, 5.0)
    grid: Annotated[int, Field(ge=2, le=100_000)] | None = None  # any x where not given

    @property
    def inputs(self) -> int:
        return 1

    @property
    def outputs(self) -> int:
        return 1

    @property
    def target_is_class(self) -> bool:
        return False

    @model_validator(mode="after")
    def _ranges_ascend(self) -> "Sine":
        for key in ("amplitude", "phase", "x"):
            low, high = getattr(self, key)
            if not low < high:
                raise ValueError(f"{key}: the first value has to be below the second")
        return self

    def wave(self, seed: int, device: int) -> tuple[float, float, np.random.Generator]:
        """Amplitude and phase of a device, and the generator that its samples come from."""
        rng = np.random.default_rng([seed, device])
        return float(rng.uniform(*self.amplitude)), float(rng.uniform(*self.phase)), rng

    def device(
        self, seed: int, device: int, support: int, query: int, *, unseen: bool = False
    ) -> tuple[Samples, Samples]:
        """See Task; but on a grid both have the same x."""
        amplitude, phase, rng = self.wave(seed, device)
        x = np.concatenate([self._draw(rng, support), self._draw(rng, query)])[:, np.newaxis]
        y = amplitude * np.sin(x + phase)
        samples = Samples(x.astype(np.float32), y.astype(np.float32))
        return samples[:support], samples[support:]

    def _draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """float64 [count]"""
        if self.grid is None:
            return rng.uniform(*self.x, size=count)
        points = np.linspace(*self.x, self.grid)
        passes = [rng.permutation(points) for _ in range(-(-count // self.grid))]
        return np.concatenate([points[:0], *passes])[:count]
