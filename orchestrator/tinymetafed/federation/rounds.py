"""The rounds: select nodes → broadcast → adapt on the nodes → collect updates → aggregate."""

import asyncio
import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from ..energy.profile import COUNTED
from ..errors import TinyMetaFedError
from ..nodes.node import Broadcast, Node, Residual, Usage
from ..results import accounts
from ..results.store import DeviceEvaluation, NodeRound, PhaseCount
from . import participation
from .client import Learnt, Lesson, Work
from .engines import Engine, Local, together
from .settings import FederationSettings


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
        changed: NDArray[np.int64] | None = None,
    ) -> "ServerState":
        """The state of a server; where it is not said which version changed what, of one whose
        nodes hold nothing yet."""
        changed = np.full(len(theta), done + 1) if changed is None else changed
        return cls(Broadcast(theta, changed, done + 1), done, residuals or {})

    @property
    def theta(self) -> NDArray[np.float32]:
        """float32 [parameters]"""
        return self.broadcast.theta

    def advance(
        self,
        theta: NDArray[np.float32],
        residuals: Mapping[int, Residual] | None = None,
        away: Collection[int] = (),
    ) -> "ServerState":
        """The state after one more round, in which these residuals have changed; nodes that were
        away have lost theirs."""
        version = self.broadcast.version + 1
        moved = theta.view(np.uint32) != self.theta.view(np.uint32)
        changed = np.where(moved, version, self.broadcast.changed)
        kept = {**self.residuals, **(residuals or {})}
        there = {node: one for node, one in kept.items() if node not in away}
        return ServerState(Broadcast(theta, changed, version), self.done + 1, there)


