"""A process of a Ray cluster that host nodes of a round are spread over."""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import TinyMetaFedError
from ..models.model import FirstWeights
from ..nodes.broadcast import Broadcast
from ..nodes.library import library_build
from ..nodes.program import Program
from ..plugins import Source, adopt, blaming, sources
from ..results.store import DeviceEvaluation
from .client import Client, FitInstructions, FitResult
from .host_clients import HostClients, HostNode
from .settings import FederationSettings


@dataclass(frozen=True)
class Setup:
    """What all of a federation's work has in common.

    settings: as JSON. first: weights that go with them. build: of the host library
    that its nodes run. capacity: of a frame's body. sources: of users' classes.
    """

    settings: str
    first: FirstWeights
    build: bytes
    capacity: int
    sources: tuple[Source, ...]

    @classmethod
    def of(cls, settings: FederationSettings, capacity: int) -> "Setup":
        """With this machine's build. Raises TinyMetaFedError where there is none."""
        own = settings.model_dump_json(include=set(FederationSettings.model_fields))
        mine = tuple(sources(settings))
        return cls(own, settings.model.first, library_build(), capacity, mine)


@dataclass(frozen=True)
class Weights:
    """Of a broadcast: see there."""

    theta: NDArray[np.float32]
    changed: NDArray[np.int64]
    version: int

    @property
    def broadcast(self) -> Broadcast:
        """Made anew, without what another process has kept for its own use."""
        return Broadcast(self.theta, self.changed, self.version)


@dataclass(frozen=True)
class Fit:
    """Nodes, and what each is to learn."""

    nodes: Sequence[HostNode]
    instructions: Sequence[FitInstructions]


@lru_cache(maxsize=4)
def _clients(setup: Setup) -> HostClients:
    if library_build() != setup.build:
        raise TinyMetaFedError(
            f"{socket.gethostname()}: its host build of the firmware is another than here; "
            "install the same wheel there, or build the same source with the same compiler"
        )
    adopt(setup.sources)
    settings = FederationSettings.model_validate_json(setup.settings)
    client = Client(settings.starting_with(setup.first))
    return HostClients(client, setup.capacity, threads=1)


def fit(setup: Setup, program: Program, weights: Weights, work: Fit) -> list[FitResult]:
    """HostClients.fit. Raises TinyMetaFedError."""
    try:
        with blaming():
            clients = _clients(setup)
            return clients.fit(program, weights.broadcast, work.nodes, work.instructions)
    except TinyMetaFedError as error:
        raise TinyMetaFedError(str(error)) from None  # its kinds do not travel


def evaluate(
    setup: Setup, done: int, weights: Weights, devices: Sequence[int]
) -> list[DeviceEvaluation]:
    """HostClients.evaluate. Raises TinyMetaFedError."""
    try:
        with blaming():
            return asyncio.run(_clients(setup).evaluate(weights.broadcast, done, devices))
    except TinyMetaFedError as error:
        raise TinyMetaFedError(str(error)) from None
