"""The rounds: select nodes → broadcast → adapt on the nodes → collect updates → aggregate."""

import dataclasses
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..energy.profile import COUNTED
from ..errors import Diverged, TinyMetaFedError
from ..nodes.library import node_floats
from ..nodes.program import Program
from ..nodes.update import Update
from ..nodes.usage import Usage
from ..results import accounts
from ..results.store import DeviceEvaluation, Event, MeasuredCycles, NodeRound, PhaseCount
from ..strategies import Round, ServerState
from . import participation, returned
from .client import FitInstructions, FitResult
from .engines import Engine, RoundOrder
from .settings import FederationSettings
from .state import FederationState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundResult:
    """What a round came to: the next state, what every node of it did, what it executed, and the
    nodes' events; and the cycles that nodes have measured themselves."""

    state: FederationState
    rows: list[NodeRound]
    phases: list[PhaseCount]
    events: list[Event]
    measured: list[MeasuredCycles] = field(default_factory=list[MeasuredCycles])


class Federation:
    """The server of one federation, and the engine that has its nodes at work.

    Everything random in round t is a function of the seed, t and which nodes are there, so that a
    run that goes on after an end of whatever kind goes the same way.

    Attributes:
        unplugged: nodes that somebody took away; rounds and evaluations do without them.
        attendance: which of the others are there. away: those that are not, now.
    """

    def __init__(self, settings: FederationSettings, engine: Engine, *, warns: bool = True) -> None:
        """warns: whether a warning names each device that is left out since it diverged."""
        self.settings = settings
        self.engine = engine
        self.model = engine.client.model
        self.unplugged: set[int] = set()
        self.attendance = settings.attendance
        self._counted_rounds = settings.counted_rounds
        self.away: frozenset[int] = frozenset()
        self._warns = warns
        self._under_way: int | None = None  # the number of a round
        self._events: list[Event] = []
        self._slowness: list[float] = participation.slowness(
            settings.participation, settings.seed, settings.nodes.count
        ).tolist()

    async def start(self) -> FederationState:
        """Boots the nodes and describes the model to them. Returns the state before the first
        round. Raises TinyMetaFedError."""
        await self.engine.boot(range(self.settings.nodes.count))
        return self.first_state()

    def first_state(self) -> FederationState:
        """The state before the first round."""
        with node_floats():
            theta = self.model.initial(self.settings.seed)
        return self.state_of(theta)

    def state_of(self, theta: NDArray[np.float32]) -> FederationState:
        """The state before the first round with these weights, float32 [parameters]."""
        strategy = self.settings.strategy
        with node_floats():
            found = strategy.start(theta, self.settings.devices.seen)
        where = returned.of(strategy, "start")
        return FederationState.start(returned.state(found, where, self.model.parameters))

    def program(self, state: FederationState) -> Program:
        """What the nodes do in the round after this state. Raises TinyMetaFedError."""
        strategy, at = self.settings.strategy, Round(state.done, self.settings.rounds)
        with node_floats():
            found = strategy.program(state.server, self.model, at)
        where = f"round {at.number + 1}: {returned.of(strategy, 'program')}"
        return returned.program(found, where, self.model.parameters)

    async def resume(
        self,
        state: FederationState,
        last: Mapping[int, tuple[int, int]],
        left_out: Collection[tuple[int | None, int]] = (),
    ) -> FederationState:
        """Brings nodes that were booted to where others were after the rounds that are done. last:
        of each node that was in any, its last round and the number of its last frame. left_out:
        round and node, of those that were left out of it and hold nothing of it. Returns the state
        without what nodes have lost that were away since."""
        rounds = {node: number for node, (number, _) in last.items()}
        boots = self.attendance.boots(rounds, state.done)
        since = self.attendance.since(state.done)
        await self._come_and_go(state.done)
        for node, times in enumerate(boots):
            self.engine.boot_again(node, times - 1)
        there = {node for node, number in rounds.items() if 0 <= since[node] < number}
        for node in there:  # the others have booted since, or will
            number, sequence = last[node]
            version = 0 if (number, node) in left_out else number
            await self.engine.place(node, state.theta, version, sequence)
        if self.settings.strategy.keeps != "residual":
            return state
        kept = {node: one for node, one in state.kept.items() if node in there}
        return dataclasses.replace(state, kept=kept)

    async def close(self) -> None:
        """Ends the nodes."""
        await self.engine.close()

    async def unplug(self, node: int) -> None:
        """Ends a node; it is not started again before it is plugged in."""
        self.unplugged.add(node)
        await self.engine.end([node])

    async def plug_in(self, node: int) -> None:
        """Boots a node that was unplugged. Raises TinyMetaFedError."""
        if node not in self.away:
            await self.engine.boot([node])
        self.unplugged.discard(node)

    async def _come_and_go(self, done: int) -> None:
        """Ends the nodes that leave after `done` rounds, and boots those that come back."""
        before, self.away = self.away, self.attendance.away(done)
        if before != self.away:
            await self.engine.end(self.away - before)
            await self.engine.boot(before - self.away - self.unplugged)

    def take_events(self) -> list[Event]:
        """The nodes' events since the last round: outside of rounds, or in one that an error has
        ended."""
        self._collect_events()
        events, self._events, self._under_way = self._events, [], None
        return events

    def _collect_events(self) -> None:
        self._events += [
            Event(self._under_way, node, event.device, event.kind, event.detail)
            for node, event in self.engine.take_events()
        ]

    def _present(self, done: int) -> list[int]:
        """Nodes that are there after `done` rounds. Raises TinyMetaFedError where none is."""
        absent = self.unplugged | self.attendance.away(done)
        present = [i for i in range(self.settings.nodes.count) if i not in absent]
        if not present:
            raise TinyMetaFedError("every node is unplugged or away; plug one in")
        return present

    async def round(self, state: FederationState) -> RoundResult:
        """One round. Raises TinyMetaFedError."""
        settings, strategy = self.settings, self.settings.strategy
        at = Round(state.done, settings.rounds)
        await self._come_and_go(state.done)

        # 1. Select the nodes, and the device that each of them plays.
        nodes, devices = self.select(state.done)

        # 2. Broadcast the weights; 3. reconstruct, 4. learn and 5. select on the nodes.
        program = self.program(state)
        owners = nodes if strategy.keeps == "residual" else devices
        instructions = [
            FitInstructions(device, state.kept.get(owner))
            for device, owner in zip(devices, owners, strict=True)
        ]
        self._collect_events()  # of boots
        self._under_way = at.number + 1
        counts = at.number + 1 in self._counted_rounds
        order = RoundOrder(nodes, program, state.broadcast, instructions, counts)
        results = await self.engine.fit(order)
        self._note_left_out(at.number + 1, nodes, devices, results)
        rows = [
            node_row(at.number + 1, node, device, result.usage, result)
            for node, device, result in zip(nodes, devices, results, strict=True)
        ]
        phases = [
            count
            for node, result in zip(nodes, results, strict=True)
            for count in phase_counts(at.number + 1, node, result.usage)
        ]
        rows = self._mark_late(rows, results)

        # 6. Aggregate the updates that came in time.
        updates = [
            result.update
            for result, row in zip(results, rows, strict=True)
            if result.update is not None and not row.late
        ]
        server = self._aggregate(state.server, updates, at) if updates else state.server
        kept = {
            owner: result.kept
            for owner, result in zip(owners, results, strict=True)
            if result.kept is not None
        }
        lost = self.away if strategy.keeps == "residual" else ()
        measured = [
            MeasuredCycles(at.number + 1, node, phase, cycles)
            for node, result in zip(nodes, results, strict=True)
            for phase, cycles in (result.cycles or {}).items()
        ]
        after = state.advance(server, kept, lost)
        return RoundResult(after, rows, phases, self.take_events(), measured)

    def select(self, done: int) -> tuple[list[int], list[int]]:
        """M nodes, or all that are there, and for each the device whose task it plays in this
        round."""
        settings, present = self.settings, self._present(done)
        count = min(settings.per_round, len(present))
        rng = np.random.default_rng([settings.seed, 0x_5E1EC7, done])
        nodes = rng.choice(present, count, replace=False)
        devices = rng.choice(settings.devices.seen, count, replace=False)
        return sorted(nodes.tolist()), devices.tolist()

    def _aggregate(self, state: ServerState, updates: Sequence[Update], at: Round) -> ServerState:
        """Step 6 of a round. Raises TinyMetaFedError where what comes of it are no weights."""
        strategy = self.settings.strategy
        with node_floats():
            after = strategy.aggregate(state, updates, at)
        where = f"round {at.number + 1}: {returned.of(strategy, 'aggregate')}"
        return returned.state(after, where, len(state.theta))

    def _note_left_out(
        self,
        number: int,
        nodes: Sequence[int],
        devices: Sequence[int],
        results: Sequence[FitResult],
    ) -> None:
        """Says who is left out of round `number`. Raises Diverged where training did and the run is
        to stop then."""
        for node, device, result in zip(nodes, devices, results, strict=True):
            if result.left_out:
                log.warning("round %d: node-%d is left out: its link is too noisy", number, node)
            if result.update is not None or result.left_out:
                continue
            what = f"round {number}: training of device {device} on node-{node} diverged"
            if self.settings.participation.diverged == "stop":
                raise Diverged(what)
            if self._warns:
                log.warning("%s; it is left out", what)

    def _mark_late(self, rows: list[NodeRound], results: Sequence[FitResult]) -> list[NodeRound]:
        """The rows of a round, marked where an update misses its deadline. Where training diverged
        there is no update to wait for."""
        settings = self.settings
        if (deadline := settings.participation.deadline) is None:
            return rows
        every = zip(rows, results, strict=True)
        pairs = [(row, one) for row, one in every if one.update is not None]
        timed = [node_row(row.round, row.node, row.device, one.timed, one) for row, one in pairs]
        phases = [
            count for row, one in pairs for count in phase_counts(row.round, row.node, one.timed)
        ]
        seconds: list[float | None] = []
        nodes: list[int] = []
        for group, energy in settings.priced:
            mine = [row for row in timed if row.node in group]
            own = [count for count in phases if count.node in group]
            seconds += accounts.durations(mine, own, energy, self._slowness)
            nodes += [row.node for row in mine]
        late = dict(zip(nodes, participation.late(seconds, deadline), strict=True))
        return [dataclasses.replace(row, late=late.get(row.node, False)) for row in rows]

    async def judge(self, state: FederationState) -> list[DeviceEvaluation]:
        """Evaluates the devices whose turn it is in this state, see judged_after. Raises
        TinyMetaFedError."""
        return await self.evaluate(state, self.settings.judged_after(state.done))

    async def evaluate(self, state: FederationState, judged: range) -> list[DeviceEvaluation]:
        """Few-shot adaptation of devices that training never sees, shared out over the nodes.

        It is a measurement and not part of the federation's work. Raises TinyMetaFedError.
        """
        if not judged:
            return []
        await self._come_and_go(state.done)
        present = self._present(state.done)
        shares = ((node, judged[first :: len(present)]) for first, node in enumerate(present))
        devices = {node: share for node, share in shares if share}
        rows = await self.engine.evaluate(state.broadcast, state.done, devices)
        return sorted(rows, key=lambda row: row.device)


def node_row(number: int, node: int, device: int, usage: Usage, result: FitResult) -> NodeRound:
    """What a node did in a round, for the store."""
    return NodeRound(
        number, node, device, usage.bytes_down, usage.bytes_up, usage.bytes_sensor,
        counted=usage.profile is not None, late=False,
        diverged=result.update is None and not result.left_out,
        sequence=result.sequence, messages=usage.messages, frames=usage.frames,
    )  # fmt: skip


def phase_counts(number: int, node: int, usage: Usage) -> Iterator[PhaseCount]:
    """What a node executed in a round, for the store."""
    profile = usage.profile
    if profile is None:
        return
    instructions, counts = profile.instructions.tolist(), profile.counts.tolist()
    cycles = {core: figures.tolist() for core, figures in profile.cycles.items()}
    for i, phase in enumerate(profile.phases):
        classes = {name: n for name, n in zip(COUNTED, counts[i], strict=True) if n}
        if classes:
            figures = {core: of_phases[i] for core, of_phases in cycles.items()}
            yield PhaseCount(number, node, phase, instructions[i], classes, figures)
