"""What a run has spent, from its rows in the store, some rounds at a time.

The account is that of energy/ledger.py, here over arrays of node rounds, since a run can have
millions of them. A node executes in a round that no profile was taken of, where a sample of the
rounds was emulated, the mean of those that were.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from ..energy import power
from ..energy.ledger import ASLEEP, RECEIVE, SLEEP, TRANSMIT, WAKE_UP, Balance, Entry, Work, awake
from ..energy.settings import EnergySettings, Priced
from ..errors import TinyMetaFedError
from .profiles import READINGS, Layout, layout
from .schema import RESUMABLE
from .store import Run, Store

MOST_ROWS = 50_000
MOST_SLEEPERS = 2_000_000
"""Rows of node_round, and rounds times nodes, that are in memory at a time."""

RADIO = (RECEIVE, TRANSMIT, WAKE_UP)


@dataclass(frozen=True)
class Stretch:
    """Some rounds of a run; where a sample of its rounds was emulated, as if all had been.

    rounds, nodes: int64 [rows]. counted: bool [rows]. frames: of node_round. executed: instructions
    and, core after core, cycles: int64 [rows, phases, 1 + cores · READINGS].
    """

    first: int
    last: int
    rounds: NDArray[np.int64]
    nodes: NDArray[np.int64]
    counted: NDArray[np.bool_]
    frames: list[str]
    executed: NDArray[np.int64]


class Executed:
    """What the nodes of a run executed.

    phases: in any round. cores: of which all rounds have the cycles. Raises TinyMetaFedError where
    the store is damaged.
    """

    def __init__(self, store: Store, run: int, *, sampled: bool) -> None:
        """sampled: whether a sample of its rounds was emulated."""
        self.store, self.run = store, run
        self.on_air: dict[int, tuple[dict[str, int], list[list[float]]]] = {}  # see _Group.sent
        with store.readable(run):
            self._layouts = {names: layout(names) for names in store.layouts(run)}
        layouts = self._layouts.values()
        self.phases = tuple(sorted({name for one in layouts for name in one.phases}))
        every = [set(one.cores) for one in layouts]
        self.cores = tuple(sorted(set.intersection(*every))) if every else ()
        self.mean: NDArray[np.int64] | None = None
        self.mean = self._mean() if sampled and self._layouts else None

    def by_class(self) -> dict[str, dict[str, int]]:
        """Instructions of all nodes and rounds, by phase and class."""
        found: dict[str, Counter[str]] = {name: Counter() for name in self.phases}
        for names, cycles, classes in self.store.classes(self.run):
            with self.store.readable(self.run):
                one = layout(names)
                phases = one.table([cycles])[:, 1]
                counts = one.by_class(classes, len(phases))
                for i, name in enumerate(one.phases):
                    sums = counts[phases == i].sum(axis=0).tolist()
                    found[name].update(dict(zip(one.classes, sums, strict=True)))
        if self.mean is None:
            return dict(found)
        # As many as on the mean in each round of a node that was not emulated.
        rows, counted = self.store.extent(self.run)[1], max(1, self.store.counted(self.run))
        more = rows - counted
        return {
            phase: {name: n + more * round(n / counted) for name, n in classes.items()}
            for phase, classes in found.items()
        }

    def _mean(self) -> NDArray[np.int64]:
        """Of a node round that was counted: int64 [phases, 1 + cores · READINGS]."""
        counted = self.store.counted(self.run)
        total = np.zeros((len(self.phases), 1 + READINGS * len(self.cores)), np.int64)
        for stretch in self.stretches(1, only_counted=True):
            total += stretch.executed.sum(axis=0)
        return np.rint(total / max(1, counted)).astype(np.int64)

    def stretches(
        self, nodes: int, first: int = 1, *, only_counted: bool = False
    ) -> Iterator[Stretch]:
        """The rounds, ascending, from round `first` on. nodes: of the run. only_counted: without
        the rows of which no profile was taken."""
        done, rows = self.store.extent(self.run)
        length = min(MOST_ROWS * done // max(1, rows), MOST_SLEEPERS // nodes)
        for start in range(first, done + 1, max(1, length)):
            last = min(done, start + max(1, length) - 1)
            found = self.store.work(self.run, start, last, counted=only_counted)
            rounds, at_node, counted, frames = found
            if len(rounds) == 0:
                continue
            size = (len(rounds), len(self.phases), 1 + READINGS * len(self.cores))
            executed = np.zeros(size, np.int64)
            if counted.any():
                keys = rounds << 32 | at_node
                for names, one in self._layouts.items():
                    profiles = self.store.cycles(self.run, names, start, last)
                    with self.store.readable(self.run):
                        self._fill(executed, keys, one, profiles)
            if self.mean is not None:
                executed[~counted] = self.mean
                counted[:] = True
            yield Stretch(start, last, rounds, at_node, counted, frames, executed)

    def _fill(
        self,
        executed: NDArray[np.int64],
        keys: NDArray[np.int64],
        found: Layout,
        blobs: list[tuple[int, bytes]],
    ) -> None:
        table = found.table(blob for _, blob in blobs)
        size = np.dtype(found.type).itemsize * found.columns
        rounds = np.repeat(
            [number for number, _ in blobs], [len(blob) // size for _, blob in blobs]
        )
        wanted = rounds.astype(np.int64) << 32 | table[:, 0].astype(np.int64)
        rows = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        if (keys[rows] != wanted).any():
            raise ValueError("a profile of a node that has no row")
        phases = np.array([self.phases.index(name) for name in found.phases])
        columns = [2]
        for core in self.cores:
            start = 3 + READINGS * found.cores.index(core)
            columns += range(start, start + READINGS)
        executed[rows, phases[table[:, 1]]] = table[:, columns]


@dataclass(frozen=True)
class Spent:
    """What the nodes of a run executed, and its energy.

    phases: that were executed. instructions: int64 [nodes, phases]. cycles: int64 [phases,
    READINGS], of the device's core. accounts: that there are entries of. energy: seconds, joules
    and these by the shortest and the longest cycles, float64 [nodes, accounts, 4]. by_round:
    joules, float64 [rounds done + 1], after so many rounds.
    """

    phases: tuple[str, ...]
    instructions: NDArray[np.int64]
    cycles: NDArray[np.int64]
    accounts: tuple[str, ...]
    energy: NDArray[np.float64]
    by_round: NDArray[np.float64]

    def balance(self, account: str | None = None, node: int | None = None) -> Balance:
        """Of one account or all, of one node or all."""
        accounts = slice(None) if account is None else [self.accounts.index(account)]
        nodes = slice(None) if node is None else [node]
        return Balance(*self.energy[nodes][:, accounts].sum(axis=(0, 1)).tolist())


class _Group:
    """Nodes that are priced alike.

    columns: of Stretch.executed, the cycles of the device's core.
    """

    def __init__(self, nodes: range, settings: EnergySettings, executed: "Executed") -> None:
        self.nodes, cores = nodes, executed.cores
        self.device, self.radio = power.device(settings.device), power.radio(settings.radio)
        if self.device.core not in cores:
            raise TinyMetaFedError(
                f"{settings.device}: the run has no cycles of its core, {self.device.core}, only "
                f"of {', '.join(cores)}; run the experiment again"
            )
        start = 1 + READINGS * cores.index(self.device.core)
        self.columns = slice(start, start + READINGS)
        self._on_air = executed.on_air.setdefault(id(self.radio), ({}, []))

    def rows(self, one: Stretch) -> NDArray[np.bool_]:
        """Which rows are of its nodes: bool [rows]."""
        return (one.nodes >= self.nodes.start) & (one.nodes < self.nodes.stop)

    def computing(self, cycles: NDArray[np.int64]) -> NDArray[np.float64]:
        """Seconds and joules, as Spent has them, of cycles int64 [rows, phases, READINGS]: float64
        [rows, phases, 4]."""
        found = self.device.seconds(1.0) * cycles[:, :, [1, 1, 0, 2]].astype(np.float64)
        found[:, :, 1:] *= self.device.run_power
        found[cycles[:, :, 1] == 0] = 0.0
        return found

    def sent(self, frames: Sequence[str]) -> NDArray[np.float64]:
        """Seconds and joules by account of RADIO, of the frames of some rows: float64 [rows,
        accounts, 2]. Few of them differ, and those are kept for each radio."""
        places, rows = self._on_air
        for new in set(frames).difference(places):
            places[new] = len(places)
            work = Work(0, 0, None, *from_json(new))
            entries = {one.account: one for one in awake(work, self.device, self.radio)}
            there = [entries[name] for name in (RECEIVE, TRANSMIT)]
            wake_ups = sum(n for size in work.frames_down for n, _ in self.radio.packets(size))
            rows.append([*(n for one in there for n in (one.seconds, one.joules)), wake_ups])
        which = np.fromiter(map(places.__getitem__, frames), np.int64, len(frames))
        found = np.array(rows).reshape(-1, 5)[which]
        waking = found[:, 4:] * self.device.wake_up_us.value * 1e-6
        whole = np.concatenate([found[:, :4], waking, waking * self.device.run_power], axis=1)
        return whole.reshape(-1, len(RADIO), 2)


class Prices:
    """The prices of a run's work.

    Raises TinyMetaFedError where a device's core was not priced when the run was made.
    """

    def __init__(
        self,
        executed: Executed,
        priced: Priced,
        nodes: int,
        away: Callable[[int], Collection[int]],
    ) -> None:
        """nodes: of the run. away: see accounts.book."""
        self._executed, self._nodes, self._away = executed, nodes, away
        self._groups = [_Group(group, settings, executed) for group, settings in priced]
        self._interval = max(settings.interval for _, settings in priced)
        self._computing = [name for name in executed.phases if name != ASLEEP]
        self._places = [executed.phases.index(name) for name in self._computing]
        self._asleep = np.zeros(nodes)  # watts
        self._priced = np.zeros(nodes, np.bool_)
        for group in self._groups:
            some = slice(group.nodes.start, group.nodes.stop)
            self._asleep[some], self._priced[some] = group.device.sleep_power, True

    @property
    def accounts(self) -> tuple[str, ...]:
        """That there may be entries of; the last is sleep."""
        return (*self._computing, *RADIO, SLEEP)

    def spent(self) -> Spent:
        """Of the whole run."""
        executed, accounts = self._executed, self.accounts
        instructions = np.zeros((self._nodes, len(executed.phases)), np.int64)
        cycles = np.zeros((len(executed.phases), READINGS), np.int64)
        energy = np.zeros((self._nodes, len(accounts), 4))
        by_round = np.zeros(executed.store.extent(executed.run)[0] + 1)
        there = np.zeros(len(accounts), bool)
        for one in executed.stretches(self._nodes):
            instructions += _by_node(one, one.executed[:, :, 0], self._nodes).astype(np.int64)
            for group in self._groups:
                cycles += one.executed[:, :, group.columns][group.rows(one)].sum(axis=0)
            busy, sleep = self.price(one)
            energy[:, :-1] += _by_node(one, busy, self._nodes)
            slept = ~np.isnan(sleep)
            energy[:, -1, 0] += np.where(slept, sleep, 0.0).sum(axis=0)
            joules = sleep * self._asleep
            joules[~slept] = 0.0
            energy[:, -1, 1:] += joules.sum(axis=0)[:, None]
            awake = np.bincount(one.rounds - one.first, busy[:, :, 1].sum(axis=1), len(joules))
            by_round[one.first : one.last + 1] = joules.sum(axis=1) + awake
            there[:-1] |= (busy[:, :, 0] != 0).any(axis=0)
            there[-1] |= slept.any()
        there[len(self._computing) : -1] = True
        kept = [name for name, known in zip(accounts, there, strict=True) if known]
        seen = np.asarray(instructions.any(axis=0))
        return Spent(
            tuple(name for name, known in zip(executed.phases, seen, strict=True) if known),
            instructions[:, seen], cycles[seen], tuple(kept), energy[:, there], by_round.cumsum(),
        )  # fmt: skip

    def price(self, one: Stretch) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the nodes of some rounds did but sleep, float64 [rows, accounts without sleep, 4],
        as Spent has it; and seconds that each node slept, NaN where it is not known how long or the
        node was away: float64 [rounds, nodes]."""
        busy = np.zeros((len(one.rounds), len(self._computing) + len(RADIO), 4))
        for group in self._groups:
            mine = group.rows(one)
            cycles = one.executed[:, :, group.columns][mine][:, self._places]
            frames = list(compress(one.frames, mine))
            sent = group.sent(frames)[:, :, [0, 1, 1, 1]]
            busy[mine] = np.concatenate([group.computing(cycles), sent], axis=1)
        taken = busy[:, :, 0].sum(axis=1)
        rows, rounds = one.rounds - one.first, one.last - one.first + 1
        by_node = np.zeros((rounds, self._nodes))
        by_node[rows, one.nodes] = taken
        sleep = np.maximum(by_node.max(axis=1), self._interval)[:, None] - by_node
        sleep[rows[~one.counted & self._priced[one.nodes]]] = np.nan
        sleep[:, ~self._priced] = np.nan
        sleep[np.bincount(rows, minlength=rounds) == 0] = np.nan
        for number in range(rounds):
            if away := self._away(one.first + number - 1):
                sleep[number, list(away)] = np.nan
        return busy, sleep

    def entries(self, first: int = 1) -> Iterator[Entry]:
        """The ledger, by round and node; from round `first` on."""
        for one in self._executed.stretches(self._nodes, first):
            yield from self._entries(one)

    def _entries(self, one: Stretch) -> Iterator[Entry]:
        busy, sleep = self.price(one)
        accounts, computing = self.accounts, len(self._computing)
        places = {
            (number, node): i
            for i, (number, node) in enumerate(
                zip(one.rounds.tolist(), one.nodes.tolist(), strict=True)
            )
        }
        for number in range(one.first, one.last + 1):
            for node, seconds in enumerate(sleep[number - one.first].tolist()):
                i = places.get((number, node))
                if i is not None and self._priced[node]:
                    for k, figures in enumerate(busy[i].tolist()):
                        if k >= computing or figures[0]:
                            yield Entry(number, node, accounts[k], *figures)
                if seconds == seconds:  # not NaN
                    joules = seconds * float(self._asleep[node])
                    yield Entry(number, node, SLEEP, seconds, joules, joules, joules)


