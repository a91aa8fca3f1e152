"""Sampled emulation: host nodes or boards play every round, and emulated nodes some of them again.

What a node computes is the same bit for bit on every backend, so a round on the emulator can start
from the host's weights, and has to end in them. Its cycles stand for those of the other rounds.
"""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import TinyMetaFedError
from ..federation.client import Client
from ..federation.engines import LinkEngine, together
from ..federation.federation import Federation, RoundResult
from ..federation.state import FederationState
from ..nodes.backends import make_nodes
from ..nodes.node import Node
from ..results.store import Event
from .experiment import Experiment


def _bits(state: FederationState) -> NDArray[np.uint32]:
    """Of θ, and of what the nodes keep of their updates."""
    kept = [state.kept[owner] for owner in sorted(state.kept)]
    return np.concatenate([state.theta, *kept]).view(np.uint32)


class EmulatedSample:
    """The sampled rounds of one run, on nodes that run no longer than these.

    Attributes:
        nodes: emulated, one for each of the run's.
        last: of each of the run's nodes that was in any round, the last one, and the number of its
            last frame.
    """

    def __init__(
        self,
        experiment: Experiment,
        nodes: Sequence[Node],
        rounds: Collection[int],
        client: Client,
        around: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    ) -> None:
        """nodes: one for each of the run's, not started. rounds: that they play. around: entered
        around each of these, with the nodes as they are before it."""
        self.nodes = nodes
        self._rounds = rounds
        self._other = "+".join(experiment.nodes.backends)
        self._around = around
        self._engine = LinkEngine(client, nodes)
        self._federation = Federation(experiment, self._engine, warns=False)  # the host's does
        self.last: dict[int, tuple[int, int]] = {}

    @classmethod
    def of(cls, experiment: Experiment, directory: Path) -> "EmulatedSample":
        """Of as many rounds as the experiment says. directory: private, for the nodes."""
        settings = experiment.nodes
        nodes = make_nodes(settings.on_qemu, directory, experiment.timings)
        return cls(experiment, nodes, experiment.counted_rounds, Client(experiment))

    async def start(self) -> None:
        """Boots a node, which says of what build it is, and ends it. Raises TinyMetaFedError."""
        await self._engine.boot([0])
        await self.close()

    def take_events(self) -> list[Event]:
        """Those of a round that an error has ended. See Federation."""
        return self._federation.take_events()

    async def close(self) -> None:
        """Ends the nodes."""
        await self._federation.close()
        for node in self.nodes:
            node.take_usage()  # so that its next start is not one in the middle of a round

    async def follow(self, before: FederationState, result: RoundResult) -> RoundResult:
        """A round of the host's, with what was executed in it where it is one of the sample.

        Raises TinyMetaFedError where the emulated nodes come to other weights than the host's.
        """
        number = result.state.done
        if number in self._rounds:
            result = await self._play(before, result)
        self.last |= {row.node: (number, row.sequence) for row in result.rows}
        return result

    async def _play(self, before: FederationState, result: RoundResult) -> RoundResult:
        federation = self._federation
        federation.away = federation.attendance.away(before.done)  # so that none comes or goes
        await together(self._bring(row.node, before) for row in result.rows)
        async with self._around():
            emulated = await federation.round(before)
        await self.close()
        if (differ := _bits(emulated.state) != _bits(result.state)).any():
            raise TinyMetaFedError(
                f"round {result.state.done}: {np.count_nonzero(differ)} of {len(differ)} weights "
                f"of the emulated nodes are not the {self._other}'s; build both from the same "
                "source ('make firmware')"
            )
        counted = {row.node: row.counted for row in emulated.rows}
        rows = [dataclasses.replace(row, counted=counted[row.node]) for row in result.rows]
        events = [*result.events, *emulated.events]
        return dataclasses.replace(result, rows=rows, phases=emulated.phases, events=events)

    async def _bring(self, index: int, state: FederationState) -> None:
        """Boots a node; what it is sent in the round is then what the host's was sent."""
        node, federation = self.nodes[index], self._federation
        await self._engine.boot([index])
        last, sequence = self.last.get(index, (0, 0))
        if last > federation.attendance.since(state.done)[index]:
            await self._engine.place(index, state.theta, last, sequence)
        else:  # the host's was new
            node.sequence = 0
        node.take_usage()
