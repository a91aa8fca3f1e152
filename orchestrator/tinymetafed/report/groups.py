"""Which runs are compared: those of a task, and of these the ones of the same settings but for the
seed together, under labels that tell them apart."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..plugins import short
from .measured import FIRST_WEIGHTS
from .results import Flat, Result

MOST_DIFFERENCES = 3
"""In settings, that a label has room for."""


@dataclass(frozen=True)
class Group:
    """Runs of the same settings, one of each seed: a line of a chart."""

    label: str
    results: list[Result]

    @cached_property
    def settled(self) -> list[Result]:
        """Those that have all their rounds; where none has, and all have as many, all of them."""
        finished = [one for one in self.results if one.run.done >= one.run.rounds]
        alike = len({one.run.done for one in self.results}) == 1
        return finished or (self.results if alike else [])

    @property
    def rounds(self) -> list[int]:
        """That were judged, in any of the runs."""
        return sorted({point.round for one in self.results for point in one.judged})

    def at(self, number: int) -> list[tuple[Result, int]]:
        """The runs that were judged after so many rounds, with the place in their `judged`."""
        found = ((one, one.places.get(number)) for one in self.results)
        return [(one, place) for one, place in found if place is not None]


@dataclass(frozen=True)
class TaskRuns:
    """Groups on the same task. repeated: runs left out since a later one has the same settings and
    seed. target: accuracy or loss after adaptation, None where there is none. missing: how many
    seeds of a comparison have no run that has come to its end, by label. absent: the labels of a
    comparison of which there is no run at all."""

    task: str
    groups: list[Group]
    repeated: list[Result]
    target: float | None = None
    missing: Mapping[str, int] = field(default_factory=dict)
    absent: Sequence[str] = ()

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

    @property
    def score(self) -> str:
        """See Result."""
        return self.groups[0].results[0].score

    @property
    def alone(self) -> Group | None:
        """Devices that learn without a federation, where a strategy is `local`."""
        strategies = ((one, one.results[0].experiment.strategy.name) for one in self.groups)
        return next((group for group, name in strategies if short(name) == "local"), None)

    @property
    def no_federation(self) -> str:
        """What devices may be served worse than."""
        return self.alone.label if self.alone else FIRST_WEIGHTS

    @property
    def measures(self) -> tuple[str, ...]:
        """What there are means of, the score first."""
        return ("accuracy", "loss") if self.score == "accuracy" else ("loss",)


def compare(
    results: Sequence[Result], target: float | None = None, *, going_on: bool = False
) -> list[TaskRuns]:
    """The runs by task and settings, in the order in which they come first. target: as TaskRuns has
    it. going_on: runs of the same settings are of one group, however many rounds they have."""
    tasks = _alike(results, lambda one: one.task)
    names = [short(one.experiment.task.name) for _, (one, *_) in tasks]
    return [
        TaskRuns(label, *_groups(members, going_on), target)
        for label, (_, members) in zip(_labels(names, tasks), tasks, strict=True)
    ]


def _groups(results: Sequence[Result], going_on: bool) -> tuple[list[Group], list[Result]]:
    def key(one: Result) -> Flat:
        settings = one.settings
        return {k: v for k, v in settings.items() if k != "done"} if going_on else settings

    alike = _alike(results, key)
    names = [short(one.experiment.strategy.name) for _, (one, *_) in alike]
    called = [{one.run.name for one in members} for _, members in alike]
    if len(set(names)) < len(names) and len(set().union(*called)) == sum(map(len, called)):
        labels = [min(one) for one in called]  # users have given each a name of its own
    else:
        labels = _labels(names, alike)
    groups: list[Group] = []
    repeated: list[Result] = []
    for label, (_, members) in zip(labels, alike, strict=True):
        newest = {one.run.seed: one for one in sorted(members, key=lambda one: one.run.id)}
        groups.append(Group(label, [newest[seed] for seed in sorted(newest)]))
        repeated += [one for one in members if newest[one.run.seed] is not one]
    return groups, repeated


_Alike = list[tuple[Flat, list[Result]]]


def _alike(results: Sequence[Result], key: Callable[[Result], Flat]) -> _Alike:
    """Those with the same settings together."""
    found: dict[str, tuple[Flat, list[Result]]] = {}
    for one in results:
        flat = key(one)
        found.setdefault(json.dumps(flat, sort_keys=True), (flat, []))[1].append(one)
    return list(found.values())


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
        shown = [
            f"{key.removeprefix('strategy.')}={flat[key].removesuffix('.0')}"
            for key in keys
            if key in flat
        ]
        labels.append(", ".join([name, *shown, *["…"] * more]))
    return labels


def differing(flats: Sequence[Flat]) -> list[str]:
    """The keys of settings that are not the same in all."""
    keys = dict.fromkeys(key for flat in flats for key in flat)
    return [key for key in keys if len({flat.get(key) for flat in flats}) > 1]


def _telling(keys: Sequence[str], flats: Sequence[Flat]) -> list[str]:
    """Those of the keys that tell apart what the ones before them do not."""
    chosen: list[str] = []
    seen = 1
    for key in keys:
        told = {tuple(flat.get(one) for one in (*chosen, key)) for flat in flats}
        if len(told) > seen:
            chosen.append(key)
            seen = len(told)
    return chosen
