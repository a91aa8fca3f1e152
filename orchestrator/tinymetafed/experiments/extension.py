"""More rounds for a run that has all of its rounds.

The rounds that are added are those of a run of so many: round t of N, after T that were played as
rounds of a run of T. Where no round depends on how many there are, the run is then the one that had
N from the start, to the last bit. Where one does, it is not: an outer rate that is annealed to 0
over T rounds goes up to that of round T + 1 of N.
"""

from collections.abc import Sequence

from ..errors import TinyMetaFedError
from ..results.store import Run
from ..settings import check
from ..strategies import (
    FedAdam,
    FedAvg,
    FedPer,
    FedProx,
    FedRep,
    FedYogi,
    Local,
    PerFedAvg,
    Reptile,
    Scaffold,
    Strategy,
    TinyMetaFed,
    TinyReptile,
)
from ..strategies.tinymetafed import Schedule
from .experiment import Experiment

STEADY = (FedAvg, FedPer, FedProx, FedRep, Local, PerFedAvg, Scaffold)
ANNEALED = (Reptile, TinyMetaFed, TinyReptile)
CLIENTS = (*STEADY, Reptile, TinyReptile)
"""Whose programs are the same in every round; the server of another strategy anneals nothing."""


def scheduled(strategy: Strategy) -> bool:
    """Whether a round depends on how many there are. So it may for all that is known of a user's
    own strategy."""
    if isinstance(strategy, FedAdam | FedYogi) and type(strategy) in (FedAdam, FedYogi):
        client = strategy.client
        if type(client) is TinyMetaFed:
            return isinstance(client.percent, Schedule)
        return type(client) not in CLIENTS
    if isinstance(strategy, ANNEALED) and type(strategy) in ANNEALED and not strategy.anneal:
        return isinstance(strategy, TinyMetaFed) and isinstance(strategy.percent, Schedule)
    return type(strategy) not in STEADY


def extended(experiment: Experiment, run: Run, rounds: int, *, reschedule: bool) -> Experiment:
    """The experiment of a run with so many rounds in all; the runner stores that when it goes on.

    Raises TinyMetaFedError where not all of its rounds are done, where it has as many, where which
    rounds are counted depends on how many there are; and, but for reschedule, where its strategy is
    scheduled.
    """
    if rounds == run.rounds:  # the same command once more, which goes on
        return experiment
    if run.done < run.rounds:
        raise TinyMetaFedError(
            f"run {run.id}: {run.done} of {run.rounds} rounds are done; 'tinymetafed run --resume "
            f"{run.id}' does the others first"
        )
    if rounds < run.rounds:
        raise TinyMetaFedError(f"--rounds: {rounds}, but run {run.id} has {run.rounds}; give more")
    if experiment.nodes.sampled:
        raise TinyMetaFedError(
            f"run {run.id}: which of its rounds are counted (nodes.emulate, nodes.counted) depends "
            f"on how many there are; run the experiment again with --set rounds={rounds}"
        )
    if scheduled(experiment.strategy) and not reschedule:
        raise TinyMetaFedError(
            f"run {run.id}: what a round of {experiment.strategy.name} does depends on how many "
            f"there are, as an outer rate that falls to 0 with the last; with more it is not the "
            f"run of {rounds} rounds: run the experiment again with --set rounds={rounds}, or go "
            f"on with --reschedule, with round {run.rounds + 1} of {rounds}"
        )
    tree = run.tree | {"rounds": rounds}
    return check(Experiment, tree, f"run {run.id}: --rounds {rounds}")


def note(after: Sequence[int], rounds: int, experiment: Experiment | None) -> str | None:
    """What has to be known of a run of so many rounds to which some were added; None of others.
    experiment: None where it cannot be read."""
    if not after:
        return None
    before = ", then ".join(f"{one:,}" for one in after)
    text = f"Rounds were added: there were to be {before}, now {rounds:,}."
    if experiment is None or scheduled(experiment.strategy):
        return f"{text} This is not the run that had {rounds:,} from the start."
    return text
