"""A client of the federation: what one node does in a round and in an evaluation."""

import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..link import messages
from ..models.model import Model
from ..nodes.answers import NodeRefused
from ..nodes.broadcast import Broadcast
from ..nodes.events import NodeEvent
from ..nodes.library import node_floats
from ..nodes.node import Node, Vector
from ..nodes.outcome import Evaluation, evaluation
from ..nodes.program import Evaluate, Program
from ..nodes.transport import LinkTooNoisy, NodeLost
from ..nodes.update import Update
from ..nodes.usage import Usage
from ..plugins import short
from ..results.store import ClassCount, DeviceEvaluation
from ..tasks.base import Part
from ..tasks.samples import BadSamples, Samples, SamplesError, check
from . import returned
from .settings import FederationSettings

log = logging.getLogger(__name__)
T = TypeVar("T")

RESTARTS = 3  # of one node over one piece of work, before the run is given up


class FitInstructions(NamedTuple):
    """What a node is to learn in a round: the device that it plays, and what is kept for it, None
    standing for zeros."""

    device: int
    kept: Vector | None = None


class FitResult(NamedTuple):
    """What it comes to.

    update: None where training diverged, or the node is left out. kept: as it is now, None where
    the strategy keeps nothing. usage: what the node did since it was last looked at. timed: what
    counts for a deadline of this, as if the node had never been lost; all of it without a deadline.
    sequence: the number of the node's last frame. left_out: noise on its link took all attempts.
    cycles: by phase, as the node has measured them; see Node.take_cycles.
    """

    update: Update | None
    kept: Vector | None
    usage: Usage
    timed: Usage
    sequence: int
    left_out: bool = False
    cycles: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Fitted:
    """What a node's work in a round comes to, before it is looked at what the node did.

    update, kept, left_out, cycles: as in FitResult. before: what it did that does not count for a
    deadline.
    """

    update: Update | None
    kept: Vector | None
    before: Usage = field(default_factory=Usage)
    left_out: bool = False
    cycles: Mapping[str, int] | None = None


