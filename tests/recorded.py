"""Tables as somebody might have recorded them, for tests of a user's own data."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymetafed.tasks.samples import Samples

NAMES = ("ax", "ay", "activity", "user")
ACTIVITIES = ("run", "sit", "walk")


@dataclass(frozen=True)
class Recorded:
    """Rows of users one behind the other, and each user's of activities one behind the other.

    values: float64 [n, 2]. activities, users: str [n].
    """

    values: NDArray[np.float64]
    activities: NDArray[np.str_]
    users: NDArray[np.str_]

    def rows(self) -> list[list[Any]]:
        """Cells of a CSV file without its heading."""
        return [
            [*map(repr, values), activity, user]
            for values, activity, user in zip(
                self.values.tolist(), self.activities, self.users, strict=True
            )
        ]


def recorded(users: int = 5, each: int = 12, seed: int = 0) -> Recorded:
    """`each` rows of every activity by every user."""
    rng = np.random.default_rng(seed)
    activities = np.tile(np.repeat(ACTIVITIES, each), users)
    names = np.repeat([f"user {i}" for i in range(users)], each * len(ACTIVITIES))
    values = rng.normal(size=(len(names), 2)) * [1, 50] + [3, -7]
    return Recorded(values, activities, names)


def write(path: Path, rows: Sequence[Sequence[Any]], names: Sequence[str] = NAMES) -> Path:
    """A CSV file, or with tabs where its name says so."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerows([names, *rows])
    return path


def nearest(samples: Samples, scaled: NDArray[np.float64]) -> list[int]:
    """The rows of `scaled` [n, …] that these samples are."""
    flat = scaled.reshape(len(scaled), -1)
    found: list[int] = []
    for one in samples.inputs:
        distances = np.abs(flat - one).max(axis=1)
        found.append(int(distances.argmin()))
        assert distances[found[-1]] < 1e-4
    return found
