"""The rounds: select nodes → broadcast → adapt on the nodes → collect updates → aggregate."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from .energy.profile import COUNTED
from .errors import TinyMetaFedError
from .experiment import Experiment
from .nodes.node import Broadcast, Delta, Node, Usage
from .nodes.transport import NodeLost
from .store import DeviceEvaluation, NodeRound, PhaseCount

log = logging.getLogger(__name__)
T = TypeVar("T")

RESTARTS = 3  # of one node over one piece of work, before the run is given up


@dataclass(frozen=True)
class ServerState:
    """What the server knows between rounds.

    broadcast: θ, float32 [parameters], as nodes are told it. Its version is done + 1, since 0
    stands for no weights. done: rounds done.
    """

    broadcast: Broadcast
    done: int

    @classmethod
    def start(cls, theta: NDArray[np.float32], done: int = 0) -> "ServerState":
        """The state of a server whose nodes hold nothing yet."""
        return cls(Broadcast(theta, np.full(len(theta), done + 1), done + 1), done)

    @property
    def theta(self) -> NDArray[np.float32]:
        """float32 [parameters]"""
        return self.broadcast.theta

    def advance(self, theta: NDArray[np.float32]) -> "ServerState":
        """The state after one more round."""
        version = self.broadcast.version + 1
        moved = theta.view(np.uint32) != self.theta.view(np.uint32)
        changed = np.where(moved, version, self.broadcast.changed)
        return ServerState(Broadcast(theta, changed, version), self.done + 1)


class Federation:
    """The server of one experiment and its nodes.

    Everything random in round t is a function of the seed, t and which nodes are there, so that a
    run that goes on after an end of whatever kind goes the same way.

    Attributes:
        unplugged: nodes that are not there; rounds and evaluations do without them.
        memory: bytes that the model, and what training needs, take on a node; known after start.
    """

    def __init__(self, experiment: Experiment, nodes: list[Node]) -> None:
        self.experiment = experiment
        self.nodes = nodes
        self.unplugged: set[int] = set()
        self.memory = 0
        self.model = experiment.built_model

    async def start(self) -> None:
        """Boots the nodes and describes the model to them."""
        await together(self.boot(node) for node in self.nodes)

    async def boot(self, node: Node) -> None:
        """Boots one of the nodes and describes the model to it."""
        strategy = self.experiment.strategy
        capacity = strategy.capacity
        if capacity:  # an unseen device stores what it adapts on
            capacity = max(capacity, self.experiment.evaluation.support)
        await node.start()
        loaded = await node.load(self.model, accumulate=strategy.batch > 1, capacity=capacity)
        self.memory = loaded.needed
        node.rest()

    async def close(self) -> None:
        """Ends the nodes."""
        await asyncio.gather(*(node.close() for node in self.nodes), return_exceptions=True)

    async def unplug(self, index: int) -> None:
        """Ends a node; it is not started again before it is plugged in."""
        self.unplugged.add(index)
        node = self.nodes[index]
        with node.not_counted():  # all that it did before is
            await node.close()

    async def plug_in(self, index: int) -> None:
        """Boots a node that was unplugged. Raises TinyMetaFedError."""
        await self.nodes[index].restart()
        self.unplugged.discard(index)

    def _present(self) -> list[int]:
        """Nodes that are there. Raises TinyMetaFedError where none is."""
        present = [i for i in range(self.experiment.nodes.count) if i not in self.unplugged]
        if not present:
            raise TinyMetaFedError("every node is unplugged; plug one in")
        return present

    async def round(
        self, state: ServerState
    ) -> tuple[ServerState, list[NodeRound], list[PhaseCount]]:
        """One round: the server's next state, what every node did, and what it executed."""
        experiment, strategy = self.experiment, self.experiment.strategy
        chosen, devices = self._select(state.done)  # step 1

        async def take_part(index: int, device: int) -> tuple[Delta, NodeRound, list[PhaseCount]]:
            node = self.nodes[index]
            support, query = experiment.task.device(
                experiment.seed, device, strategy.support, strategy.query
            )

            async def work() -> Delta:
                await node.set_weights(state.broadcast)  # step 2
                return await strategy.adapt(node, self.model, support, query)  # steps 3 to 5

            delta = await _persistently(node, work)
            usage = node.take_usage()  # here, where other nodes are still at work
            node.rest()
            number = state.done + 1
            return delta, _row(number, index, device, usage), list(_phases(number, index, usage))

        results = await together(take_part(i, d) for i, d in zip(chosen, devices, strict=True))
        deltas, rows, phases = zip(*results, strict=True)
        theta = strategy.aggregate(state.theta, deltas, state.done, experiment.rounds)  # step 6
        return state.advance(theta), list(rows), list(itertools.chain(*phases))

    def _select(self, done: int) -> tuple[list[int], list[int]]:
        """M nodes, or all that are there, and for each the device whose task it plays in this
        round."""
        experiment, present = self.experiment, self._present()
        count = min(experiment.per_round, len(present))
        rng = np.random.default_rng([experiment.seed, 0x_5E1EC7, done])
        nodes = rng.choice(present, count, replace=False)
        devices = rng.choice(experiment.devices.seen, count, replace=False)
        return sorted(nodes.tolist()), devices.tolist()

    async def evaluate(self, state: ServerState) -> list[DeviceEvaluation]:
        """Few-shot adaptation of devices that training never sees, shared out over the nodes.

        It is a measurement and not part of the federation's work: what the nodes do for it is not
        counted, but for the broadcast, which is the next round's, sent early.
        """
        count, present = self.experiment.evaluation.devices, self._present()

        async def judge_share(first: int) -> list[DeviceEvaluation]:
            node = self.nodes[present[first]]
            await _persistently(node, lambda: node.set_weights(state.broadcast))
            with node.not_counted():
                results = [
                    await _persistently(
                        node, lambda device=device: self._judge(node, state, device)
                    )
                    for device in range(first, count, len(present))
                ]
                await _persistently(node, lambda: node.set_weights(state.broadcast))
            node.rest()
            return results

        shares = await together(judge_share(i) for i in range(min(count, len(present))))
        return sorted((row for share in shares for row in share), key=lambda row: row.device)

    async def _judge(self, node: Node, state: ServerState, device: int) -> DeviceEvaluation:
        experiment, settings = self.experiment, self.experiment.evaluation
        number = experiment.devices.seen + device
        support, query = experiment.task.device(
            experiment.seed, number, settings.support, settings.query, unseen=True
        )
        await node.set_weights(state.broadcast)
        before = await node.evaluate(query)
        await experiment.strategy.personalise(node, self.model, support, settings.steps)
        after = await node.evaluate(query)
        return DeviceEvaluation(
            state.done, number, before.loss, after.loss, before.accuracy, after.accuracy
        )