class Client:
    """The work of a federation's nodes, whichever of them does it."""

    def __init__(self, settings: FederationSettings, restarts: int | None = None) -> None:
        """restarts: of a node over one piece of work, at most; RESTARTS where not given."""
        self.settings = settings
        self._restarts = RESTARTS if restarts is None else restarts
        self.model: Model = settings.built_model

    @property
    def load(self) -> messages.Load:
        """The description of the model that a node gets, with room for what training needs."""
        strategy = self.settings.strategy
        capacity = strategy.capacity
        if capacity:  # a device that is judged stores what it adapts on
            capacity = max(capacity, self.settings.evaluation.support)
        kept = {None: 0, "residual": messages.RESIDUAL, "variate": messages.VARIATE}
        room = kept[strategy.keeps] | messages.MARK * strategy.marks
        return self.model.description(accumulate=strategy.accumulates, capacity=capacity, room=room)

    async def boot(self, node: Node) -> int:
        """Boots the node and describes the model to it. Returns the bytes that the model, and what
        training needs, take there. Raises TinyMetaFedError."""

        async def boot() -> int:
            await node.close()
            node.forget()  # a boot that was lost is not counted
            await node.start()
            return (await node.load(self.model, self.load)).needed

        return await self._persistently(node, boot, restart=False)

    async def restart(self, node: Node) -> None:
        """Boots the node anew, with its model. Raises TinyMetaFedError."""
        await self._persistently(node, node.restart, restart=False)

    def population(self, devices: Sequence[int]) -> list[tuple[Samples, Samples]]:
        """Support and query of training devices. Raises TinyMetaFedError."""
        settings = self.settings
        queries = [settings.query(device) for device in devices]
        support = settings.strategy.support
        wanted = [(support, query) for query in queries]
        return self._checked(
            devices,
            wanted,
            lambda: settings.task.population(settings.seed, devices, support, queries),
        )

    def never_seen(self, device: int) -> tuple[Samples, Samples]:
        """Support and query of a device for validation, or of an unseen one, by its number. Raises
        TinyMetaFedError."""
        settings, judged = self.settings, self.settings.evaluation
        counts, part = (judged.support, judged.query), settings.part_of(device)

        def make() -> list[tuple[Samples, Samples]]:
            try:
                return [settings.task.device(settings.seed, device, *counts, part=part)]
            except SamplesError as error:
                raise error.of(device) from None

        [found] = self._checked([device], [counts], make)
        return found

    def _checked(
        self,
        devices: Sequence[int],
        wanted: Sequence[tuple[int, int]],
        make: Callable[[], list[tuple[Samples, Samples]]],
    ) -> list[tuple[Samples, Samples]]:
        """The samples of these devices, so many of each, looked at before any node is sent them,
        whichever way. Raises TinyMetaFedError."""
        task = short(self.settings.task.name)
        try:
            with node_floats():
                found = make()
            returned.samples(found, devices, wanted)
        except SamplesError as error:
            raise SamplesError(f"task {task}, {error}") from None
        try:
            check(list(itertools.chain(*found)), self.model)
        except BadSamples as wrong:
            for device, pair in zip(devices, found, strict=True):
                for source, one in zip(("support", "query"), pair, strict=True):
                    if one is wrong.samples:
                        where = SamplesError(f"{source} {wrong}").of(device)
                        raise SamplesError(f"task {task}, {where}") from None
            raise
        return found

    @property
    def evaluation(self) -> Program:
        """Few-shot adaptation of a device, judged before and after."""
        judged = self.settings.evaluation
        strategy = self.settings.strategy
        found = strategy.personalise(self.model, judged.support, judged.steps)
        where = returned.of(strategy, "personalise")
        personalise = returned.program(found, where, self.model.parameters)
        return Evaluate("query"), *personalise, Evaluate("query")

    async def fit(
        self,
        node: Node,
        program: Program,
        broadcast: Broadcast,
        instructions: FitInstructions,
        samples: tuple[Samples, Samples],
    ) -> Fitted:
        """Steps 2 to 5 of a round, on the support and query samples of the device that the node
        plays. Raises TinyMetaFedError."""
        settings, (support, query) = self.settings, samples
        held, sequence, before = node.version, node.sequence, Usage()
        cycles: Mapping[str, int] | None = None

        async def fit() -> tuple[Update | None, Vector | None]:
            nonlocal before, cycles
            if settings.strategy.keeps:
                await node.set_kept(instructions.kept)
            if settings.participation.deadline is not None:
                # So that it takes the same time after a new start as without one.
                if node.version != held:
                    await node.hold(broadcast.theta, held)
                before += node.take_usage()
            await node.take_cycles()  # those of other work
            node.sequence = sequence
            try:
                outcome = await node.run(program, support, query, broadcast)
                cycles = await node.take_cycles()
                kept = await node.get_kept() if settings.strategy.keeps else None
            except NodeRefused as refused:
                if not refused.diverged:
                    raise
                return None, instructions.kept
            update = Update(instructions.device, len(query), outcome.indices, outcome.values)
            return update, kept

        with node.playing(instructions.device):
            try:
                return Fitted(*await self._persistently(node, fit), before, cycles=cycles)
            except LinkTooNoisy as error:
                node.note(NodeEvent("left out", f"of the round: {error}"))
                return Fitted(None, instructions.kept, before, left_out=True)

    async def evaluate(
        self,
        node: Node,
        broadcast: Broadcast,
        done: int,
        devices: Sequence[int],
        *,
        apart: bool = False,
    ) -> list[DeviceEvaluation]:
        """Few-shot adaptation of devices that training never sees, after `done` rounds. Nothing of
        it is counted, and the node holds what it held before, so that training goes on as if nobody
        had judged. apart: weights are in frames of their own; a loss, which the node adds up frame
        by frame, may be rounded in another way then. Raises TinyMetaFedError."""
        held = node.version
        with node.not_counted():
            rows: list[DeviceEvaluation] = []
            for device in devices:
                work = partial(self._evaluate, node, broadcast, done, device, apart=apart)
                with node.playing(device):
                    rows.append(await self._persistently(node, work))
            await self.hold(node, broadcast.theta, held)
        return rows

    async def hold(self, node: Node, theta: NDArray[np.float32], version: int) -> None:
        """Brings the node to weights of a version that it had, see Node.hold. Raises
        TinyMetaFedError."""
        await self._persistently(node, lambda: node.hold(theta, version))

    async def _evaluate(
        self, node: Node, broadcast: Broadcast, done: int, device: int, *, apart: bool
    ) -> DeviceEvaluation:
        program, part = self.evaluation, self.settings.part_of(device)
        support, query = self.never_seen(device)
        if apart:
            await node.set_weights(broadcast)
        try:
            outcome = await node.run(program, support, query, None if apart else broadcast)
        except NodeRefused as refused:
            if not refused.diverged:
                raise
            return judged(done, device, part, ())
        found = [evaluation(outcome, place) for place in (0, len(program) - 1)]
        row = judged(done, device, part, found)
        if not self.tells_classes(device):
            return row
        return replace(row, classes=await self._classes(node, device, query, found[-1]))

    def tells_classes(self, device: int) -> bool:
        """Whether it is asked what a device's samples are taken for: those of an unseen one, where
        the task has classes."""
        return self.model.target_is_class and self.settings.part_of(device) == "unseen"

    def class_names(self, device: int) -> list[str]:
        """What the classes of a device that training never sees are called, by its number. Raises
        TinyMetaFedError."""
        settings, judged = self.settings, self.settings.evaluation
        part, name = settings.part_of(device), short(settings.task.name)
        try:
            found = settings.task.class_names(
                settings.seed, device, judged.support, judged.query, part=part
            )
            return returned.class_names(found, self.model.classes)
        except SamplesError as error:
            raise SamplesError(f"task {name}, {error.of(device)}") from None

    async def _classes(
        self, node: Node, device: int, query: Samples, judged: Evaluation
    ) -> tuple[ClassCount, ...]:
        """What the node, which has adapted to the device, takes its query samples for; nothing
        where it cannot say so. judged: what it found of them. Raises TinyMetaFedError."""
        if not node.can_predict:
            return ()
        try:
            outputs = await node.predict(query.inputs)
        except NodeRefused as refused:
            if not refused.diverged:  # one output may be infinite, and the loss is not
                raise
            return ()
        taken = self.model.decided(outputs)
        if np.count_nonzero(taken == query.targets) != round(judged.accuracy * len(query)):
            raise NodeLost(f"{node.name} predicts other classes than it was judged by")
        names = self.class_names(device)
        pairs = Counter(zip(query.targets.tolist(), taken.tolist(), strict=True))
        counts = (ClassCount(names[one], names[other], n) for (one, other), n in pairs.items())
        return tuple(sorted(counts, key=lambda count: (count.actual, count.predicted)))

    async def _persistently(
        self, node: Node, work: Callable[[], Awaitable[T]], *, restart: bool = True
    ) -> T:
        """The result of `work` on a node that may be lost on the way. restart: the node, before the
        work is done again; not where that starts it itself.

        A node keeps nothing between rounds that the server cannot give it again, so a new start and
        the same work come to the same result.
        """
        for restarts in itertools.count():
            try:
                if restarts:
                    node.note(
                        NodeEvent("restart", f"{restarts} of {self._restarts} times for this work")
                    )
                if restarts and restart:
                    await node.restart()
                return await work()
            except NodeLost as error:
                node.note(error.event)
                if restarts == self._restarts:
                    raise
                log.warning("%s; it is started again", error)
        raise AssertionError


def judged(
    done: int, device: int, part: Part, evaluations: Sequence[Evaluation]
) -> DeviceEvaluation:
    """The row of a device by its evaluations before and after adaptation; there are none where it
    diverged."""
    if not evaluations:
        return DeviceEvaluation(done, device, None, None, None, None, part)
    before, after = evaluations
    return DeviceEvaluation(
        done, device, before.loss, after.loss, before.accuracy, after.accuracy, part
    )
