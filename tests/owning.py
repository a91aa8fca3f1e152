"""Classes and files of a user's own, as tests have them beside an experiment."""

from pathlib import Path

MOMENTUM = """
from typing import Annotated

import numpy as np
from pydantic import Field

from tinymetafed.strategies import ServerState
from tinymetafed.strategies.base import MiniBatchSGD


class Momentum(MiniBatchSGD):
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9

    def start(self, theta, devices):
        return ServerState(theta, {"velocity": np.zeros(len(theta))})

    def aggregate(self, state, updates, server_round):
        velocity = self.momentum * state.kept["velocity"] + self.mean(updates, len(state.theta))
        return state.moved(state.theta + velocity, velocity=velocity)
"""
"""A strategy with a setting and something that it keeps; without momentum it is Reptile without
annealing."""

SHIFTED = '''
from tinymetafed.models.layers import Shape
from tinymetafed.tasks import Task
from tinymetafed.tasks.samples import Samples
import numpy as np


class Shifted(Task):
    """y = x + the number of the device."""

    scale: float = 1.0

    @property
    def shape(self):
        return Shape(1, 1, 1)

    @property
    def outputs(self):
        return 1

    @property
    def target_is_class(self):
        return False

    def device(self, seed, device, support, query, *, part="seen"):
        x = np.random.default_rng([seed, device]).random((support + query, 1))
        y = self.scale * x + device / 1000
        return Samples(x[:support], y[:support]), Samples(x[support:], y[support:])
'''

IN_PROCESS = """
from tinymetafed.nodes.backend import Backend
from tinymetafed.nodes.host import HostTransport


class InProcess(Backend):
    size: int = 1

    async def open(self, node, directory):
        return HostTransport()
"""


def write(folder: Path) -> None:
    """A file for each of them: momentum.py, shifted.py, in_process.py."""
    for name, text in (
        ("momentum", MOMENTUM), ("shifted", SHIFTED), ("in_process", IN_PROCESS),
    ):  # fmt: skip
        (folder / f"{name}.py").write_text(text)


OWN = "strategy={name='./momentum.py:Momentum', query=6, batch=3, epochs=2}"
"""A change that makes the small experiment one by the strategy of the user's own."""
