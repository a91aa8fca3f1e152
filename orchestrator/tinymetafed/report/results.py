"""Runs as a report compares them: what each has learnt for which bytes and joules, and which are of
the same settings but for the seed."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..energy.ledger import Entry
from ..errors import TinyMetaFedError
from ..experiments.experiment import Experiment
from ..plugins import recorded, short
from ..results.spending import Spent
from ..results.statistics import mean_and_interval
from ..results.store import Event, NodeRound, NodeTotal, Run, Store
from . import described
from .energy import uncounted_rounds
from .events import MOST_ON_PAGE
from .summary import MeanLosses, losses, shares

MOST_POINTS = 60
"""Of a run's evaluations; where there are more, as many evenly spread ones stand for all."""

MOST_DIFFERENCES = 3
"""In settings, that a label has room for."""

COUNTING = {
    "qemu": "emulated on QEMU, every instruction counted",
    "renode": "emulated on Renode, instructions counted, their cycles traced once for each kind of "
    "request and scaled",
    "serial": "on boards, nothing counted",
    "host": "the firmware's core in-process, nothing counted",
}
"""How what a backend's nodes execute is known."""


_Flat = Mapping[str, str]


@dataclass(frozen=True)
class Result:
    """One run, read from the store.

    judged: its evaluations while it went on, see Store.learning; thinned: some of them only. final:
    the last one of unseen devices, None where there is none. totals: what each node did. moved:
    bytes of all nodes down and up, by round. sent: messages, and of how many rows. spent: None
    where nothing was counted; of all rounds where a sample was. last_rows, last: of the last round
    the rows, and the ledger. events: the first MOST_ON_PAGE; event_counts: of all, by kind and
    node. extensions: after how many rounds, which were all, more were added.
    """

    run: Run
    experiment: Experiment
    judged: list[MeanLosses]
    thinned: bool
    totals: list[NodeTotal]
    moved: list[tuple[int, int]]
    sent: list[tuple[str, int]]
    spent: Spent | None
    last_rows: list[NodeRound]
    last: list[Entry]
    events: list[Event]
    event_counts: dict[tuple[str, int], int]
    extensions: list[int]
    final: MeanLosses | None

    @classmethod
    def read(cls, store: Store, run: Run) -> "Result":
        """All of it that a report is made of. Raises TinyMetaFedError where this version cannot
        read the run's settings, or nothing was judged."""
        experiment = described.settings(run)
        judged = losses(store.learning(run.id))
        if not judged:
            raise TinyMetaFedError(
                f"run {run.id}: no device is judged before its last round, as evaluation.devices "
                f"is 0; 'tinymetafed run --resume {run.id}' goes on"
            )
        thinned = len(judged) > MOST_POINTS
        if thinned:
            chosen = np.linspace(0, len(judged) - 1, MOST_POINTS).round().astype(int)
            judged = [judged[i] for i in chosen]
        account = described.of(experiment).account(store, run)
        return cls(
            run, experiment, judged, thinned, store.node_totals(run.id),
            store.bytes_by_round(run.id), store.messages(run.id), account.spent(),
            store.node_rounds(run.id, run.done), list(account.entries(run.done)),
            store.events(run.id, most=MOST_ON_PAGE), store.event_counts(run.id),
            store.extensions(run.id), next(iter(losses(store.judged(run.id, "unseen"))[-1:]), None),
        )  # fmt: skip

    @property
    def name(self) -> str:
        """Number, name, the strategy where the name does not say it, and seed."""
        strategy = short(self.experiment.strategy.name)
        called = self.run.name if self.run.name == strategy else f"{self.run.name}, {strategy}"
        return f"{self.run.id} {called}, seed {self.run.seed}"

    @property
    def has_classes(self) -> bool:
        """Whether it is judged by accuracy."""
        return self.experiment.task.target_is_class

    @property
    def settings(self) -> _Flat:
        """All but name and seed; and the rounds done, where these are not all, or more were added:
        that need not be the run that had them from the start."""
        found = _flat(self.experiment.model_dump(mode="json", exclude={"name", "seed"}))
        found |= self.sources
        if self.run.done < self.run.rounds:
            found["done"] = str(self.run.done)
        if self.extensions:
            found["rounds added after"] = ", ".join(map(str, self.extensions))
        return found

    @property
    def sources(self) -> dict[str, str]:
        """The versions of users' classes: with another one it is another setting."""
        found = recorded(self.run.versions)
        return {f"source of {short(name)}": version for name, version in found.items()}

    @property
    def task(self) -> _Flat:
        """The settings of its task, and the version of a user's."""
        task = self.experiment.task
        own = {key: one for key, one in self.sources.items() if key.endswith(_file(task.name))}
        return _flat(task.model_dump(mode="json"), "task.") | own

    @property
    def score(self) -> str:
        """The measure that costs are held against: accuracy, or loss where there are no classes."""
        return "accuracy" if self.has_classes else "loss"

    @cached_property
    def shares(self) -> dict[str, tuple[int, int]]:
        """See summary.shares."""
        return shares(self.experiment, self.run.done, self.totals, self.event_counts)

    @property
    def node_rounds(self) -> int:
        """Rounds of all nodes together."""
        return sum(one.rounds for one in self.totals)

    @property
    def uncounted(self) -> int:
        """Rounds of single nodes in which it is not known what was executed."""
        return uncounted_rounds(
            self.totals,
            [nodes for nodes, _ in self.experiment.priced],
            sampled=self.experiment.nodes.sampled > 0,
        )

    @property
    def counting(self) -> str:
        """How its instructions, and so its joules, are known."""
        backends = self.experiment.nodes.backends
        known = "; ".join(
            f"{short(one)} nodes {how}" if len(backends) > 1 else how
            for one in backends
            for how in (COUNTING.get(one, "nodes of a user's own backend, nothing counted"),)
        )
        if emulated := self.experiment.nodes.emulate:
            known = (
                f"{known.partition(',')[0]}, {emulated} of its rounds emulated on QEMU and "
                "counted, the others taken for their mean"
            )
        if counted := self.experiment.nodes.counted:
            known += f"; in {counted} of the rounds, the others taken for their mean"
        if self.spent and self.uncounted:
            known += f", but {self.uncounted} of {self.node_rounds} node rounds are missing"
        return known

    @cached_property
    def megabytes(self) -> list[float]:
        """Down and up, of all nodes, from the start to each of `judged`."""
        by_round = np.zeros(self.run.done + 1)
        for number, moved in self.moved:
            by_round[number] = 1e-6 * moved
        return self._until_judged(by_round.cumsum())

    @cached_property
    def joules(self) -> list[float]:
        """Of all nodes, from the start to each of `judged`; none where nothing was counted."""
        return self._until_judged(self.spent.by_round) if self.spent else []

    def _until_judged(self, total: NDArray[np.float64]) -> list[float]:
        return [float(total[one.round]) for one in self.judged]

    @cached_property
    def messages(self) -> dict[str, tuple[int, int]]:
        """Bytes down and up by request, of all nodes."""
        found: dict[str, tuple[int, int]] = {}
        for text, times in self.sent:
            for name, (down, up) in json.loads(text).items():
                before = found.get(name, (0, 0))
                found[name] = (before[0] + times * down, before[1] + times * up)
        return found


