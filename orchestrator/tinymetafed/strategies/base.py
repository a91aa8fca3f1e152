"""What a strategy is, and the steps that several share."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..models.model import Model
from ..nodes.program import Program, Select, Send, Store, Train
from ..nodes.update import Update
from ..plugins import Kind
from ..settings import Settings

Rate = Annotated[float, Field(gt=0, le=10)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Batch = Annotated[int, Field(ge=1, le=65535)]


@dataclass(frozen=True)
class Round:
    """A round by its number, from 0 on, and how many there are."""

    number: int
    total: int


@dataclass(frozen=True)
class ServerState:
    """What the server keeps between rounds.

    theta: float32 [parameters], the shared weights. kept: by name, whatever else the strategy
    keeps: arrays of any numeric dtype and shape. All of it is stored with every round, so that a
    run that goes on is the run that never stopped. An array is never changed in place.
    """

    theta: NDArray[np.float32]
    kept: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])

    def moved(self, theta: NDArray[np.float64], **kept: NDArray[Any]) -> "ServerState":
        """The state with other weights, rounded to float32, and with these arrays in place of those
        of the same names."""
        with np.errstate(over="ignore"):  # who asked for it looks whether all is finite
            return ServerState(theta.astype(np.float32), {**self.kept, **kept})


class Strategy(Settings):
    """An algorithm of federated learning: a program for the nodes, an aggregation for the server.

    A strategy holds its settings and nothing else: what it does is a function of its arguments.
    Every strategy also has a `name`, by which an experiment file selects it; `support`, samples
    that a training device adapts on before it learns, may be 0; and `query`, samples that it learns
    from.
    """

    @property
    def uses_local(self) -> bool:
        """Whether parts of the model that are marked local stay on the nodes."""
        return False

    @property
    def serial(self) -> bool:
        """Whether one node takes part in a round, and no more."""
        return False

    @property
    def accumulates(self) -> bool:
        """Whether nodes need room for a gradient: for mini-batches of more than one sample, a
        proximal weight, and steps from a mark."""
        return False

    @property
    def capacity(self) -> int:
        """Samples that a node is to store."""
        return 0

    @property
    def marks(self) -> bool:
        """Whether nodes need room for a mark."""
        return False

    @property
    def keeps(self) -> Literal["residual", "variate"] | None:
        """What is kept from round to round: by a node what was not sent of its updates, or for a
        device its control variate."""
        return None

    @property
    def takes_fewer(self) -> bool:
        """Whether the program also suits a device with fewer query samples than `query`."""
        return True

    def start(self, theta: NDArray[np.float32], devices: int) -> ServerState:
        """The state before the first round. devices: how many there are to be seen in training."""
        del devices
        return ServerState(theta)

    @abstractmethod
    def program(self, state: ServerState, model: Model, server_round: Round) -> Program:
        """Steps 3 to 5 of a round, for a node that has θ."""

    @abstractmethod
    def aggregate(
        self, state: ServerState, updates: Sequence[Update], server_round: Round
    ) -> ServerState:
        """Step 6: the state after a round, from the updates that came, one at least."""

    @abstractmethod
    def personalise(self, model: Model, support: int, steps: int) -> Program:
        """Few-shot adaptation of a device with so many support samples, which has θ, in
        `steps` inner steps."""


def _check(strategy: Any) -> None:
    """Raises ValueError where what a user's strategy says of itself is nothing to go by."""
    for key, least in (("support", 0), ("query", 1), ("capacity", 0)):
        value = getattr(strategy, key)
        if type(value) is not int or value < least:
            raise ValueError(f"{key}: {value!r:.60} is no whole number of at least {least}")
    for key in ("uses_local", "serial", "accumulates", "marks", "takes_fewer"):
        if type(value := getattr(strategy, key)) is not bool:
            raise ValueError(f"{key}: {value!r:.60} is neither True nor False")
    if strategy.keeps not in (None, "residual", "variate"):
        raise ValueError(f'keeps: {strategy.keeps!r:.60} is neither None, "residual" nor "variate"')


