"""What a run has spent after each of its rounds, for any devices and radios: its work is read from
the store once, and priced as often as there are prices."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..energy import power
from ..energy.settings import Priced
from ..errors import TinyMetaFedError
from .schema import RESUMABLE
from .spending import Account, Prices, Stretch
from .store import Run

K = TypeVar("K")


@dataclass(frozen=True)
class Course:
    """Of all nodes together, for one price.

    joules: float64 [rounds done + 1], since the start. seconds: float64 [rounds done + 1], since
    the start, that the rounds take on the devices, each as long as its slowest node; None where it
    is not known. accounts: joules by account. low, high: joules by the shortest and the longest
    cycles.
    """

    joules: NDArray[np.float64]
    seconds: NDArray[np.float64] | None
    accounts: Mapping[str, float]
    low: float
    high: float


class _Sum:
    """Adds up what the stretches of a run cost."""

    def __init__(self, prices: Prices, priced: Priced, nodes: int, done: int) -> None:
        self._prices = prices
        self._interval = max(settings.interval for _, settings in priced)
        self._asleep = np.zeros(nodes)  # watts
        for group, settings in priced:
            some = slice(group.start, group.stop)
            self._asleep[some] = power.device(settings.device).sleep_power
        self._joules, self._seconds = np.zeros(done + 1), np.zeros(done + 1)
        self._accounts = np.zeros((len(prices.accounts), 3))

    def add(self, one: Stretch) -> None:
        busy, sleep = self._prices.price(one)
        rows, rounds = one.rounds - one.first, one.last - one.first + 1
        slept = np.nan_to_num(sleep * self._asleep)
        here = slice(one.first, one.last + 1)
        awake = np.bincount(rows, busy[:, :, 1].sum(axis=1), rounds)
        self._joules[here] = slept.sum(axis=1) + awake
        longest = np.zeros(rounds)
        np.maximum.at(longest, rows, busy[:, :, 0].sum(axis=1))
        # A round without a node that took part has no length.
        self._seconds[here] = np.where(longest > 0, np.maximum(longest, self._interval), 0.0)
        self._accounts[:-1] += busy[:, :, 1:].sum(axis=0)
        self._accounts[-1] += slept.sum()

    def course(self) -> Course:
        expected, low, high = self._accounts.T
        accounts = zip(self._prices.accounts, expected.tolist(), strict=True)
        return Course(
            self._joules.cumsum(), self._seconds.cumsum(),
            {name: joules for name, joules in accounts if joules},
            float(low.sum()), float(high.sum()),
        )  # fmt: skip


def courses(run: Run, account: Account, prices: Mapping[K, Priced]) -> dict[K, Course]:
    """By price, of those that the run can be priced for: it has the cycles of the core. Empty where
    nothing was counted, or the run is of before schema 7, whose energy alone is in the store.

    prices: each of all nodes that are priced. account: the run's own.
    """
    executed = account.executed
    if not executed.phases or run.schema < RESUMABLE:
        return {}
    sums: dict[K, _Sum] = {}
    for key, priced in prices.items():
        try:
            found = account.priced(priced)
        except TinyMetaFedError:  # no cycles of its core
            continue
        sums[key] = _Sum(found, priced, account.nodes, run.done)
    for one in executed.stretches(account.nodes):
        for total in sums.values():
            total.add(one)
    return {key: total.course() for key, total in sums.items()}
