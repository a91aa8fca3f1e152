"""Host nodes: a round of many, beside what their training alone takes the C core."""

import asyncio
import os
import resource
import time
from dataclasses import dataclass

import numpy as np

from ..experiments.experiment import Experiment
from ..federation.engines import make_engine
from ..federation.federation import Federation
from ..federation.state import FederationState
from ..nodes.backends import private_directory
from ..nodes.broadcast import Broadcast
from ..nodes.host import HostTransport
from ..nodes.node import Node
from ..nodes.program import Train
from ..strategies import Round
from .measuring import median

STEPS = 30  # of a node, timed before each round


@dataclass(frozen=True)
class HostRound:
    """A round. Seconds: from its start to its end; of a processor for the orchestrator's process;
    and of the C core alone for the inner steps of all nodes, on one core.

    memory: bytes of the orchestrator's process at most.
    """

    threads: int
    nodes: int
    parameters: int
    wall: float
    processors: float
    core: float
    memory: int


def rounds(experiment: Experiment, repeats: int = 3) -> HostRound:
    """Medians over rounds, after two that are not counted."""
    return asyncio.run(_rounds(experiment, repeats))


async def _rounds(experiment: Experiment, repeats: int) -> HostRound:
    with private_directory() as directory:
        federation = Federation(experiment, make_engine(experiment, directory))
        core = _Core(federation)
        try:
            state = await federation.start()
            await core.start(state)
            for _ in range(2):
                state = (await federation.round(state)).state
            wall: list[float] = []
            processors: list[float] = []
            alone: list[float] = []
            for _ in range(repeats):
                # Side by side: a machine that others use is not as fast all the time.
                alone += [await core.steps() for _ in range(STEPS)]
                start, before = time.perf_counter(), time.process_time()
                state = (await federation.round(state)).state
                wall.append(time.perf_counter() - start)
                processors.append(time.process_time() - before)
        finally:
            await core.close()
            await federation.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    nodes = experiment.nodes
    times = median(wall), median(processors), median(alone) * nodes.count
    threads = nodes.threads or len(os.sched_getaffinity(0))
    return HostRound(threads, nodes.count, federation.model.parameters, *times, memory)


class _Timed(HostTransport):
    """Notes how long the C core takes for a frame."""

    taken = 0.0

    async def write(self, data: bytes) -> None:
        """See Transport."""
        start = time.perf_counter()
        await super().write(data)
        self.taken += time.perf_counter() - start


class _Core:
    """The inner steps of a node in a round, alone on one core: frames with nothing else in them."""

    def __init__(self, federation: Federation) -> None:
        self._client = federation.engine.client
        self._transport = _Timed()
        self._node = Node("node", self._open)
        self._version = 0

    async def _open(self) -> HostTransport:
        return self._transport

    async def start(self, state: FederationState) -> None:
        """Boots the node; the program is that of the first round."""
        client, settings = self._client, self._client.settings
        await client.boot(self._node)
        program = settings.strategy.program(state.server, client.model, Round(0, settings.rounds))
        self._train = tuple(one for one in program if isinstance(one, Train))
        ((self._support, self._query),) = client.population([0])
        self._theta = state.theta

    async def steps(self) -> float:
        """Seconds for them."""
        self._version += 1
        changed = np.full(len(self._theta), self._version)
        await self._node.set_weights(Broadcast(self._theta, changed, self._version))
        self._transport.taken = 0.0
        await self._node.run(self._train, self._support, self._query)
        return self._transport.taken

    async def close(self) -> None:
        """Ends the node."""
        await self._node.close()
