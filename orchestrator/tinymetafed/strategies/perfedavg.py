"""Per-FedAvg, first order: Fallah, Mokhtari, Ozdaglar 2020, arXiv:2002.07948, algorithm 1 without
the Hessian (the variant FO-MAML of its section 5).

A node does τ iterations. Each takes a step at rate α on a mini-batch of the support set, and then
moves the weights from before that step by β times the gradient behind it, on a mini-batch of the
query set. The new θ is the mean of the nodes' weights: an initialisation from which one step helps.
"""

from typing import Literal

from pydantic import model_validator

from ..models.model import Model
from ..nodes.program import Mark, Primitive, Program, Train
from .base import Averaging, Batch, Count, Rate, Round, ServerState, send_all


class PerFedAvg(Averaging):
    """Per-FedAvg, first order: steps by the gradient behind a step on support samples; τ is the
    number of mini-batches of the query set."""

    name: Literal["perfedavg"]
    rate: Rate = 0.01
    """α, of the step on support samples."""
    meta_rate: Rate = 0.01
    """β, of the step by the gradient behind it."""
    support: Count = 32
    """Samples of a device for the steps at rate α; at least as many as `query`."""
    batch: Batch = 8
    """Samples of a mini-batch."""

    @model_validator(mode="after")
    def _support_lasts(self) -> "PerFedAvg":
        if self.support < self.query:
            raise ValueError(
                f"support: {self.support} samples, but each mini-batch of the {self.query} query "
                "samples takes one of its own; use as many"
            )
        return self

    @property
    def accumulates(self) -> bool:
        """See Strategy."""
        return True

    @property
    def marks(self) -> bool:
        """See Strategy."""
        return True

    @property
    def takes_fewer(self) -> bool:
        """See Strategy. An iteration without its query samples would be half of one."""
        return False

    def program(self, state: ServerState, model: Model, server_round: Round) -> Program:
        """See Strategy."""
        iterations: list[Primitive] = []
        for first in range(0, self.query, self.batch):
            part = (first, first + self.batch)  # the last may be cut short
            iterations += [
                Mark(),
                Train("support", rate=self.rate, batch=self.batch, part=part),
                Train("query", rate=self.meta_rate, batch=self.batch, part=part, from_mark=True),
            ]
        return *iterations, *send_all(model)

    def personalise(self, model: Model, support: int, steps: int) -> Program:
        """See Strategy. Steps at rate α on mini-batches of the support set."""
        batch = min(self.batch, support)
        if steps == 0:
            return ()
        return (Train("support", rate=self.rate, batch=batch, steps=steps * batch),)
