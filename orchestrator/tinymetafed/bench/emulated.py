"""Emulated nodes: the link, a round, the boot."""

import asyncio
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..experiments.experiment import Experiment
from ..federation.client import Client
from ..federation.engines import LinkEngine
from ..federation.federation import Federation
from ..nodes.backends import make_nodes, private_directory
from ..nodes.broadcast import Broadcast
from ..nodes.node import Node
from ..nodes.qemu import QemuTransport
from ..nodes.renode import RenodeTransport
from .measuring import REPEATS, median, sine

MIB = 1 << 20
TICK = 1 / 100  # seconds: /proc counts processors' time in USER_HZ, which is 100 on Linux


@dataclass(frozen=True)
class Link:
    """Seconds for a broadcast of all weights to all nodes, and bytes of it on each one's link."""

    link: str
    nodes: int
    size: int
    seconds: float


def links(nodes: int) -> list[Link]:
    """Both ways side by side: each broadcast by one, then by the other."""
    return asyncio.run(_links(nodes))


async def _links(count: int) -> list[Link]:
    with private_directory() as directory:
        sides: dict[str, LinkEngine] = {}
        try:
            for link in ("dma", "uart"):
                (folder := directory / link).mkdir()
                experiment = sine(f"nodes.count={count}", f"nodes.link={link}")
                sides[link] = LinkEngine(Client(experiment), make_nodes(experiment.nodes, folder))
                await sides[link].boot(range(count))
            theta = sides["dma"].client.model.initial(1)
            taken: dict[str, list[float]] = {link: [] for link in sides}
            size = 0
            for version in range(1, REPEATS + 1):
                # All entries have changed.
                broadcast = Broadcast(theta, np.full(len(theta), version), version)
                for link, side in sides.items():
                    start = time.perf_counter()
                    await asyncio.gather(*(node.set_weights(broadcast) for node in side.nodes))
                    taken[link].append(time.perf_counter() - start)
                    size = side.nodes[0].take_usage().down["weights"]
        finally:
            for side in sides.values():
                await side.close()
    return [Link(link, count, size, median(taken[link])) for link in sides]


@dataclass(frozen=True)
class Round:
    """A round of training. Seconds: from its start to its end; of the processors for the
    orchestrator and for all emulators meanwhile."""

    nodes: int
    parameters: int
    wall: float
    orchestrator: float
    emulators: float

    @property
    def share(self) -> float:
        """Part of the round for which the orchestrator had a processor."""
        return self.orchestrator / self.wall


@dataclass(frozen=True)
class Boot:
    """Seconds until all nodes have said hello; bytes of each then, by what they are (proportional
    set size: what several share is divided among them)."""

    nodes: int
    seconds: float
    memory: dict[str, float]


def boot(experiment: Experiment) -> Boot:
    """Boots the nodes side by side."""
    return asyncio.run(_boot(experiment))


async def _boot(experiment: Experiment) -> Boot:
    with private_directory() as directory:
        nodes = make_nodes(experiment.nodes, directory)
        try:
            start = time.perf_counter()
            await asyncio.gather(*(node.start() for node in nodes))
            return Boot(len(nodes), time.perf_counter() - start, _memory(nodes))
        finally:
            await asyncio.gather(*(node.close() for node in nodes))


def rounds(experiment: Experiment, repeats: int = 50) -> Round:
    """Median over rounds, pricing included, after ten that are not counted.

    The processors' time is a mean, since the system counts it in hundredths of a second.
    """
    return asyncio.run(_rounds(experiment, repeats))


async def _rounds(experiment: Experiment, repeats: int) -> Round:
    count = experiment.nodes.count
    with private_directory() as directory:
        engine = LinkEngine(Client(experiment), make_nodes(experiment.nodes, directory))
        federation = Federation(experiment, engine)
        try:
            state = await federation.start()
            for _ in range(10):
                state = (await federation.round(state)).state
            before, emulators = _own_time(), _emulators_time(engine.nodes)
            wall: list[float] = []
            for _ in range(repeats):
                start = time.perf_counter()
                state = (await federation.round(state)).state
                wall.append(time.perf_counter() - start)
            own = (_own_time() - before) / repeats
            emulated = (_emulators_time(engine.nodes) - emulators) / repeats
            return Round(count, federation.model.parameters, median(wall), own, emulated)
        finally:
            await federation.close()


def _own_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _processes(nodes: Sequence[Node]) -> list[Path]:
    transports = [node.transport for node in nodes]
    emulators = [one.process for one in transports if isinstance(one, QemuTransport)]
    emulators += [one.process for one in transports if isinstance(one, RenodeTransport)]
    return sorted({Path(f"/proc/{one.pid}") for one in emulators if one is not None})


def _emulators_time(nodes: Sequence[Node]) -> float:
    total = 0
    for process in _processes(nodes):
        fields = (process / "stat").read_text().rpartition(") ")[2].split()
        total += int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    return total * TICK


def _memory(nodes: Sequence[Node]) -> dict[str, float]:
    names = {"Pss_Anon": "own", "Pss_File": "program, libraries", "Pss_Shmem": "window, counts"}
    found = dict.fromkeys(names.values(), 0.0)
    for process in _processes(nodes):
        for line in (process / "smaps_rollup").read_text().splitlines()[1:]:
            key, _, value = line.partition(":")
            if key in names:
                found[names[key]] += int(value.split()[0]) * 1024 / len(nodes)
    return found
