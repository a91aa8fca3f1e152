"""Clients of a federation on host nodes, which the shared library plays many at a time."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..nodes.answers import NodeRefused
from ..nodes.broadcast import Broadcast
from ..nodes.host import open_host
from ..nodes.native import Client as NativeClient
from ..nodes.native import NativeNodes, Played
from ..nodes.node import Node, Vector
from ..nodes.program import Program
from ..nodes.update import Update
from ..results.store import DeviceEvaluation
from .client import Client, FitInstructions, FitResult, judged


class HostNode(NamedTuple):
    """Where a host node stands: its number, the version of the weights that it holds (0 for none),
    and the number of its last frame."""

    number: int
    held: int = 0
    sequence: int = 0


class HostClients:
    """The work of host nodes in this process.

    capacity: of a frame's body, as the nodes' hello has it. threads: one for each processor where
    not given.
    """

    def __init__(self, client: Client, capacity: int, threads: int | None = None) -> None:
        self._client = client
        self._nodes = NativeNodes(client.model, client.load, capacity, threads)

    def fit(
        self,
        program: Program,
        broadcast: Broadcast,
        nodes: Sequence[HostNode],
        instructions: Sequence[FitInstructions],
    ) -> list[FitResult]:
        """Steps 2 to 5 of a round. Raises TinyMetaFedError."""
        clients: list[NativeClient] = []

        def make(some: slice) -> list[NativeClient]:
            made = self._clients(nodes[some], instructions[some])
            clients.extend(made)
            return made

        played = self._nodes.stream(program, broadcast, len(nodes), make)
        return [_result(nodes[i], instructions[i], clients[i], one) for i, one in enumerate(played)]

    def _clients(
        self, nodes: Sequence[HostNode], instructions: Sequence[FitInstructions]
    ) -> list[NativeClient]:
        keeps = self._client.settings.strategy.keeps is not None
        samples = self._client.population([one.device for one in instructions])
        return [
            NativeClient(
                node.held, node.sequence, support, query, self._kept(one.kept) if keeps else None
            )
            for node, one, (support, query) in zip(nodes, instructions, samples, strict=True)
        ]

    def _kept(self, kept: Vector | None) -> Vector:
        """A copy, which the node's work changes."""
        return np.zeros(self._client.model.parameters, np.float32) if kept is None else kept.copy()

    async def evaluate(
        self, broadcast: Broadcast, done: int, devices: Sequence[int]
    ) -> list[DeviceEvaluation]:
        """Few-shot adaptation of devices that training never sees, by their numbers, after `done`
        rounds. Raises TinyMetaFedError."""
        asked = [device for device in devices if self._client.tells_classes(device)]
        others = [device for device in devices if not self._client.tells_classes(device)]
        return self._evaluate(broadcast, done, others) + await self._ask(broadcast, done, asked)

    async def _ask(
        self, broadcast: Broadcast, done: int, devices: Sequence[int]
    ) -> list[DeviceEvaluation]:
        """As evaluate, of devices that are asked what they take their samples for, which the
        library has no answer to: they are played over a link, one by one."""
        if not devices:
            return []
        node = Node("a host node", open_host)
        try:
            await self._client.boot(node)
            # As the library has it: no weights are in the frames of a program that is not counted.
            return await self._client.evaluate(node, broadcast, done, devices, apart=True)
        finally:
            await node.close()

    def _evaluate(
        self, broadcast: Broadcast, done: int, devices: Sequence[int]
    ) -> list[DeviceEvaluation]:

        def make(some: slice) -> list[NativeClient]:
            return [
                NativeClient(0, 0, *self._client.never_seen(device)) for device in devices[some]
            ]

        program, part_of = self._client.evaluation, self._client.settings.part_of
        played = self._nodes.stream(program, broadcast, len(devices), make, counts=False)
        rows: list[DeviceEvaluation] = []
        for device, one in zip(devices, played, strict=True):
            _raise_unless_diverged(f"a node that played device {device}", one)
            rows.append(judged(done, device, part_of(device), one.evaluations))
        return rows

    def close(self) -> None:
        """Ends what works."""
        self._nodes.close()


def _raise_unless_diverged(who: str, played: Played) -> None:
    if played.refused is not None:
        refused = NodeRefused(who, *played.refused)
        if not refused.diverged:
            raise refused


def _result(
    node: HostNode, instructions: FitInstructions, client: NativeClient, played: Played
) -> FitResult:
    usage = played.usage
    if played.refused is not None:
        _raise_unless_diverged(f"node-{node.number}", played)
        return FitResult(None, instructions.kept, usage, usage, played.sequence)
    update = Update(instructions.device, len(client.query), played.indices, played.values)
    return FitResult(update, client.kept, usage, usage, played.sequence)
