"""What tests of several parts share."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from running import execute
from tinymetafed.experiments.experiment import Experiment, parse
from tinymetafed.places import PROJECT
from tinymetafed.results.store import Store
from tinymetafed.tasks import datasets, keywords, omniglot, tabular
from tinymetafed.tasks.base import warn

# What Ctrl-C sends is ignored by what a shell runs in its background, and by all that starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Whatever a user has set, commands that tests call have the stores of their folders.
os.environ.pop("TMF_RUNS", None)

# The same examples every time, however busy the machine is.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tests")

SMALL = """
name = "test"
rounds = 4
nodes = { backend = "host", count = 3 }
task = { name = "sine" }
strategy = { name = "tinymetafed", support = 4, query = 6, outer_rate = 2.0 }
evaluation = { devices = 5, every = 2, support = 5, steps = 5, query = 8 }
[model]
layers = [
    { units = 6, activation = "tanh" },
    { units = 5, activation = "relu" },
    { units = 1, local = true },
]
"""

MakeExperiment = Callable[..., Experiment]
FindReal = Callable[[datasets.File], None]
UseCard = Callable[[datasets.Card], None]

REAL_DATA = [Path(given)] if (given := os.environ.get("TMF_DATA")) else []
REAL_DATA += [found for p in PROJECT.parents if (found := p / "shared/data").is_dir()]


@pytest.fixture
def experiment() -> MakeExperiment:
    """A small experiment, with `KEY=VALUE` changes to it."""

    def make(*overrides: str, **settings: Any) -> Experiment:
        changes = [f"{key}={value}" for key, value in settings.items()]
        return parse(SMALL, "SMALL", (*overrides, *changes))

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the small experiment in small.toml."""
    (tmp_path / "small.toml").write_text(SMALL)
    return tmp_path


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Runs to compare: 1 to 3 of three seeds, 4 with another setting, 5 the same as 1; 6 and 7 by
    another strategy, of two seeds and on QEMU."""
    folder = tmp_path_factory.mktemp("compared")
    reptile = ("strategy={name='reptile', query=6, batch=3, epochs=2}", "name=reptile")
    reptile += ("nodes={backend='qemu', count=2}",)
    for changes in (
        (), ("seed=2",), ("seed=10",), ("strategy.percent=10",), (),
        reptile, (*reptile, "seed=2"),
    ):  # fmt: skip
        store, _ = execute(parse(SMALL, "SMALL", changes), folder)
    return store


def forget_data() -> None:
    """What tasks keep in memory is read again, and what they warn of is told again."""
    for kept in (omniglot._pool, keywords._split, tabular._deal, warn):
        kept.cache_clear()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to put data sets into, named by TMF_DATA; the cache is another one."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("TMF_DATA", str(folder))
    monkeypatch.setattr(datasets, "CACHE", tmp_path / "cache")
    forget_data()
    yield folder
    forget_data()


@pytest.fixture
def real_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> FindReal:
    """Finds a file of a real data set, in the folder of TMF_DATA or of shared/data beside the
    project, or skips the test."""

    def find(file: datasets.File) -> None:
        for folder in REAL_DATA:
            monkeypatch.setenv("TMF_DATA", str(folder))
            if any(path.is_file() for path in datasets._places(file)):
                return
        pytest.skip(f"{file.name} is in no folder that TMF_DATA names")

    return find


@pytest.fixture
def use_card(monkeypatch: pytest.MonkeyPatch) -> UseCard:
    """Puts a card in the place of the project's."""

    def use(card: datasets.Card) -> None:
        monkeypatch.setattr(datasets, "card", lambda kind, name: card)

    return use
