"""Partitions: records that nobody's name is on, shared out to devices that are made."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..settings import Settings

Rows = NDArray[np.intp]
Alpha = Annotated[float, Field(ge=1e-3, le=1e6)]


class _Partition(Settings):
    """Records that are shared out to devices."""

    devices: Annotated[int, Field(ge=2, le=1_000_000)]
    """Devices that are made, seen and unseen together."""

    @property
    def by_class(self) -> bool:
        """Whether records need a class for it."""
        return False

    def fewest(self, records: int) -> int:
        """Records of the device that has the fewest."""
        return records // self.devices

    def deal(self, rng: np.random.Generator, labels: NDArray[np.generic]) -> list[Rows]:
        """Indices of `labels` for each device, none in two of them; some may be left over."""
        raise NotImplementedError


class Iid(_Partition):
    """Devices are alike: the same number of records each, drawn at random."""

    name: Literal["iid"]

    def deal(self, rng: np.random.Generator, labels: NDArray[np.generic]) -> list[Rows]:
        size = self.fewest(len(labels))
        order = rng.permutation(len(labels))
        return [order[i * size : (i + 1) * size] for i in range(self.devices)]


class Dirichlet(_Partition):
    """The same number of records each, of classes in a proportion of the device's own, drawn from a
    Dirichlet distribution: the smaller α, the fewer classes a device has (Hsu, Qi, Brown 2019,
    arXiv:1909.06335)."""

    name: Literal["dirichlet"]
    alpha: Alpha
    """α: the smaller, the fewer classes a device has."""

    @property
    def by_class(self) -> bool:
        return True

    def deal(self, rng: np.random.Generator, labels: NDArray[np.generic]) -> list[Rows]:
        size = self.fewest(len(labels))
        return parts_of(rng, labels, size, self.alpha, most=self.devices)


class Shards(_Partition):
    """Records in the order of their classes are cut into shards of the same size, of which each
    device gets `shards` at random (McMahan et al. 2017, arXiv:1602.05629, section 3)."""

    name: Literal["shards"]
    shards: Annotated[int, Field(ge=1, le=1000)] = 2
    """Shards of a device."""

    @property
    def by_class(self) -> bool:
        return True

    def fewest(self, records: int) -> int:
        return self.shards * (records // (self.devices * self.shards))

    def deal(self, rng: np.random.Generator, labels: NDArray[np.generic]) -> list[Rows]:
        count = self.devices * self.shards
        size = len(labels) // count
        shuffled = rng.permutation(len(labels))
        order = shuffled[np.argsort(labels[shuffled], kind="stable")]
        shards = order[: count * size].reshape(count, size)[rng.permutation(count)]
        return list(shards.reshape(self.devices, self.shards * size))


class Size(_Partition):
    """Devices have `smallest` records and, of what is left, a share drawn from a symmetric
    Dirichlet distribution: the smaller α, the more the sizes differ (Li et al. 2022,
    arXiv:2102.02079, quantity skew)."""

    name: Literal["size"]
    alpha: Alpha
    """α: the smaller, the more the sizes differ."""
    smallest: Annotated[int, Field(ge=1, le=1_000_000)]
    """Records that every device has."""

    def fewest(self, records: int) -> int:
        return self.smallest if records >= self.devices * self.smallest else 0

    def deal(self, rng: np.random.Generator, labels: NDArray[np.generic]) -> list[Rows]:
        left = len(labels) - self.devices * self.smallest
        share = rng.dirichlet(np.full(self.devices, self.alpha))
        sizes = self.smallest + rng.multinomial(left, share)
        return np.split(rng.permutation(len(labels)), np.cumsum(sizes)[:-1])


Partition = Annotated[Iid | Dirichlet | Shards | Size, Field(discriminator="name")]


def parts_of(
    rng: np.random.Generator,
    labels: NDArray[np.generic],
    size: int,
    alpha: float | None,
    most: int | None = None,
) -> list[NDArray[np.intp]]:
    """As many parts of `size` indices of `labels` as there are, or `most`, none in two of them.

    A part's classes are drawn by q ~ Dirichlet(α·p), p being their proportion in `labels`, from
    what is left; without α by what is left alone.
    """
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    left = [rng.permutation(rows).tolist() for rows in classes]
    proportion = np.array([len(rows) for rows in left]) / len(labels)
    parts: list[NDArray[np.intp]] = []
    for _ in range(len(labels) // size if most is None else most):
        q = None if alpha is None else rng.dirichlet(alpha * proportion)
        part: list[int] = []
        while len(part) < size:
            counts = np.array([len(rows) for rows in left])
            weights = counts if q is None else q * (counts > 0)
            if not weights.any():  # this device's classes are used up
                weights = counts
            part.append(left[rng.choice(len(left), p=weights / weights.sum())].pop())
        parts.append(np.array(part))
    return parts