class Federation:
    """The server of one experiment and its nodes.

    Everything random in round t is a function of the seed, t and which nodes are there, so that a
    run that goes on after an end of whatever kind goes the same way.

    Attributes:
        unplugged: nodes that somebody took away; rounds and evaluations do without them.
        attendance: which of the others are there. away: those that are not, now.
        memory: bytes that the model, and what training needs, take on a node; known after start.
    """

    def __init__(
        self,
        experiment: FederationSettings,
        nodes: list[Node],
        make_engine: Callable[[Work], Engine] = Local,
    ) -> None:
        """make_engine: of what has the nodes at work. Raises TinyMetaFedError."""
        self.experiment = experiment
        self.nodes = nodes
        self.unplugged: set[int] = set()
        self.attendance = experiment.attendance
        self.away: frozenset[int] = frozenset()
        self.memory = 0
        self.work = Work(experiment)
        self.model = self.work.model
        self._engine = make_engine(self.work)
        self._slowness: list[float] = participation.slowness(
            experiment.participation, experiment.seed, experiment.nodes.count
        ).tolist()

    async def start(self) -> None:
        """Boots the nodes and describes the model to them."""
        await self._engine.start()
        await together(map(self.boot, self.nodes))

    async def boot(self, node: Node) -> None:
        """Boots one of the nodes and describes the model to it."""
        self.memory = await self.work.boot(node)

    async def resume(self, state: ServerState, last: Mapping[int, int]) -> ServerState:
        """Brings nodes that were booted to where others were after the rounds that are done. last:
        the last round of each that was in any. Returns the state without what nodes have lost that
        were away since."""
        boots = self.attendance.boots(last, state.done)
        since = self.attendance.since(state.done)
        await self._come_and_go(state.done)
        for node, times in zip(self.nodes, boots, strict=True):
            once = node.take_usage()
            for _ in range(times):
                node.carry(once)
        for i, number in last.items():
            if 0 <= since[i] < number:  # else it has booted since, or will
                await self.work.hold(self.nodes[i], state.theta, number)
        kept = {i: one for i, one in state.residuals.items() if 0 <= since[i] < last[i]}
        return dataclasses.replace(state, residuals=kept)

    async def close(self) -> None:
        """Ends the nodes."""
        await self._engine.close()
        await asyncio.gather(*(node.close() for node in self.nodes), return_exceptions=True)

    async def unplug(self, index: int) -> None:
        """Ends a node; it is not started again before it is plugged in."""
        self.unplugged.add(index)
        await self._end(index)

    async def plug_in(self, index: int) -> None:
        """Boots a node that was unplugged. Raises TinyMetaFedError."""
        if index not in self.away:
            await self.boot(self.nodes[index])
        self.unplugged.discard(index)

    async def _end(self, index: int) -> None:
        node = self.nodes[index]
        with node.not_counted():  # all that it did before is
            await node.close()

    async def _come_and_go(self, done: int) -> None:
        """Ends the nodes that leave after `done` rounds, and boots those that come back."""
        before, self.away = self.away, self.attendance.away(done)
        await together(map(self._end, self.away - before))
        await together(self.boot(self.nodes[i]) for i in before - self.away - self.unplugged)

    def _present(self, done: int) -> list[int]:
        """Nodes that are there after `done` rounds. Raises TinyMetaFedError where none is."""
        absent = self.unplugged | self.attendance.away(done)
        present = [i for i in range(self.experiment.nodes.count) if i not in absent]
        if not present:
            raise TinyMetaFedError("every node is unplugged or away; plug one in")
        return present

    async def round(
        self, state: ServerState
    ) -> tuple[ServerState, list[NodeRound], list[PhaseCount]]:
        """One round: the server's next state, what every node did, and what it executed."""
        experiment, number = self.experiment, state.done + 1
        await self._come_and_go(state.done)
        chosen, devices = self._select(state.done)  # step 1

        def note(i: int, learnt: Learnt) -> tuple[Learnt, NodeRound, list[PhaseCount]]:
            row = _row(number, chosen[i], devices[i], learnt.usage)
            return learnt, row, list(_phases(number, chosen[i], learnt.usage))

        nodes = [self.nodes[i] for i in chosen]
        lessons = [
            Lesson(device, state.done, state.residuals.get(i))
            for i, device in zip(chosen, devices, strict=True)
        ]
        results = await self._engine.learn(nodes, state.broadcast, lessons, note)  # steps 2 to 5
        learnt = [one for one, _, _ in results]
        phases = list(itertools.chain(*(mine for _, _, mine in results)))
        rows = self._mark_late([row for _, row, _ in results], learnt)
        in_time = [one.delta for one, row in zip(learnt, rows, strict=True) if not row.late]
        theta = experiment.strategy.aggregate(  # step 6
            state.theta, in_time, state.done, experiment.rounds
        )
        kept = {i: one.residual for i, one in zip(chosen, learnt, strict=True)}
        residuals = {i: one for i, one in kept.items() if one is not None}
        return state.advance(theta, residuals, self.away), rows, phases

    def _select(self, done: int) -> tuple[list[int], list[int]]:
        """M nodes, or all that are there, and for each the device whose task it plays in this
        round."""
        experiment, present = self.experiment, self._present(done)
        count = min(experiment.per_round, len(present))
        rng = np.random.default_rng([experiment.seed, 0x_5E1EC7, done])
        nodes = rng.choice(present, count, replace=False)
        devices = rng.choice(experiment.devices.seen, count, replace=False)
        return sorted(nodes.tolist()), devices.tolist()

    def _mark_late(self, rows: list[NodeRound], learnt: Sequence[Learnt]) -> list[NodeRound]:
        """The rows of a round, marked where what they are of misses its deadline."""
        experiment = self.experiment
        if (deadline := experiment.participation.deadline) is None:
            return rows
        pairs = list(zip(rows, learnt, strict=True))
        timed = [_row(row.round, row.node, row.device, one.timed) for row, one in pairs]
        phases = [count for row, one in pairs for count in _phases(row.round, row.node, one.timed)]
        seconds = accounts.durations(timed, phases, experiment.energy, self._slowness)
        late = participation.late(seconds, deadline)
        return [dataclasses.replace(row, late=one) for row, one in zip(rows, late, strict=True)]

    async def evaluate(self, state: ServerState) -> list[DeviceEvaluation]:
        """Few-shot adaptation of devices that training never sees, shared out over the nodes.

        It is a measurement and not part of the federation's work.
        """
        await self._come_and_go(state.done)
        count, present = self.experiment.evaluation.devices, self._present(state.done)
        busy = min(count, len(present))
        nodes = [self.nodes[i] for i in present[:busy]]
        devices = [range(first, count, len(present)) for first in range(busy)]
        rows = await self._engine.judge(nodes, state.broadcast, state.done, devices)
        return sorted(rows, key=lambda row: row.device)


def _row(done: int, node: int, device: int, usage: Usage) -> NodeRound:
    counted = usage.profile is not None
    down, up = usage.down, usage.up
    traffic = {name: (down.get(name, 0), up.get(name, 0)) for name in sorted({*down, *up})}
    return NodeRound(
        done, node, device, usage.bytes_down, usage.bytes_up, usage.bytes_sensor, counted,
        late=False, messages=to_json(traffic).decode(),
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
