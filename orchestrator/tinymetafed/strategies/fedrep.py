"""FedRep: Collins, Hassani, Mokhtari, Shakkottai 2021, arXiv:2102.07078, algorithm 1.

A node first fits its head, the layers that are marked local, with the shared representation frozen;
then the representation with the head frozen. Only the representation is sent, and averaged. A node
plays another device in each round, so that the head begins at the shared initialisation each time.
"""

from dataclasses import replace
from typing import Literal

from ..models.model import Model
from ..nodes.program import Program, Store, Train
from .base import Batch, MiniBatchSGD, Round, ServerState, send_all


class FedRep(MiniBatchSGD):
    """FedRep: a node fits its local head, then the shared representation."""

    name: Literal["fedrep"]
    head_epochs: Batch = 8
    """Passes over a device's samples for the local part."""
    epochs: Batch = 1
    """Passes over a device's samples for the rest."""

    @property
    def uses_local(self) -> bool:
        """See Strategy."""
        return True

    def program(self, state: ServerState, model: Model, server_round: Round) -> Program:
        """See Strategy."""
        head = self.train(frozen=model.frozen(local=False), epochs=self.head_epochs)
        representation = self.train(frozen=model.frozen(local=True))
        return Store("query"), head, representation, *send_all(model)

    def personalise(self, model: Model, support: int, steps: int) -> Program:
        """See Strategy. A new device fits its head alone."""
        frozen = model.frozen(local=False)
        return tuple(
            replace(one, frozen=frozen) if isinstance(one, Train) else one
            for one in super().personalise(model, support, steps)
        )
