"""How much a run's updates tell of the samples of the nodes that sent them."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ..errors import TinyMetaFedError
from ..experiments import model_source
from ..federation import returned
from ..federation.client import Client, FitInstructions
from ..nodes.broadcast import Broadcast
from ..nodes.host import open_host
from ..nodes.node import Node
from ..nodes.program import Program, Select
from ..nodes.update import Update
from ..results.store import Run, Store
from ..strategies.base import Round, ServerState
from ..tasks.samples import Samples
from .differentiable import Array, Learnt, check
from .inversion import Attack, Inversion, Observed, Prior, solved

CANDIDATES = 100
"""Samples among which that one is to be told by what was reconstructed."""

KNOWN = 50
"""Devices, none of them attacked, whose samples the server is taken to know the mean of."""


@dataclass(frozen=True)
class Case:
    """What is attacked.

    samples: that an update is learnt from. percent: of the global part that is sent, as the
    strategy has it where None. values: a key of chunk.VALUES, or None as well.
    """

    samples: int
    percent: float | None = None
    values: str | None = None


@dataclass(frozen=True)
class Told:
    """What the updates of a case tell.

    devices: that were attacked. entries: sent, the mean over them. error: by device, the squared
    error of the reconstructed inputs, divided by that of the mean of known samples in their place.
    solved: the same of what the first layer tells without a search; none where it tells nothing.
    recognised: share of samples that, of CANDIDATES, are next to what was reconstructed. targets:
    the share of classes that were found; of values, the error as for inputs.
    """

    run: int
    strategy: str
    task: str
    done: int
    case: Case
    devices: int
    entries: float
    error: tuple[float, ...]
    solved: tuple[float, ...]
    recognised: float
    targets: float
    chance: float


class Attacked:
    """A run whose server attacks the nodes.

    It knows θ, the model and the program, and how many samples a node has. It attacks in the round
    behind the last one, or in the first.
    """

    def __init__(self, store: Store, run: Run, *, first: bool = False) -> None:
        """first: before any training. Raises TinyMetaFedError."""
        self.run = run
        settings = model_source.experiment_of(store, run)
        settings.task.prepare(settings.seed)
        self._client = Client(settings)
        self.settings, self.model = settings, self._client.model
        strategy = settings.strategy
        self.done = 0 if first else run.done
        if first:
            theta = self.model.initial(settings.seed)
            state = strategy.start(theta, settings.devices.seen)
        else:
            state = ServerState(run.weights, store.server_state(run.id))
        self.theta: NDArray[np.float32] = state.theta
        last = Round(min(self.done, settings.rounds - 1), settings.rounds)
        found = strategy.program(state, self.model, last)
        where = returned.of(strategy, "program")
        self.program = returned.program(found, where, self.model.parameters)
        check(self.program)
        if not any(isinstance(one, Select) for one in self.program):
            raise TinyMetaFedError(f"run {run.id}: {strategy.name} sends nothing, so tells nothing")

    def of(self, case: Case) -> Program:
        """The program where so much is sent. Raises TinyMetaFedError."""
        settings = self.settings
        if case.samples > settings.strategy.query:
            raise TinyMetaFedError(
                f"--samples: {case.samples}, but devices of run {self.run.id} learn from "
                f"{settings.strategy.query}"
            )
        changes = dict[str, object]()
        if case.percent is not None:
            keep = max(1, round(case.percent / 100 * self.model.global_parameters))
            changes["keep"] = keep
        if case.values is not None:
            changes["values"] = case.values
        return tuple(
            replace(one, **changes) if isinstance(one, Select) else one for one in self.program
        )

    def samples(self, devices: Sequence[int], count: int) -> list[tuple[Samples, Samples]]:
        """Support and query, so many of each at most."""
        every = self._client.population(devices)
        return [(support[:count], query[:count]) for support, query in every]

    def updates(self, program: Program, samples: list[tuple[Samples, Samples]]) -> list[Update]:
        """What a host node sends that plays these. Raises TinyMetaFedError."""

        async def work() -> list[Update]:
            node = Node("node-0", open_host)
            broadcast = Broadcast(self.theta, np.ones(len(self.theta), np.int64), 1)
            found: list[Update] = []
            try:
                await self._client.boot(node)
                for device, pair in enumerate(samples):
                    node.version = 0
                    instructions = FitInstructions(device)
                    fitted = await self._client.fit(node, program, broadcast, instructions, pair)
                    if fitted.update is None:
                        raise TinyMetaFedError(f"device {device}: training diverges")
                    found.append(fitted.update)
            finally:
                await node.close()
            return found

        return asyncio.run(work())


def measure(attacked: Attacked, case: Case, devices: int, attack: Attack) -> Told:
    """Attacks the first devices that training sees. Raises TinyMetaFedError."""
    settings, model = attacked.settings, attacked.model
    program = attacked.of(case)
    victims = attacked.samples(range(devices), case.samples)
    others = range(devices, min(devices + KNOWN, settings.devices.seen))
    if not others:
        raise TinyMetaFedError(
            f"--devices: {devices}, but run {attacked.run.id} has {settings.devices.seen}, and the "
            "server has to know others' samples"
        )
    known = attacked.samples(others, settings.strategy.query)
    inputs = np.concatenate([query.inputs for _, query in known]).astype(np.float64)
    prior = Prior(
        inputs.mean(axis=0), inputs.std(axis=0), inputs.min(), inputs.max(), settings.shape
    )
    if not model.target_is_class:
        values = np.concatenate([query.targets for _, query in known])
        prior = replace(prior, target=(float(values.mean()), float(values.std())))
    observed = _observed(attacked, program, victims)
    inversion = Inversion(model, program, attacked.theta, observed)
    guessed = inversion.guess(case.samples, prior, attack)
    exact = solved(model, program, observed) if case.samples == 1 else None
    compared = list(_compared(guessed, victims, inputs, prior, attack.seed))
    targets = [one for *_, one in compared]
    told = [] if exact is None else _of_one(exact, victims, prior)
    return Told(
        attacked.run.id, settings.strategy.name, settings.task.name, attacked.done, case, devices,
        float(observed.sent.sum(axis=1).mean()), tuple(error for error, *_ in compared),
        tuple(told), float(np.mean([share for _, share, _ in compared])),
        float(np.mean(targets)) if model.target_is_class else float(np.median(targets)),
        1 / model.classes if model.target_is_class else 1.0,
    )  # fmt: skip


def _observed(
    attacked: Attacked, program: Program, victims: list[tuple[Samples, Samples]]
) -> Observed:
    values = np.zeros((len(victims), attacked.model.parameters))
    sent = np.zeros(values.shape, np.bool_)
    for i, update in enumerate(attacked.updates(program, victims)):
        values[i, update.indices] = update.values
        sent[i, update.indices] = True
    return Observed(values, sent)


def _compared(
    guessed: Learnt,
    victims: list[tuple[Samples, Samples]],
    known: Array,
    prior: Prior,
    seed: int,
) -> Iterator[tuple[float, float, float]]:
    """Of each device: the error, the share of samples recognised, and what Told has of targets.
    What was reconstructed is in no order; it is compared in that in which it is nearest."""
    rng = np.random.default_rng([seed, 0x_CA9D])
    for inputs, targets, (_, query) in zip(*guessed, victims, strict=True):
        truth = query.inputs.astype(np.float64)
        squares = ((inputs[:, None] - truth) ** 2).sum(axis=2)
        mine, its = linear_sum_assignment(squares)
        error = squares[mine, its].sum() / ((truth - prior.mean) ** 2).sum()
        recognised: list[bool] = []
        for i, j in zip(mine, its, strict=True):
            others = known[(known != truth[j]).any(axis=1)]
            some = rng.choice(len(others), min(CANDIDATES - 1, len(others)), replace=False)
            nearest = ((others[some] - inputs[i]) ** 2).sum(axis=1).min()
            recognised.append(bool(squares[i, j] < nearest))
        wanted = query.targets[its]
        if wanted.ndim == 2:
            apart = ((wanted - prior.target[0]) ** 2).sum()
            found = float(((targets[mine] - wanted) ** 2).sum() / apart)
        else:
            classes = targets.argmax(axis=1) if targets.shape[1] > 1 else targets[:, 0] > 0.5
            found = float(np.mean(classes[mine] == wanted))
        yield float(error), float(np.mean(recognised)), found


def _of_one(exact: Array, victims: list[tuple[Samples, Samples]], prior: Prior) -> list[float]:
    """The error of each device's sample; a value that is not told is guessed as the mean."""
    errors: list[float] = []
    for found, (_, query) in zip(exact, victims, strict=True):
        truth = query.inputs[0].astype(np.float64)
        guess = np.where(np.isfinite(found), found, prior.mean)
        errors.append(float(((guess - truth) ** 2).sum() / ((truth - prior.mean) ** 2).sum()))
    return errors
