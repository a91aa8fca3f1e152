"""A fleet of several kinds of nodes, each with an engine of its own."""

from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..link import Hello
from ..nodes.broadcast import Broadcast
from ..nodes.events import NodeEvent
from ..results.store import DeviceEvaluation
from .client import Client, FitResult
from .engines import Engine, RoundOrder, together

T = TypeVar("T")


class FleetEngine:
    """See Engine. The kinds are at work side by side; results are those of nodes of one kind."""

    def __init__(self, client: Client, groups: Sequence[tuple[range, Engine]]) -> None:
        """groups: indices of the nodes and what has them at work, ascending, without gaps."""
        self.client = client
        self.groups = groups

    @property
    def hellos(self) -> list[Hello]:
        """See Engine."""
        return list(chain(*(engine.hellos for _, engine in self.groups)))

    @property
    def memory(self) -> int:
        """See Engine: the same on all of them."""
        return max(engine.memory for _, engine in self.groups)

    async def boot(self, nodes: Collection[int]) -> None:
        """See Engine."""
        await self._together(nodes, lambda engine, mine: engine.boot(mine))

    async def end(self, nodes: Collection[int]) -> None:
        """See Engine."""
        await self._together(nodes, lambda engine, mine: engine.end(mine))

    async def place(
        self, node: int, theta: NDArray[np.float32], version: int, sequence: int
    ) -> None:
        """See Engine."""
        await self._of(node).place(node, theta, version, sequence)

    def boot_again(self, node: int, times: int) -> None:
        """See Engine."""
        self._of(node).boot_again(node, times)

    async def fit(self, order: RoundOrder) -> list[FitResult]:
        """See Engine."""
        instructions = dict(zip(order.nodes, order.instructions, strict=True))

        def work(engine: Engine, mine: Sequence[int]) -> Coroutine[Any, Any, list[FitResult]]:
            wanted = [instructions[i] for i in mine]
            return engine.fit(
                RoundOrder(mine, order.program, order.broadcast, wanted, order.counts)
            )

        results = await self._together(order.nodes, work)
        found = dict(chain(*(zip(mine, one, strict=True) for mine, one in results)))
        return [found[i] for i in order.nodes]

    async def evaluate(
        self, broadcast: Broadcast, done: int, devices: Mapping[int, Sequence[int]]
    ) -> list[DeviceEvaluation]:
        """See Engine."""
        rows = await self._together(
            devices,
            lambda engine, mine: engine.evaluate(broadcast, done, {i: devices[i] for i in mine}),
        )
        return list(chain(*(one for _, one in rows)))

    def take_events(self) -> list[tuple[int, NodeEvent]]:
        """See Engine."""
        return list(chain(*(engine.take_events() for _, engine in self.groups)))

    async def close(self) -> None:
        """See Engine."""
        for _, engine in self.groups:
            await engine.close()

    def _of(self, node: int) -> Engine:
        return next(engine for nodes, engine in self.groups if node in nodes)

    async def _together(
        self,
        nodes: Iterable[int],
        work: Callable[[Engine, list[int]], Coroutine[Any, Any, T]],
    ) -> list[tuple[list[int], T]]:
        """What becomes of the work of each engine that has some of the nodes, with these."""
        nodes = list(nodes)
        shares = [
            (engine, mine)
            for group, engine in self.groups
            if (mine := [i for i in nodes if i in group])
        ]
        results = await together(work(engine, mine) for engine, mine in shares)
        return [(mine, one) for (_, mine), one in zip(shares, results, strict=True)]
