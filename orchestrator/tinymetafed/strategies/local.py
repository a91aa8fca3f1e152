"""No exchange: a device learns alone, from the shared initialisation, which never changes.

What a federation has to beat, and often does not: Yu, Bagdasaryan, Shmatikov 2020,
arXiv:2002.04758. Nothing of an update is asked for; in each round other devices start afresh.
"""

from collections.abc import Sequence
from typing import Literal

from ..models.model import Model
from ..nodes.program import Program, Store
from ..nodes.update import Update
from .base import MiniBatchSGD, Round, ServerState


class Local(MiniBatchSGD):
    """No federation: a device learns alone, from the shared initialisation, which never changes."""

    name: Literal["local"]

    def program(self, state: ServerState, model: Model, server_round: Round) -> Program:
        """See Strategy."""
        return Store("query"), self.train()

    def aggregate(
        self, state: ServerState, updates: Sequence[Update], server_round: Round
    ) -> ServerState:
        """See Strategy."""
        return state
