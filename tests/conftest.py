"""What tests of several parts share."""

from collections.abc import Callable
from typing import Any

import pytest

from tinymetafed.experiment import Experiment, parse

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


@pytest.fixture
def experiment() -> MakeExperiment:
    """A small experiment, with `KEY=VALUE` changes to it."""

    def make(*overrides: str, **settings: Any) -> Experiment:
        changes = [f"{key}={value}" for key, value in settings.items()]
        return parse(SMALL, "SMALL", (*overrides, *changes))

    return make
