"""What has the nodes at work: their links, the shared library for host nodes, or a Ray cluster."""

import asyncio
import gc
from collections.abc import Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import TinyMetaFedError
from ..link import Hello
from ..nodes import limits
from ..nodes.backends import make_group
from ..nodes.broadcast import Broadcast
from ..nodes.events import NodeEvent
from ..nodes.host import open_host
from ..nodes.node import Node, take_usages
from ..nodes.noise import Noise
from ..nodes.program import Program
from ..nodes.recording import FrameRecorder
from ..nodes.settings import NodeKind
from ..nodes.usage import Usage
from ..results.store import DeviceEvaluation
from .client import Client, FitInstructions, FitResult
from .host_clients import HostClients, HostNode
from .settings import FederationSettings

T = TypeVar("T")


@dataclass(frozen=True)
class RoundOrder:
    """A round's work: nodes by their indices, the program of all of them, the weights that they
    begin with, and what each is to learn; and whether it is one of those that are counted."""

    nodes: Sequence[int]
    program: Program
    broadcast: Broadcast
    instructions: Sequence[FitInstructions]
    counts: bool = True


class Engine(Protocol):
    """What has the nodes at work; results are the same from all of them, bit for bit.

    Attributes:
        client: the work of a node.
        hellos: of a node of each kind, once it has booted.
        memory: bytes that the model, and what training needs, take on a node.
    """

    client: Client

    @property
    def hellos(self) -> Sequence[Hello]: ...
    @property
    def memory(self) -> int: ...

    async def boot(self, nodes: Collection[int]) -> None:
        """Boots nodes and describes the model to them. Raises TinyMetaFedError."""
        ...

    async def end(self, nodes: Collection[int]) -> None:
        """Ends nodes. What they have done before is counted with what they do next."""
        ...

    async def place(
        self, node: int, theta: NDArray[np.float32], version: int, sequence: int
    ) -> None:
        """Brings a node that was booted to where another was, which held weights of a version and
        had got frames up to a number. Not counted. See Node.hold."""
        ...

    def boot_again(self, node: int, times: int) -> None:
        """Counts for a node that it has booted more often, or less."""
        ...

    async def fit(self, order: RoundOrder) -> list[FitResult]:
        """Steps 2 to 5 of a round, in the order of the nodes. Raises TinyMetaFedError."""
        ...

    async def evaluate(
        self, broadcast: Broadcast, done: int, devices: Mapping[int, Sequence[int]]
    ) -> list[DeviceEvaluation]:
        """Few-shot adaptation of devices that training never sees, by their numbers, after `done`
        rounds, by the node that each is given to. It is not counted. Raises TinyMetaFedError."""
        ...

    def take_events(self) -> list[tuple[int, NodeEvent]]:
        """Events since the last call, with the nodes' indices."""
        ...

    async def close(self) -> None:
        """Ends all that was started."""
        ...


