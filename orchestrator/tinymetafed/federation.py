"""The rounds: select nodes → broadcast → adapt on the nodes → collect updates → aggregate."""

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .energy.profile import COUNTED
from .errors import TinyMetaFedError
from .experiment import Experiment
from .nodes.node import Broadcast, Delta, Node, Residual, Usage
from .nodes.transport import NodeLost
from .store import DeviceEvaluation, NodeRound, PhaseCount

log = logging.getLogger(__name__)
T = TypeVar("T")

RESTARTS = 3  # of one node over one piece of work, before the run is given up


@dataclass(frozen=True)
class ServerState:
    """What the server knows between rounds.

    broadcast: θ, float32 [parameters], as nodes are told it. Its version is done + 1, since 0
    stands for no weights. done: rounds done. residuals: by node, what it keeps of its updates; of
    one that is not there all is zero. A server would not know them: they are here so that a node
    can be brought to where it was.
    """

    broadcast: Broadcast
    done: int
    residuals: Mapping[int, Residual] = field(default_factory=dict[int, Residual])

    @classmethod
    def start(
        cls,
        theta: NDArray[np.float32],
        done: int = 0,
        residuals: Mapping[int, Residual] | None = None,
    ) -> "ServerState":
        """The state of a server whose nodes hold nothing yet."""
        broadcast = Broadcast(theta, np.full(len(theta), done + 1), done + 1)
        return cls(broadcast, done, residuals or {})

    @property
    def theta(self) -> NDArray[np.float32]:
        """float32 [parameters]"""
        return self.broadcast.theta

    def advance(
        self, theta: NDArray[np.float32], residuals: Mapping[int, Residual] | None = None
    ) -> "ServerState":
        """The state after one more round, in which these residuals have changed."""
        version = self.broadcast.version + 1
        moved = theta.view(np.uint32) != self.theta.view(np.uint32)
        changed = np.where(moved, version, self.broadcast.changed)
        kept = {**self.residuals, **(residuals or {})}
        return ServerState(Broadcast(theta, changed, version), self.done + 1, kept)


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
        loaded = await node.load(
            self.model, accumulate=strategy.batch > 1, capacity=capacity, keeps=strategy.keeps
        )
        self.memory = loaded.needed

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

        async def take_part(
            index: int, device: int
        ) -> tuple[Delta, Residual | None, NodeRound, list[PhaseCount]]:
            node = self.nodes[index]
            support, query = experiment.task.device(
                experiment.seed, device, strategy.support, experiment.query(device)
            )

            async def work() -> tuple[Delta, Residual | None]:
                await node.set_residual(self.model, state.residuals.get(index))
                await node.set_weights(state.broadcast)  # step 2
                delta = await strategy.adapt(  # steps 3 to 5
                    node, self.model, support, query, state.done, experiment.rounds
                )
                return delta, await node.get_residual(self.model) if strategy.keeps else None

            delta, residual = await _persistently(node, work)
            usage = node.take_usage()  # here, where other nodes are still at work
            number = state.done + 1
            row, phases = _row(number, index, device, usage), list(_phases(number, index, usage))
            return delta, residual, row, phases

        results = await together(take_part(i, d) for i, d in zip(chosen, devices, strict=True))
        deltas, kept, rows, phases = zip(*results, strict=True)
        theta = strategy.aggregate(state.theta, deltas, state.done, experiment.rounds)  # step 6
        residuals = {i: one for i, one in zip(chosen, kept, strict=True) if one is not None}
        return state.advance(theta, residuals), list(rows), list(itertools.chain(*phases))

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
    names = sorted(usage.down | usage.up)
    messages = json.dumps({name: (usage.down[name], usage.up[name]) for name in names})
    return NodeRound(
        done, node, device, usage.bytes_down, usage.bytes_up, usage.bytes_sensor, counted, messages
    )


def _phases(done: int, node: int, usage: Usage) -> Iterator[PhaseCount]:
    profile = usage.profile
    if profile is None:
        return
    instructions = profile.instructions.tolist()
    for i in np.flatnonzero(profile.counts.any(axis=1)).tolist():
        counts = zip(COUNTED, profile.counts[i].tolist(), strict=True)
        classes = {name: count for name, count in counts if count}
        cycles = {core: figures[i].tolist() for core, figures in profile.cycles.items()}
        yield PhaseCount(
            done, node, profile.phases[i], instructions[i], json.dumps(classes), json.dumps(cycles)
        )


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