def _row(done: int, node: int, device: int, usage: Usage) -> NodeRound:
    counted = usage.profile is not None
    down, up = usage.down, usage.up
    traffic = {name: (down.get(name, 0), up.get(name, 0)) for name in sorted({*down, *up})}
    return NodeRound(
        done, node, device, usage.bytes_down, usage.bytes_up, usage.bytes_sensor, counted,
        to_json(traffic).decode(),
    )  # fmt: skip


def _phases(done: int, node: int, usage: Usage) -> Iterator[PhaseCount]:
    profile = usage.profile
    if profile is None:
        return
    instructions = profile.instructions.tolist()
    for i in np.flatnonzero(profile.counts.any(axis=1)).tolist():
        counts = zip(COUNTED, profile.counts[i].tolist(), strict=True)
        classes = to_json({name: count for name, count in counts if count}).decode()
        cycles = to_json(
            {core: figures[i].tolist() for core, figures in profile.cycles.items()}
        ).decode()
        yield PhaseCount(done, node, profile.phases[i], instructions[i], classes, cycles)


async def _persistently(node: Node, work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work` on a node that may be lost on the way.

    A node keeps nothing between rounds that the server cannot give it again, so a new start and
    the same work come to the same result.
    """
    for restarts in itertools.count():
        try:
            if restarts:
                await node.restart()
            return await work()
        except NodeLost as error:
            if restarts == RESTARTS:
                raise
            log.warning("%s; it is started again", error)
    raise AssertionError


async def together(work: Iterator[Awaitable[T]]) -> list[T]:
    """All results in order; the first error ends the rest."""

    async def run(one: Awaitable[T]) -> T:
        return await one

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(one)) for one in work]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