class LinkEngine:
    """Nodes at work side by side over their links."""

    def __init__(
        self,
        client: Client,
        nodes: Sequence[Node],
        recorder: FrameRecorder | None = None,
        first: int = 0,
    ) -> None:
        """recorder: of all frames. first: index of the first node in the federation."""
        self.client = client
        self.nodes = nodes
        self.memory = 0
        self._first = first
        self._recorder = recorder
        if recorder is not None:
            for i, node in enumerate(nodes, first):
                node.tap = recorder.tap(i)
        settings = client.settings
        self._sampled = settings.nodes.counted is not None
        if links := settings.faults.links:
            for i, node in enumerate(nodes, first):
                node.noise = Noise(links, i, settings.seed)

    @property
    def hellos(self) -> Sequence[Hello]:
        """See Engine."""
        return [node.hello for node in self.nodes if node.hello is not None][:1]

    def _of(self, node: int) -> Node:
        return self.nodes[node - self._first]

    async def boot(self, nodes: Collection[int]) -> None:
        """See Engine."""
        if self._sampled:
            await together(self._of(i).set_counting(on=False) for i in nodes)
        for needed in await together(self.client.boot(self._of(i)) for i in nodes):
            self.memory = needed

    async def end(self, nodes: Collection[int]) -> None:
        """See Engine."""
        await together(self._end(self._of(i)) for i in nodes)

    async def _end(self, node: Node) -> None:
        with node.not_counted():  # all that it did before is
            await node.close()
        node.sequence = 0

    async def place(
        self, node: int, theta: NDArray[np.float32], version: int, sequence: int
    ) -> None:
        """See Engine."""
        await self.client.hold(self._of(node), theta, version)
        self._of(node).sequence = sequence

    def boot_again(self, node: int, times: int) -> None:
        """See Engine."""
        once = self._of(node).take_usage()
        for _ in range(1 + times):
            self._of(node).carry(once)

    async def fit(self, order: RoundOrder) -> list[FitResult]:
        """See Engine."""
        samples = self.client.population([one.device for one in order.instructions])
        nodes = [self._of(i) for i in order.nodes]
        switched = nodes if self._sampled and order.counts else []
        await together(node.set_counting(on=True) for node in switched)
        with self._disturbed(order):
            fitted = await together(
                self.client.fit(node, order.program, order.broadcast, one, mine)
                for node, one, mine in zip(nodes, order.instructions, samples, strict=True)
            )
        # Out of the noise, which is in the round alone: it holds nothing, and will be sent all.
        await together(
            self.client.restart(node)
            for node, one in zip(nodes, fitted, strict=True)
            if one.left_out
        )
        # When all are done: one after the other, between their answers, takes twice the time.
        usages = take_usages(nodes)
        await together(node.set_counting(on=False) for node in switched)
        return [
            FitResult(
                one.update,
                one.kept,
                one.before + usage,
                usage,
                node.sequence,
                one.left_out,
                one.cycles,
            )
            for node, one, usage in zip(nodes, fitted, usages, strict=True)
        ]

    @contextmanager
    def _disturbed(self, order: RoundOrder) -> Iterator[None]:
        """While a round goes on."""
        noises = [noise for i in order.nodes if (noise := self._of(i).noise) is not None]
        for noise in noises:
            noise.begin(order.broadcast.version)
        if self._recorder is not None:
            self._recorder.round = order.broadcast.version
        try:
            yield
        finally:
            for noise in noises:
                noise.begin(None)
            if self._recorder is not None:
                self._recorder.round = None

    async def evaluate(
        self, broadcast: Broadcast, done: int, devices: Mapping[int, Sequence[int]]
    ) -> list[DeviceEvaluation]:
        """See Engine."""
        rows = await together(
            self.client.evaluate(self._of(i), broadcast, done, mine) for i, mine in devices.items()
        )
        return list(chain(*rows))

    def take_events(self) -> list[tuple[int, NodeEvent]]:
        """See Engine."""
        return [
            (i, event)
            for i, node in enumerate(self.nodes, self._first)
            for event in node.take_events()
        ]

    async def close(self) -> None:
        """See Engine."""
        await asyncio.gather(*(node.close() for node in self.nodes), return_exceptions=True)