def own_strategy(base: type[Strategy]) -> Kind:
    """Annotates a union of strategies: it also takes a user's, which derives from `base`."""
    return Kind("strategies", base, ("support", "query"), _check)


class Averaging(Strategy):
    """What holds for strategies whose server moves θ by the mean of the nodes' Δ; of another server
    they can be the clients (FedOpt)."""

    query: Count = 32
    """Samples that a device learns from in a round."""

    def weights(self, updates: Sequence[Update]) -> Sequence[float] | None:
        """Of the updates in the mean; None where all are alike."""
        del updates
        return None

    def step_size(self, server_round: Round) -> float:
        """How far the server goes by the mean."""
        del server_round
        return 1.0

    def mean(self, updates: Sequence[Update], parameters: int) -> NDArray[np.float64]:
        """The mean of Δ; see mean_update."""
        return mean_update(updates, parameters, self.weights(updates))

    def aggregate(
        self, state: ServerState, updates: Sequence[Update], server_round: Round
    ) -> ServerState:
        """See Strategy."""
        step = self.step_size(server_round) * self.mean(updates, len(state.theta))
        return state.moved(state.theta + step)


class WithoutSupport(Averaging):
    """What holds for strategies whose nodes learn from all samples alike."""

    @property
    def support(self) -> int:
        """No samples are set apart."""
        return 0


class Annealing(Averaging):
    """What holds for strategies whose outer rate is annealed."""

    outer_rate: Rate = 1.0
    """α0, the server's rate in the first round; it falls linearly to 0 over the rounds."""
    anneal: bool = True
    """Whether the outer rate falls; else it stays what it is in the first round."""

    def step_size(self, server_round: Round) -> float:
        """See Averaging."""
        return annealed(self.outer_rate, server_round) if self.anneal else self.outer_rate


class OnlineSGD(Annealing):
    """What holds for strategies whose nodes use each sample once and drop it."""


class MiniBatchSGD(WithoutSupport):
    """What holds for strategies whose nodes store their samples, and learn from them in several
    epochs of mini-batches."""

    rate: Rate = 0.01
    """Inner rate."""
    batch: Batch = 8
    """Samples of a mini-batch."""
    epochs: Batch = 8
    """Passes over a device's samples in a round."""

    @property
    def accumulates(self) -> bool:
        """See Strategy."""
        return self.batch > 1

    @property
    def capacity(self) -> int:
        """See Strategy."""
        return self.query

    def train(self, **changes: Any) -> Train:
        """SGD on the stored samples. changes: of the primitive."""
        train = Train("stored", rate=self.rate, batch=self.batch, epochs=self.epochs)
        return replace(train, **changes)

    def program(self, state: ServerState, model: Model, server_round: Round) -> Program:
        """See Strategy. All parameters move."""
        return Store("query"), self.train(), *send_all(model)

    def personalise(self, model: Model, support: int, steps: int) -> Program:
        """See Strategy. A device adapts as it was trained: mini-batches from the node's store."""
        del model
        batch = min(self.batch, support)
        epochs = round(steps * batch / support)
        if epochs == 0:
            return ()
        return Store("support"), self.train(batch=batch, epochs=epochs)


def annealed(rate: float, server_round: Round) -> float:
    """α_t: linear from `rate` in the first round to 0 after the last."""
    return rate * (1 - server_round.number / server_round.total)


def send_all(model: Model) -> Program:
    """All of Δ of the global part."""
    return Select(model.parameters), Send()


def mean_update(
    updates: Sequence[Update], parameters: int, weights: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """The mean of Δ over the nodes, float64 [parameters], an entry that was not sent counting as
    zero.

    weights: of the nodes in the mean; alike where not given. It is summed in float64 and in the
    order of the updates, so that it is the same bits everywhere.
    """
    weights = [1.0] * len(updates) if weights is None else weights
    total = np.zeros(parameters)
    for update, weight in zip(updates, weights, strict=True):
        update.add_to(total, weight)
    return total / sum(weights)
