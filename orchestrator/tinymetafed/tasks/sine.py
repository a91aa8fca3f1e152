"""Sine regression: y = A·sin(x + φ), another A and φ for each device.

The task of Finn et al. 2017 (MAML, arXiv:1703.03400, section 5.1) and of Nichol et al. 2018
(Reptile, arXiv:1803.02999, section 2): A ∈ [0.1, 5], φ ∈ [0, 2π), x ∈ [−5, 5].
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ..models.layers import Shape
from .base import Part, Task
from .samples import Samples
from .seeding import uniforms

Range = tuple[float, float]
Number = TypeVar("Number", float, NDArray[np.float64])

MOST_KNOWN = 10_000
"""Devices whose samples are kept."""


class Sine(Task):
    """Regression of a sine: another amplitude and phase for each device.

    It is a function of seed and device alone: no two devices have the same sine, so those of
    other parts need no other.
    """

    name: Literal["sine"]
    amplitude: Range = (0.1, 5.0)
    """Range that amplitudes are drawn from."""
    phase: Range = (0.0, 2 * np.pi)
    """Range that phases are drawn from, in radians."""
    x: Range = (-5.0, 5.0)
    """Range of the inputs."""
    grid: Annotated[int, Field(ge=2, le=100_000)] | None = None
    """Evenly spaced values that inputs are taken from; support and query, each in random order,
    have all of them before one comes again, and so share some. Any value if not given."""

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

    def wave(self, seed: int, device: int) -> tuple[float, float]:
        """Amplitude and phase of a device."""
        amplitude, phase = np.random.default_rng([seed, device]).random(2)
        return _scaled(self.amplitude, amplitude), _scaled(self.phase, phase)

    def device(
        self, seed: int, device: int, support: int, query: int, *, part: Part = "seen"
    ) -> tuple[Samples, Samples]:
        """See Task; but on a grid both have the same x."""
        if self.grid is not None:
            settings = self.amplitude, self.phase, self.x, self.grid
            return _on_grid(*settings, seed, device, support, query)
        (samples,) = self._anywhere(seed, [device], support, query)
        return samples

    def population(
        self, seed: int, devices: Sequence[int], support: int, queries: Sequence[int]
    ) -> list[tuple[Samples, Samples]]:
        """See Task."""
        if self.grid is not None or len(set(queries)) != 1:
            return super().population(seed, devices, support, queries)
        known = _known(self.amplitude, self.phase, self.x, seed, support, queries[0])
        new = [device for device in devices if device not in known]
        if len(known) + len(new) > MOST_KNOWN:
            known.clear()
            new = devices
        if new:
            known.update(zip(new, self._anywhere(seed, new, support, queries[0]), strict=True))
        return [known[device] for device in devices]

    def _anywhere(
        self, seed: int, devices: Sequence[int], support: int, query: int
    ) -> list[tuple[Samples, Samples]]:
        """Samples at any x: of each device its amplitude, its phase, then every x are the first
        numbers of its generator."""
        drawn = uniforms([seed], devices, 2 + support + query)
        x = _scaled(self.x, drawn[:, 2:])
        y = _scaled(self.amplitude, drawn[:, :1]) * np.sin(x + _scaled(self.phase, drawn[:, 1:2]))
        tables = np.empty((*x.shape, 2), "<f4")
        tables[:, :, 0], tables[:, :, 1] = x, y
        return _samples(tables, support)


@lru_cache(maxsize=4)
def _known(
    amplitudes: Range, phases: Range, xs: Range, seed: int, support: int, query: int
) -> dict[int, tuple[Samples, Samples]]:
    """The samples of devices that have been asked for: they come again in later rounds."""
    del amplitudes, phases, xs, seed, support, query
    return {}


@lru_cache(maxsize=MOST_KNOWN)
def _on_grid(
    amplitudes: Range,
    phases: Range,
    xs: Range,
    grid: int,
    seed: int,
    device: int,
    support: int,
    query: int,
) -> tuple[Samples, Samples]:
    rng = np.random.default_rng([seed, device])
    amplitude, phase = (_scaled(limits, rng.random()) for limits in (amplitudes, phases))
    points = np.linspace(*xs, grid)
    x = np.concatenate([_draw(rng, points, count) for count in (support, query)])
    table = np.stack([x, amplitude * np.sin(x + phase)], axis=1).astype("<f4")
    (samples,) = _samples(table[np.newaxis], support)
    return samples


def _samples(tables: NDArray[np.float32], support: int) -> list[tuple[Samples, Samples]]:
    """Support and query of each device, of float32 [devices, samples, 2], little-endian."""
    data, whole, part = tables.tobytes(), tables[0].nbytes, tables[0, :support].nbytes
    x, y = tables[:, :, :1], tables[:, :, 1:]
    parts = (x[:, :support], y[:, :support], x[:, support:], y[:, support:])
    return [
        (
            Samples.of(before_x, before_y, data[at : at + part]),
            Samples.of(after_x, after_y, data[at + part : at + whole]),
        )
        for at, before_x, before_y, after_x, after_y in zip(
            range(0, len(data), whole), *parts, strict=True
        )
    ]


def _draw(rng: np.random.Generator, points: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """float64 [count]: all points in random order before one comes again."""
    passes = [rng.permutation(points) for _ in range(-(-count // len(points)))]
    return np.concatenate([points[:0], *passes])[:count]


def _scaled(limits: Range, unit: Number) -> Number:
    """From 0 … 1 to the limits, as numpy's `uniform` does it."""
    low, high = limits
    return low + (high - low) * unit