class Account:
    """The account of a run. Raises TinyMetaFedError where the device's core was not priced when the
    run was made."""

    def __init__(
        self,
        store: Store,
        run: Run,
        nodes: int,
        priced: Priced | None,
        away: Callable[[int], Collection[int]],
        *,
        sampled: bool,
    ) -> None:
        """nodes: of the run. priced: what they are priced for; None where that is not known, and
        there is no energy. away: see accounts.book. sampled: a sample of its rounds was emulated.
        """
        self._run, self.nodes, self._priced, self._away = run, nodes, priced, cache(away)
        self.executed = Executed(store, run.id, sampled=sampled)
        self._pricing: Prices | None = None
        if self.executed.phases and priced is not None and run.schema >= RESUMABLE:
            self._pricing = self.priced(priced)

    def priced(self, priced: Priced) -> Prices:
        """The same work for other devices and radios."""
        return Prices(self.executed, priced, self.nodes, self._away)

    def spent(self) -> Spent | None:
        """In all rounds; None where nothing was counted."""
        if not self.executed.phases:
            return None
        if self._pricing is not None:
            return self._pricing.spent()
        device = power.device(self._priced[0][1].device) if self._priced else None
        return _of_ledger(self.executed, device.core if device else "", self.nodes)

    def entries(self, first: int = 1) -> Iterable[Entry]:
        """The ledger, by round and node; from round `first` on."""
        if self._pricing is not None:
            return self._pricing.entries(first)
        return self.executed.store.ledger(self._run.id, first)


