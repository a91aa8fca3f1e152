"""The rounds: select nodes → broadcast → adapt on the nodes → collect updates → aggregate."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from .energy.profile import COUNTED
from .engine import Engine, Local, together
from .errors import TinyMetaFedError
from .experiment import Experiment
from .nodes.node import Broadcast, Node, Residual, Usage
from .store import DeviceEvaluation, NodeRound, PhaseCount
from .work import Learnt, Lesson, Work


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

    def __init__(
        self,
        experiment: Experiment,
        nodes: list[Node],
        make_engine: Callable[[Work], Engine] = Local,
    ) -> None:
        """make_engine: of what has the nodes at work. Raises TinyMetaFedError."""
        self.experiment = experiment
        self.nodes = nodes
        self.unplugged: set[int] = set()
        self.memory = 0
        self.work = Work(experiment)
        self.model = self.work.model
        self._engine = make_engine(self.work)

    async def start(self) -> None:
        """Boots the nodes and describes the model to them."""
        await self._engine.start()
        await together(map(self.boot, self.nodes))

    async def boot(self, node: Node) -> None:
        """Boots one of the nodes and describes the model to it."""
        self.memory = await self.work.boot(node)

    async def close(self) -> None:
        """Ends the nodes."""
        await self._engine.close()
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
        experiment, number = self.experiment, state.done + 1
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
        learnt, rows, phases = zip(*results, strict=True)
        theta = experiment.strategy.aggregate(  # step 6
            state.theta, [one.delta for one in learnt], state.done, experiment.rounds
        )
        kept = {i: one.residual for i, one in zip(chosen, learnt, strict=True)}
        residuals = {i: one for i, one in kept.items() if one is not None}
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

        It is a measurement and not part of the federation's work.
        """
        count, present = self.experiment.evaluation.devices, self._present()
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
