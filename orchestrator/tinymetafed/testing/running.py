"""A federation under test: its rounds, and the figures of the last ones."""

from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import settings
from ..energy.ledger import balance
from ..experiments.experiment import Experiment
from ..federation.client import Client
from ..federation.engines import LinkEngine
from ..federation.federation import Federation
from ..federation.settings import FederationSettings
from ..federation.state import FederationState
from ..nodes.backends import make_nodes, private_directory
from ..nodes.events import FIRMWARE_FAULTS
from ..nodes.node import Node
from ..nodes.noise import Noise
from ..nodes.power import Power
from ..nodes.settings import LinkNoise
from ..nodes.transport import NodeLost
from ..report import events
from ..results import accounts
from ..results.store import Event, NodeRound, PhaseCount


@dataclass
class Running:
    """A federation under test.

    resources: end it, its nodes and its files. rounds, rows, phases: of the last `run`.
    absent: nodes that were unplugged in these rounds. events: of all nodes, until somebody takes
    them.
    """

    name: str
    federation: Federation
    nodes: list[Node]
    powers: list[Power]
    resources: AsyncExitStack
    state: FederationState
    rounds: int = 0
    rows: list[NodeRound] = field(default_factory=list)
    phases: list[PhaseCount] = field(default_factory=list)
    absent: frozenset[int] = frozenset()
    events: list[Event] = field(default_factory=list[Event])

    @property
    def experiment(self) -> FederationSettings:
        """The settings that it runs."""
        return self.federation.settings

    @property
    def counts_instructions(self) -> bool:
        """Whether its backend does."""
        return all(node.pricing is not None for node in self.nodes)

    def take_faults(self) -> list[Event]:
        """The firmware's, since the last call; none where the experiment tolerates them."""
        found, self.events = self.events + self.federation.take_events(), []
        if self.experiment.faults.tolerate:
            return []
        return [event for event in found if event.kind in FIRMWARE_FAULTS]

    def need_node(self, index: int) -> None:
        """Raises AssertionError where there is none of that number."""
        count = len(self.nodes)
        if not 0 <= index < count:
            raise AssertionError(f"no node {index}; {self.name} has 0 to {count - 1}")

    async def run(self, count: int) -> None:
        """Does some rounds. Raises AssertionError where it has fewer left, and TinyMetaFedError."""
        done, rounds = self.state.done, self.experiment.rounds
        if not 1 <= count <= rounds - done:
            raise AssertionError(
                f"{self.name} cannot do {count} rounds: {done} of its {rounds} are done; "
                f"start it with rounds={done + max(1, count)}"
            )
        self.rounds, self.rows, self.phases = 0, [], []
        self.absent = frozenset(self.federation.unplugged)
        for _ in range(count):
            result = await self.federation.round(self.state)
            self.state = result.state
            self.rounds += 1
            self.rows += result.rows
            self.phases += result.phases
            self.events += result.events

    async def disturb(self, keyword: str, noise: dict[str, Any]) -> None:
        """From now on the links have this noise in rounds, as of [[faults.links]]. Raises
        AssertionError where there is no node of a number that it names, and TinyMetaFedError."""
        links = settings.check(LinkNoise, noise, keyword)
        for node in links.nodes or ():
            self.need_node(node)
        for i, node in enumerate(self.nodes):
            before, node.noise = node.noise, Noise([links], i, self.experiment.seed)
            node.noise.spoiled = before.spoiled if before is not None else 0

    def spoiled(self) -> list[int]:
        """Frames of each node that noise took since its start, doubled or put out of order."""
        return [0 if node.noise is None else node.noise.spoiled for node in self.nodes]

    async def loss(self) -> float:
        """Mean loss on the devices for validation, after adaptation to each. Raises AssertionError
        where there are none or adaptation to one diverges, and TinyMetaFedError."""
        devices = self.experiment.devices_of("validation")
        if not devices:
            raise AssertionError(
                f"{self.name}: evaluation.devices is 0, so there are none to judge"
            )
        judged = await self.federation.evaluate(self.state, devices)
        known = [one.loss_after for one in judged if one.loss_after is not None]
        if len(known) < len(judged):
            raise AssertionError(
                f"adaptation diverged on {len(judged) - len(known)} of {len(judged)} devices"
            )
        return float(np.mean(known))

    async def lost(self, index: int) -> str | None:
        """Why a node does not answer; None where it does. Raises AssertionError where there is no
        such node."""
        self.need_node(index)
        node = self.nodes[index]
        with node.not_counted():
            try:
                await node.greet()
            except NodeLost as error:
                node.note(error.event)
                return str(error)
        return None

    def bytes_per_round(self) -> float:
        """Both ways. Raises AssertionError."""
        self._need_rounds()
        return sum(row.bytes_down + row.bytes_up for row in self.rows) / self.rounds

    def instructions_per_round(self) -> dict[str, float]:
        """By phase. Raises AssertionError."""
        self._need_counts()
        total: dict[str, int] = defaultdict(int)
        for row in self.phases:
            total[row.phase] += row.instructions
        return {phase: count / self.rounds for phase, count in total.items()}

    def energy_per_round(self) -> float:
        """Joules, expected. Raises AssertionError."""
        self._need_counts()
        run = self.experiment
        entries = accounts.book(self.rows, self.phases, run.priced, run.attendance.away)
        return balance([e for e in entries if e.node not in self.absent]).joules / self.rounds

    def _need_rounds(self) -> None:
        if self.rounds == 0:
            raise AssertionError(f"{self.name} has done no rounds yet; run some first")

    def _need_counts(self) -> None:
        self._need_rounds()
        if not self.counts_instructions:
            backend = " and ".join(self.experiment.nodes.backends)
            raise AssertionError(
                f"{self.name}: {backend} nodes are not counted; use qemu or renode"
            )
        lost = next((row for row in self.rows if not row.counted), None)
        if lost is not None:
            raise AssertionError(
                f"{self.name}: node-{lost.node} was started again in round {lost.round}, so what "
                "it executed is not known; measure other rounds"
            )


def faults_of(running: Running) -> str:
    """What the nodes of a federation have done that was not asked for before, a line for each;
    empty for nothing."""
    lines = [
        f"firmware fault in {running.name}, node-{one.node}: {events.text(one)} "
        f"({events.registers(one)})"
        for one in running.take_faults()
    ]
    return "\n".join(lines)


async def start(name: str, read: Experiment) -> Running:
    """Boots the nodes of an experiment. Raises TinyMetaFedError."""
    async with AsyncExitStack() as resources:
        nodes = make_nodes(read.nodes, resources.enter_context(private_directory()), read.timings)
        powers: list[Power] = []
        for node in nodes:
            power = Power(node.name, node.open_transport)
            node.open_transport = power.open
            powers.append(power)
        federation = Federation(read, LinkEngine(Client(read), nodes))
        resources.push_async_callback(federation.close)
        state = await federation.start()
        return Running(name, federation, nodes, powers, resources.pop_all(), state)