def _of_ledger(executed: Executed, core: str, nodes: int) -> Spent:
    """Of a run begun before schema 7, whose energy is in the store, or of one without any."""
    store, run = executed.store, executed.run
    instructions = np.zeros((nodes, len(executed.phases)), np.int64)
    cycles = np.zeros((len(executed.phases), READINGS), np.int64)
    for one in executed.stretches(nodes):
        instructions += _by_node(one, one.executed[:, :, 0], nodes).astype(np.int64)
        if core in executed.cores:
            start = 1 + READINGS * executed.cores.index(core)
            cycles += one.executed[:, :, start : start + READINGS].sum(axis=0)
    found = store.ledger_totals(run)
    accounts = sorted({account for _, account, *_ in found})
    energy = np.zeros((nodes, len(accounts), 4))
    for node, account, *figures in found:
        energy[node, accounts.index(account)] = figures
    by_round = np.zeros(store.extent(run)[0] + 1)
    for number, joules in store.joules_by_round(run):
        by_round[number] = joules
    return Spent(executed.phases, instructions, cycles, tuple(accounts), energy, by_round.cumsum())


def _by_node(one: Stretch, values: NDArray[Any], nodes: int) -> NDArray[np.float64]:
    """The sums over the rows of a node: float64 [nodes, …]."""
    columns = values.reshape(len(values), -1).T
    sums = np.array([np.bincount(one.nodes, column, nodes) for column in columns], np.float64)
    return sums.T.reshape(nodes, *values.shape[1:])