def measured(point: MeanLosses, measure: str, when: str) -> float:
    """Its "loss" or "accuracy", "before" or "after" adaptation."""
    return getattr(point, when if measure == "loss" else f"accuracy_{when}")


@dataclass(frozen=True)
class Group:
    """Runs of the same settings and as many rounds, one of each seed."""

    label: str
    results: list[Result]

    def curve(self, measure: str, when: str) -> list[tuple[int, float, float, float]]:
        """Of a measure over the seeds, "before" or "after" adaptation: round, mean, 95% confidence
        interval."""
        judged = zip(*(one.judged for one in self.results), strict=True)
        return [
            (
                points[0].round,
                *mean_and_interval([measured(point, measure, when) for point in points]),
            )
            for points in judged
        ]


@dataclass(frozen=True)
class TaskRuns:
    """Groups on the same task. repeated: runs left out since a later one has the same settings and
    seed."""

    task: str
    groups: list[Group]
    repeated: list[Result]

    @property
    def results(self) -> list[Result]:
        """Of all groups."""
        return [one for group in self.groups for one in group.results]

    @property
    def judged_on(self) -> str:
        """The part of the devices that curves are of; both, where some runs are of an earlier
        version."""
        parts = {one.judged[0].part for one in self.results if one.judged}
        return " or ".join(sorted(parts, reverse=True))

    @property
    def by_node(self) -> bool:
        """Whether rounds are to be told by those of a node, since not all have as many nodes in
        one."""
        return len({one.experiment.per_round for one in self.results}) > 1

    def rounds(self, one: Result) -> int:
        """Done by a run, or by its nodes together where rounds are told by those."""
        return one.node_rounds if self.by_node else one.run.done


