"""Host nodes: a round of many, beside what their training alone takes the C core."""

import asyncio
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..experiments.experiment import Experiment
from ..federation.client import Client
from ..federation.engines import make_engine
from ..federation.federation import Federation
from ..nodes.backends import private_directory
from ..nodes.broadcast import Broadcast
from ..nodes.host import HostTransport
from ..nodes.node import Node
from ..nodes.program import Train
from ..strategies import Round
from .measuring import REPEATS, median


@dataclass(frozen=True)
class HostRound:
    """A round. Seconds: from its start to its end; of a processor for the orchestrator's process;
    and of the C core alone for the inner steps of all nodes, on one core.

    memory: bytes of the orchestrator's process at most.
    """

    engine: str
    threads: int | None
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
        try:
            state = await federation.start()
            for _ in range(2):
                state = (await federation.round(state)).state
            wall: list[float] = []
            processors: list[float] = []
            for _ in range(repeats):
                start, before = time.perf_counter(), time.process_time()
                state = (await federation.round(state)).state
                wall.append(time.perf_counter() - start)
                processors.append(time.process_time() - before)
        finally:
            await federation.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    nodes = experiment.nodes
    core = await core_time(experiment) * nodes.count
    times = median(wall), median(processors), core
    threads = nodes.threads if nodes.engine == "local" else None
    return HostRound(
        nodes.engine, threads, nodes.count, federation.model.parameters, *times, memory
    )


class _Timed(HostTransport):
    """Notes how long the C core takes for a frame."""

    taken = 0.0

    async def write(self, data: bytes) -> None:
        """See Transport."""
        start = time.perf_counter()
        await super().write(data)
        self.taken += time.perf_counter() - start


async def core_time(experiment: Experiment) -> float:
    """Seconds that the C core takes for the inner steps of a node in a round, on one core: for the
    program's training, frames with nothing else in them."""
    client = Client(experiment)
    transport = _Timed()

    async def open_transport() -> HostTransport:
        return transport

    node = Node("node", open_transport)
    await client.boot(node)
    theta = client.model.initial(experiment.seed)
    start = Federation(experiment, make_engine(experiment, Path())).first_state()
    at = Round(0, experiment.rounds)
    program = experiment.strategy.program(start.server, client.model, at)
    train = tuple(one for one in program if isinstance(one, Train))
    ((support, query),) = client.population([0])
    taken: list[float] = []
    for version in range(1, 30 * REPEATS):
        await node.set_weights(Broadcast(theta, np.full(len(theta), version), version))
        transport.taken = 0.0
        await node.run(train, support, query)
        taken.append(transport.taken)
    await node.close()
    return median(taken)
