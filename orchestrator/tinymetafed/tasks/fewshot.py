"""N-way K-shot classification: what tasks have in common whose devices have N classes each.

Vinyals et al. 2016 (Matching networks, arXiv:1606.04080), section 4.1: N classes drawn for each
learning problem, and K examples of each to learn from.
"""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..errors import TinyMetaFedError
from .base import Part, Task
from .samples import Samples


@dataclass(frozen=True)
class Pool:
    """Classes that a device's are drawn from.

    examples: [n, inputs]. unit: the example's value that is 1 in a sample. classes: indices of the
    examples of each. names: of the classes.
    """

    examples: NDArray[np.float32] | NDArray[np.uint8]
    unit: np.float32
    classes: tuple[NDArray[np.intp], ...]
    names: tuple[str, ...]

    @cached_property
    def fewest(self) -> int:
        """Examples of the class that has the fewest."""
        return min(map(len, self.classes))


class FewShot(Task):
    """A device has N classes, drawn without replacement, and the same number of samples of each;
    labels are 0 … N − 1 in the order of drawing. Samples come in random order."""

    ways: Annotated[int, Field(ge=2, le=1000)] = 5
    """N, the classes of a device."""

    @property
    def outputs(self) -> int:
        return self.ways

    @abstractmethod
    def pool(self, seed: int, *, part: Part) -> Pool:
        """The classes of a part's devices. Raises TinyMetaFedError."""

    def device(
        self, seed: int, device: int, support: int, query: int, *, part: Part = "seen"
    ) -> tuple[Samples, Samples]:
        pool = self.pool(seed, part=part)
        shots, each = support // self.ways, (support + query) // self.ways
        if each > pool.fewest:
            raise TinyMetaFedError(
                f"task: {each} samples of a class are asked for, and one has {pool.fewest}; use a "
                "smaller support or query"
            )
        if self.ways > len(pool.classes):
            raise TinyMetaFedError(
                f"task: {self.ways} classes are asked for, and the data have {len(pool.classes)}; "
                "use fewer ways"
            )
        rng, chosen = self._drawn(pool, seed, device)
        rows = np.stack([rng.choice(pool.classes[c], each, replace=False) for c in chosen])
        return _samples(rng, pool, rows[:, :shots]), _samples(rng, pool, rows[:, shots:])

    def class_names(
        self, seed: int, device: int, support: int, query: int, *, part: Part = "seen"
    ) -> list[str]:
        pool = self.pool(seed, part=part)
        _, chosen = self._drawn(pool, seed, device)
        return [pool.names[c] for c in chosen]

    def _drawn(
        self, pool: Pool, seed: int, device: int
    ) -> tuple[np.random.Generator, NDArray[np.intp]]:
        """The classes of a device, and what its samples are drawn by then."""
        rng = np.random.default_rng([seed, device])
        return rng, rng.choice(len(pool.classes), self.ways, replace=False)


def _samples(rng: np.random.Generator, pool: Pool, rows: NDArray[np.intp]) -> Samples:
    """Of the examples in `rows` [classes, examples]."""
    order = rng.permutation(rows.size)
    labels = np.repeat(np.arange(len(rows), dtype=np.uint32), rows.shape[1])
    return Samples(pool.examples[rows.ravel()[order]] / pool.unit, labels[order])