def compare(results: Sequence[Result]) -> list[TaskRuns]:
    """The runs by task and settings, in the order in which they come first."""
    tasks = _alike(results, lambda one: one.task)
    names = [short(one.experiment.task.name) for _, (one, *_) in tasks]
    return [
        TaskRuns(label, *_groups(members))
        for label, (_, members) in zip(_labels(names, tasks), tasks, strict=True)
    ]


def _groups(results: Sequence[Result]) -> tuple[list[Group], list[Result]]:
    alike = _alike(results, lambda one: one.settings)
    names = [short(one.experiment.strategy.name) for _, (one, *_) in alike]
    groups: list[Group] = []
    repeated: list[Result] = []
    for label, (_, members) in zip(_labels(names, alike), alike, strict=True):
        newest = {one.run.seed: one for one in sorted(members, key=lambda one: one.run.id)}
        groups.append(Group(label, [newest[seed] for seed in sorted(newest)]))
        repeated += [one for one in members if newest[one.run.seed] is not one]
    return groups, repeated


def _file(name: str) -> str:
    """The end of the source of a user's class by the class's name."""
    return short(name.rpartition(":")[0]) or ":"


_Alike = list[tuple[_Flat, list[Result]]]


def _alike(results: Sequence[Result], key: Callable[[Result], _Flat]) -> _Alike:
    """Those with the same settings together."""
    found: dict[str, tuple[_Flat, list[Result]]] = {}
    for one in results:
        flat = key(one)
        found.setdefault(json.dumps(flat, sort_keys=True), (flat, []))[1].append(one)
    return list(found.values())


def _flat(value: Any, key: str = "") -> dict[str, str]:
    """A tree of settings as KEY: VALUE, with dotted keys as --set takes them."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for name, part in items for k, v in _flat(part, f"{key}{name}.").items()}
    return {key.rstrip("."): json.dumps(value).strip('"')}


def _labels(names: Sequence[str], members: _Alike) -> list[str]:
    """The names, with the settings in which those of the same name differ; where these are many,
    with as many as tell them apart."""
    labels: list[str] = []
    for name, (flat, _) in zip(names, members, strict=True):
        same = [other for n, (other, _) in zip(names, members, strict=True) if n == name]
        keys = differing(same)
        more = len(keys) > MOST_DIFFERENCES
        if more:
            keys = _telling(keys, same)
        shown = [f"{key}={flat[key]}" for key in keys if key in flat]
        labels.append(", ".join([name, *shown, *["…"] * more]))
    return labels


def differing(flats: Sequence[_Flat]) -> list[str]:
    """The keys of settings that are not the same in all."""
    keys = dict.fromkeys(key for flat in flats for key in flat)
    return [key for key in keys if len({flat.get(key) for flat in flats}) > 1]


def _telling(keys: Sequence[str], flats: Sequence[_Flat]) -> list[str]:
    """Those of the keys that tell apart what the ones before them do not."""
    chosen: list[str] = []
    seen = 1
    for key in keys:
        told = {tuple(flat.get(one) for one in (*chosen, key)) for flat in flats}
        if len(told) > seen:
            chosen.append(key)
            seen = len(told)
    return chosen


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each point (cost, loss) is one that no other betters in one without being worse in
    the other; less is better in both."""
    return [
        not any(c <= cost and v <= loss and (c, v) != (cost, loss) for c, v in points)
        for cost, loss in points
    ]
