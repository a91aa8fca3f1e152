"""FedAvgM: Hsu, Qi, Brown 2019, arXiv:1909.06335. The server keeps a velocity."""

from typing import Annotated

import numpy as np
from pydantic import Field

import tinymetafed as tmf


class FedAvgM(tmf.MiniBatchSGD):
    """Nodes learn in epochs of mini-batches; the server goes on in the direction of earlier rounds.

    The fields are the keys of [strategy] in an experiment.
    """

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9

    def start(self, theta, devices):
        return tmf.ServerState(theta, {"velocity": np.zeros(len(theta))})

    def aggregate(self, state, updates, server_round):
        mean = self.mean(updates, len(state.theta))
        velocity = self.momentum * state.kept["velocity"] + mean
        return state.moved(state.theta + velocity, velocity=velocity)
