"""What the federation knows between rounds."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..nodes.broadcast import Broadcast
from ..nodes.node import Vector
from ..strategies import ServerState


@dataclass(frozen=True)
class FederationState:
    """The server's state, and where the nodes stand.

    server: of the strategy. broadcast: its θ, as nodes are told it; the version is done + 1, since
    0 stands for no weights. done: rounds done. kept: by node, the residual of its updates, or by
    device its control variate; of one that is not there all is zero. A server would not know them:
    they are here so that a node can be brought to where it was.
    """

    server: ServerState
    broadcast: Broadcast
    done: int
    kept: Mapping[int, Vector] = field(default_factory=dict[int, Vector])

    @classmethod
    def start(
        cls,
        server: ServerState,
        done: int = 0,
        kept: Mapping[int, Vector] | None = None,
        changed: NDArray[np.int64] | None = None,
    ) -> "FederationState":
        """A state; where it is not said which version changed what, that of a federation whose
        nodes hold nothing yet."""
        changed = np.full(len(server.theta), done + 1) if changed is None else changed
        return cls(server, Broadcast(server.theta, changed, done + 1), done, kept or {})

    @property
    def theta(self) -> NDArray[np.float32]:
        """float32 [parameters]"""
        return self.server.theta

    def advance(
        self,
        server: ServerState,
        kept: Mapping[int, Vector] | None = None,
        lost: Collection[int] = (),
    ) -> "FederationState":
        """The state after one more round, which came to this state of the server and in which these
        vectors have changed. lost: whose are lost."""
        version = self.broadcast.version + 1
        moved = server.theta.view(np.uint32) != self.theta.view(np.uint32)
        changed = np.where(moved, version, self.broadcast.changed)
        every = {**self.kept, **(kept or {})}
        there = {owner: one for owner, one in every.items() if owner not in lost}
        broadcast = Broadcast(server.theta, changed, version)
        return FederationState(server, broadcast, self.done + 1, there)
