"""What one node does in a round and in an evaluation, as the server asks it for."""

import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from .experiment import Experiment
from .nodes.node import Broadcast, Delta, Node, Usage
from .nodes.transport import NodeLost
from .store import DeviceEvaluation

log = logging.getLogger(__name__)
T = TypeVar("T")

RESTARTS = 3  # of one node over one piece of work, before the run is given up


class Work:
    """An experiment's work on its nodes."""

    def __init__(self, experiment: Experiment) -> None:
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
        loaded = await node.load(self.model, accumulate=strategy.batch > 1, capacity=capacity)
        node.rest()
        return loaded.needed

    async def learn(self, node: Node, broadcast: Broadcast, device: int) -> tuple[Delta, Usage]:
        """Steps 2 to 5 of a round, in which the node plays a device: its update, and what it did
        since it was last looked at. Raises TinyMetaFedError."""
        experiment, strategy = self.experiment, self.experiment.strategy
        support, query = experiment.task.device(
            experiment.seed, device, strategy.support, strategy.query
        )

        async def learn() -> Delta:
            await node.set_weights(broadcast)  # step 2
            return await strategy.adapt(node, self.model, support, query)  # steps 3 to 5

        delta = await _persistently(node, learn)
        usage = node.take_usage()
        node.rest()
        return delta, usage

    async def judge(
        self, node: Node, broadcast: Broadcast, done: int, devices: Sequence[int]
    ) -> list[DeviceEvaluation]:
        """Few-shot adaptation of devices that training never sees, after `done` rounds. What the
        node does for it is not counted, but for the broadcast, which is the next round's, sent
        early. Raises TinyMetaFedError."""
        await _persistently(node, lambda: node.set_weights(broadcast))
        with node.not_counted():
            results = [
                await _persistently(
                    node, lambda device=device: self._judge(node, broadcast, done, device)
                )
                for device in devices
            ]
            await _persistently(node, lambda: node.set_weights(broadcast))
        node.rest()
        return results

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
