"""Sine regression: y = A·sin(x + φ), another A and φ for each device.

The task of Finn et al. 2017 (MAML, arXiv:1703.03400, section 5.1) and of Nichol et al. 2018
(Reptile, arXiv:1803.02999, section 2): A ∈ [0.1, 5], φ ∈ [0, 2π), x ∈ [−5, 5].
"""

from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ..models.model import Shape
from .base import Task
from .samples import Samples

Range = tuple[float, float]


class Sine(Task):
    """Settings of the task, which is a function of seed and device alone: no two devices have the
    same sine, so the unseen ones need no other.

    grid: x is one of so many values, evenly spaced, as in the paper's published example; support
    and query, each in random order, have all of them before one comes again, and so share some.
    """

    name: Literal["sine"]
    amplitude: Range = (0.1, 5.0)
    phase: Range = (0.0, 2 * np.pi)
    x: Range = (-5.0, 5.0)
    grid: Annotated[int, Field(ge=2, le=100_000)] | None = None  # any x where not given

    @property
    def shape(self) -> Shape:
        return Shape(1, 1, 1)

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
        return _wave(self.amplitude, self.phase, seed, device)

    def device(
        self, seed: int, device: int, support: int, query: int, *, unseen: bool = False
    ) -> tuple[Samples, Samples]:
        """See Task; but on a grid both have the same x."""
        settings = self.amplitude, self.phase, self.x, self.grid
        return _device(*settings, seed, device, support, query)


@lru_cache(maxsize=10_000)
def _device(
    amplitudes: Range,
    phases: Range,
    xs: Range,
    grid: int | None,
    seed: int,
    device: int,
    support: int,
    query: int,
) -> tuple[Samples, Samples]:
    amplitude, phase, rng = _wave(amplitudes, phases, seed, device)
    x = np.concatenate([_draw(rng, xs, grid, n) for n in (support, query)])[:, np.newaxis]
    y = amplitude * np.sin(x + phase)
    samples = Samples(x.astype(np.float32), y.astype(np.float32))
    return samples[:support], samples[support:]


def _wave(
    amplitudes: Range, phases: Range, seed: int, device: int
) -> tuple[float, float, np.random.Generator]:
    rng = np.random.default_rng([seed, device])
    return float(rng.uniform(*amplitudes)), float(rng.uniform(*phases)), rng


def _draw(rng: np.random.Generator, xs: Range, grid: int | None, count: int) -> NDArray[np.float64]:
    """float64 [count]"""
    if grid is None:
        return rng.uniform(*xs, size=count)
    points = np.linspace(*xs, grid)
    passes = [rng.permutation(points) for _ in range(-(-count // grid))]
    return np.concatenate([points[:0], *passes])[:count]