class HostEngine:
    """Host nodes. One that waits for its turn is no more than where it stands: the weights of a
    version are the same for all."""

    def __init__(self, client: Client, threads: int | None = None) -> None:
        """threads: one for each processor where not given."""
        self.client = client
        self.hellos: list[Hello] = []
        self.memory = 0
        self._threads = threads
        self._clients: HostClients | None = None
        self._nodes: dict[int, HostNode] = {}
        self._boot = Usage()  # of one node
        self._boots: dict[int, int] = {}  # that are not counted yet

    async def boot(self, nodes: Collection[int]) -> None:
        """See Engine."""
        if not self.hellos:
            await self._boot_one()
        for i in nodes:
            self._nodes[i] = HostNode(i)
            self._boots[i] = self._boots.get(i, 0) + 1

    async def _boot_one(self) -> None:
        """A node over its link: what it says, and what its boot takes, is the same of all."""
        node = Node("node-0", open_host)
        try:
            self.memory = await self.client.boot(node)
            assert node.hello is not None
            self.hellos, self._boot = [node.hello], node.take_usage()
            await self._start(node.capacity)
        finally:
            await node.close()

    async def _start(self, capacity: int) -> None:
        gc.freeze()  # what was there before is not looked through for garbage again and again
        self._clients = HostClients(self.client, capacity, self._threads)

    async def end(self, nodes: Collection[int]) -> None:
        """See Engine."""
        for i in nodes:
            self._nodes.pop(i, None)

    async def place(
        self, node: int, theta: NDArray[np.float32], version: int, sequence: int
    ) -> None:
        """See Engine."""
        self._nodes[node] = HostNode(node, version, sequence)

    def boot_again(self, node: int, times: int) -> None:
        """See Engine."""
        self._boots[node] = self._boots.get(node, 0) + times

    async def fit(self, order: RoundOrder) -> list[FitResult]:
        """See Engine."""
        nodes = [self._nodes[i] for i in order.nodes]
        results = await self._fit(order, nodes)
        version = order.broadcast.version
        for i, result in zip(order.nodes, results, strict=True):
            self._nodes[i] = HostNode(i, version, result.sequence)
        if not self._boots:
            return results
        return [
            result._replace(usage=self._booted(i) + result.usage)
            for i, result in zip(order.nodes, results, strict=True)
        ]

    async def _fit(self, order: RoundOrder, nodes: Sequence[HostNode]) -> list[FitResult]:
        assert self._clients is not None
        return self._clients.fit(order.program, order.broadcast, nodes, order.instructions)

    def _booted(self, node: int) -> Usage:
        usage = Usage()
        for _ in range(self._boots.pop(node, 0)):
            usage += self._boot
        return usage

    async def evaluate(
        self, broadcast: Broadcast, done: int, devices: Mapping[int, Sequence[int]]
    ) -> list[DeviceEvaluation]:
        """See Engine."""
        assert self._clients is not None
        every = list(chain(*devices.values()))
        return await self._clients.evaluate(broadcast, done, every)

    def take_events(self) -> list[tuple[int, NodeEvent]]:
        """See Engine: there is no link, and no processor but this."""
        return []

    async def close(self) -> None:
        """See Engine."""
        if self._clients is not None:
            self._clients.close()


def make_engine(
    settings: FederationSettings,
    directory: Path,
    threads: int | None = None,
    recorder: FrameRecorder | None = None,
) -> Engine:
    """The one that the settings name, none of its nodes started. directory: for what they need,
    private. threads: for host nodes, one for each processor where not given. recorder: of all
    frames. Raises TinyMetaFedError."""
    client, nodes = Client(settings), settings.nodes
    if recorder is not None and nodes.engine == "ray":
        raise TinyMetaFedError(
            'nodes.engine: frames are recorded of nodes in this process; use "local", which comes '
            "to the same"
        )
    if nodes.engine == "ray":
        assert nodes.address is not None
        from .ray_engine import RayEngine

        return RayEngine(client, nodes.address)
    limits.check(nodes)

    def make(group: range, kind: NodeKind) -> Engine:
        # Noise is on links alone, and so are frames to be seen.
        if kind.backend != "host" or settings.faults.links or recorder is not None:
            made = make_group(kind, directory, group.start, settings.timings)
            return LinkEngine(client, made, recorder, group.start)
        return HostEngine(client, nodes.threads or threads)

    groups = [(group, make(group, kind)) for group, kind in nodes.fleet]
    if len(groups) == 1:
        return groups[0][1]
    from .fleet import FleetEngine

    return FleetEngine(client, groups)


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first error ends the rest."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
