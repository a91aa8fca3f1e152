"""Host nodes: a round of many, beside what their training alone takes the C core."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np

from ..experiments.experiment import Experiment
from ..federation.client import Lesson, Work
from ..federation.engines import make_engine
from ..federation.rounds import Federation, ServerState
from ..link import messages
from ..nodes.backends import make_nodes, private_directory
from ..nodes.host import HostTransport
from ..nodes.node import Broadcast, Node
from .measuring import REPEATS, median


@dataclass(frozen=True)
class HostRound:
    """A round. Seconds: from its start to its end; of a processor for the orchestrator's process;
    and of the C core alone for the inner steps of all nodes, on one core.

    memory: bytes of the orchestrator's process at most.
    """

    engine: str
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
        federation = Federation(experiment, make_nodes(experiment.nodes, directory), make_engine)
        try:
            await federation.start()
            state = ServerState.start(federation.model.initial(experiment.seed))
            for _ in range(2):
                state, *_ = await federation.round(state)
            wall: list[float] = []
            processors: list[float] = []
            for _ in range(repeats):
                start, before = time.perf_counter(), time.process_time()
                state, *_ = await federation.round(state)
                wall.append(time.perf_counter() - start)
                processors.append(time.process_time() - before)
        finally:
            await federation.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    nodes = experiment.nodes
    core = await core_time(experiment) * nodes.count
    times = median(wall), median(processors), core
    return HostRound(nodes.engine, nodes.count, federation.model.parameters, *times, memory)


class _Timed(HostTransport):
    """Notes how long the C core takes for requests to train."""

    def __init__(self) -> None:
        super().__init__()
        self.training = False
        self.taken = 0.0

    async def write(self, data: bytes) -> None:
        """See Transport."""
        start = time.perf_counter()
        await super().write(data)
        if self.training:
            self.taken += time.perf_counter() - start

    @asynccontextmanager
    async def watch(self, request: messages.Request) -> AsyncIterator[None]:
        """See Node."""
        self.training = isinstance(request, messages.Train)
        yield


async def core_time(experiment: Experiment) -> float:
    """Seconds that the C core takes for the inner steps of a node in a round, on one core."""
    work = Work(experiment)
    transport = _Timed()

    async def open_transport() -> HostTransport:
        return transport

    node = Node("node", open_transport, watch=transport.watch)
    await work.boot(node)
    theta = work.model.initial(experiment.seed)
    taken: list[float] = []
    for version in range(1, 30 * REPEATS):
        broadcast = Broadcast(theta, np.full(len(theta), version), version)
        transport.taken = 0.0
        await work.learn(node, broadcast, Lesson(0, 0, None))
        taken.append(transport.taken)
    await node.close()
    return median(taken)
