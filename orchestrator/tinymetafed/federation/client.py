"""What one node does in a round and in an evaluation, as the server asks it for."""

import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..nodes.node import Broadcast, Delta, Node, Residual, Usage
from ..nodes.transport import NodeLost
from ..results.store import DeviceEvaluation
from .settings import FederationSettings

log = logging.getLogger(__name__)
T = TypeVar("T")

RESTARTS = 3  # of one node over one piece of work, before the run is given up


@dataclass(frozen=True)
class Lesson:
    """What a node is to learn in a round. device: that it plays. done: rounds before. residual:
    that it had after its last one; None where all is zero."""

    device: int
    done: int
    residual: Residual | None


@dataclass(frozen=True)
class Learnt:
    """What it comes to. residual: None where the strategy keeps none. usage: what the node did
    since it was last looked at. timed: what counts for a deadline of this, as if the node had never
    been lost; all of it without a deadline."""

    delta: Delta
    residual: Residual | None
    usage: Usage
    timed: Usage


class Work:
    """An experiment's work on its nodes."""

    def __init__(self, experiment: FederationSettings) -> None:
        self.experiment = experiment
        self.model = experiment.built_model

    async def boot(self, node: Node) -> int:
        """Boots the node and describes the model to it. Returns the bytes that the model, and what
        training needs, take there. Raises TinyMetaFedError."""
        strategy = self.experiment.strategy
        capacity = strategy.capacity
        if capacity:  # an unseen device stores what it adapts on
            capacity = max(capacity, self.experiment.evaluation.support)
        await node.start()
        loaded = await node.load(
            self.model, accumulate=strategy.batch > 1, capacity=capacity, keeps=strategy.keeps
        )
        node.rest()
        return loaded.needed

    async def learn(self, node: Node, broadcast: Broadcast, lesson: Lesson) -> Learnt:
        """Steps 2 to 5 of a round. Raises TinyMetaFedError."""
        experiment, strategy = self.experiment, self.experiment.strategy
        support, query = experiment.task.device(
            experiment.seed, lesson.device, strategy.support, experiment.query(lesson.device)
        )

        held, before = node.version, Usage()

        async def learn() -> tuple[Delta, Residual | None]:
            nonlocal before
            await node.set_residual(self.model, lesson.residual)
            if experiment.participation.deadline is not None:
                # So that it takes the same time in a run that goes on, and after a new start.
                if node.version != held:
                    await node.hold(broadcast.theta, held)
                await node.renumber()
                before += node.take_usage()
            await node.set_weights(broadcast)  # step 2
            delta = await strategy.adapt(  # steps 3 to 5
                node, self.model, support, query, lesson.done, experiment.rounds
            )
            return delta, await node.get_residual(self.model) if strategy.keeps else None

        delta, residual = await _persistently(node, learn)
        timed = node.take_usage()
        node.rest()
        return Learnt(delta, residual, before + timed, timed)

    async def judge(
        self, node: Node, broadcast: Broadcast, done: int, devices: Sequence[int]
    ) -> list[DeviceEvaluation]:
        """Few-shot adaptation of devices that training never sees, after `done` rounds. Nothing of
        it is counted, and the node holds what it held before, so that training goes on as if nobody
        had judged. Raises TinyMetaFedError."""
        held = node.version
        with node.not_counted():
            results = [
                await _persistently(
                    node, lambda device=device: self._judge(node, broadcast, done, device)
                )
                for device in devices
            ]
            await self.hold(node, broadcast.theta, held)
        return results

    async def hold(self, node: Node, theta: NDArray[np.float32], version: int) -> None:
        """Brings the node to weights of a version that it had, see Node.hold. Raises
        TinyMetaFedError."""
        await _persistently(node, lambda: node.hold(theta, version))
        node.rest()

    async def _judge(
        self, node: Node, broadcast: Broadcast, done: int, device: int
    ) -> DeviceEvaluation:
        experiment, settings = self.experiment, self.experiment.evaluation
        number = experiment.devices.seen + device
        support, query = experiment.task.device(
            experiment.seed, number, settings.support, settings.query, unseen=True
        )
        await node.set_weights(broadcast)
        before = await node.evaluate(query)
        await experiment.strategy.personalise(node, self.model, support, settings.steps)
        after = await node.evaluate(query)
        return DeviceEvaluation(
            done, number, before.loss, after.loss, before.accuracy, after.accuracy
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
