"""Which nodes are there in a round, and which of them are slow or late.

All of it is a function of the settings and the seed, so that a run that goes on finds the nodes as
they would be.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..settings import Settings

Probability = Annotated[float, Field(ge=0, le=1)]


class Slow(Settings):
    """Nodes whose processors take longer: their share of all, and how many times as long."""

    share: Probability
    """Part of the nodes that is slow."""
    factor: Annotated[float, Field(ge=1, le=1e6)]
    """How many times as long they compute."""


class Participation(Settings):
    """[participation]: nodes that leave and come back, how long a round waits for them, and what
    becomes of a round without the update of one."""

    leave: Probability = 0.0
    """Probability, before each round, that a node leaves that is there."""
    join: Probability = 1.0
    """Probability, before each round, that a node comes back that is away. It boots, and is sent
    all weights."""
    deadline: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Seconds, of the device's own time, after which an update is late and left out. Needs nodes
    that are counted. No deadline if not given."""
    slow: Slow | None = None
    """Nodes whose processors are slower. None if not given."""
    diverged: Literal["leave_out", "stop"] = "leave_out"
    """What happens where the training of a device is no longer finite: the round goes on without
    its update, or the run ends."""


class Attendance:
    """Who is there in each round: for every node a Markov chain of two states.

    All are there in the first round. Where none would be left in a later one, the node that drew
    the highest number is there.
    """

    def __init__(self, settings: Participation, seed: int, count: int) -> None:
        self._settings, self._seed, self._count = settings, seed, count
        self._begin()

    def _begin(self) -> None:
        self._done = 0
        self._since = np.zeros(self._count, np.int64)

    def since(self, done: int) -> NDArray[np.int64]:
        """Of the round after `done` rounds, int64 [nodes]: how many were done when the node joined;
        -1 where it is away. In ascending order of rounds this takes a draw each."""
        if self._settings.leave == 0:
            return self._since
        if done < self._done:
            self._begin()
        while self._done < done:
            self._done += 1
            self._step()
        return self._since

    def _step(self) -> None:
        draws = np.random.default_rng([self._seed, 0x_1EAFE5, self._done]).random(self._count)
        before = self._since >= 0
        there = np.where(before, draws >= self._settings.leave, draws < self._settings.join)
        if not there.any():
            there[draws.argmax()] = True
        joined = np.where(before, self._since, self._done)
        self._since = np.where(there, joined, -1)

    def boots(self, last: Mapping[int, int], done: int) -> list[int]:
        """How often each node has joined since it last took part in a round, up to the one after
        `done` rounds. last: the number of that round, of each that was in any."""
        joined: list[set[int]] = [set() for _ in range(self._count)]
        for before in range(done + 1):
            for node, since in enumerate(self.since(before).tolist()):
                if since >= last.get(node, 0):
                    joined[node].add(since)
            if self._settings.leave == 0:
                break  # it is the same of all rounds
        return list(map(len, joined))

    def away(self, done: int) -> frozenset[int]:
        """Nodes that are not there in the round after `done` rounds."""
        if self._settings.leave == 0:
            return frozenset()
        return frozenset(np.flatnonzero(self.since(done) < 0).tolist())


def slowness(settings: Participation, seed: int, count: int) -> NDArray[np.float64]:
    """How many times as long each node's processor takes, float64 [nodes]: for the share of them
    that is slow, rounded to whole nodes, the factor, for the others 1."""
    factors = np.ones(count)
    if (slow := settings.slow) is not None:
        order = np.random.default_rng([seed, 0x_510E]).permutation(count)
        factors[order[: round(slow.share * count)]] = slow.factor
    return factors


def late(seconds: Sequence[float | None], deadline: float) -> list[bool]:
    """Which of the nodes of a round come after its deadline, by what each takes; None, where that
    is not known, is in time. Where all are late, the round waits for the first."""
    first = min((0.0 if one is None else one for one in seconds), default=0.0)
    closes = max(deadline, first)
    return [one is not None and one > closes for one in seconds]
