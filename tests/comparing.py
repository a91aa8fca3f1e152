"""A small comparison, on a folder."""

from pathlib import Path

from conftest import SMALL
from tinymetafed.experiments import comparison
from tinymetafed.experiments.comparison import Cell, ComparisonSettings
from tinymetafed.experiments.scheduler import Comparison
from tinymetafed.results.store import Store

TWO = """
name = "two"
seeds = [1, 2]
[[tasks]]
label = "sine"
experiment = "small.toml"
target = 100
[tasks.strategies.reptile]
query = 6
batch = 3
epochs = 2
[[strategies]]
label = "few"
name = "tinymetafed"
percent = 10
[[strategies]]
label = "Reptile"
name = "reptile"
"""

DIVERGING = ("percent = 10", "global_rate = 10\nlocal_rate = 10\nquery = 500")
"""A change by which training diverges with one of the strategies."""
STOPPING = ("target = 100", "target = 100\nchanges.participation.diverged = 'stop'")
"""A change by which a run ends there."""


def write(folder: Path, *changes: tuple[str, str]) -> Path:
    """A file with TWO in which texts are replaced, beside SMALL."""
    text = TWO
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "small.toml").write_text(SMALL)
    path = folder / "two.toml"
    path.write_text(text)
    return path


def read(folder: Path, *changes: tuple[str, str]) -> tuple[ComparisonSettings, list[Cell]]:
    """What is in that file."""
    return comparison.read(write(folder, *changes))


def execute(folder: Path, cells: list[Cell]) -> tuple[Store, Comparison, set[tuple[int, int]]]:
    """Runs what is not in the folder's store; returns the steps of progress too: run, rounds."""
    store = Store(folder / "runs")
    compared = Comparison(cells, store)
    seen: set[tuple[int, int]] = set()
    compared.execute(2, lambda i, done, doing: seen.add((i, done)))
    return store, compared, seen
