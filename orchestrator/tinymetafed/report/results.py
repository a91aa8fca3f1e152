"""Runs as a report compares them: what each has learnt for which bytes and joules."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..energy.ledger import Entry
from ..energy.settings import DeviceName, RadioName
from ..errors import TinyMetaFedError
from ..experiments.experiment import Experiment
from ..plugins import recorded, short
from ..results.course import Course, courses
from ..results.spending import Spent
from ..results.store import DeviceEvaluation, DeviceTotal, Event, NodeRound, NodeTotal, Run, Store
from . import described, prices
from .energy import uncounted_rounds
from .events import MOST_ON_PAGE
from .measured import Measured, measure
from .prices import Price
from .summary import MOST_NODES, MeanLosses, losses, shares

MOST_POINTS = 60
"""Of a run's evaluations; where there are more, as many evenly spread ones stand for all."""

MOST_ROUNDS = 400
"""Of a run, in which it is shown what became of each node."""

COUNTING = {
    "qemu": "emulated on QEMU, every instruction counted",
    "renode": "emulated on Renode, instructions counted, their cycles traced once for each kind of "
    "request and scaled",
    "serial": "on boards, nothing counted",
    "host": "the firmware's core in-process, nothing counted",
}
"""How what a backend's nodes execute is known."""


Flat = Mapping[str, str]


@dataclass(frozen=True)
class Result:
    """One run, read from the store.

    judged: its evaluations while it went on, see Store.learning; thinned: some of them only. final:
    the last one of unseen devices, None where there is none; unseen: the same by device. totals,
    devices: what each node and each device did. plain: all that costs no energy and has no target.
    moved: bytes of all nodes down and up, by round. sent: messages, and of how many rows. spent:
    None where nothing was counted; of all rounds where a sample was. courses: by what it can be
    priced for. fates: see Store, of the last MOST_ROUNDS. last_rows, last: of the last round the
    rows, and the ledger. events: the first MOST_ON_PAGE; event_counts: of all, by kind and node.
    extensions: after how many rounds, which were all, more were added.
    """

    run: Run
    experiment: Experiment
    judged: list[MeanLosses]
    thinned: bool
    unseen: list[DeviceEvaluation]
    totals: list[NodeTotal]
    devices: list[DeviceTotal]
    plain: Measured
    moved: list[tuple[int, int]]
    wall_times: dict[int, float]
    sent: list[tuple[str, int]]
    spent: Spent | None
    courses: dict[Price, Course]
    fates: list[tuple[int, int, int, int]]
    last_rows: list[NodeRound]
    last: list[Entry]
    events: list[Event]
    event_counts: dict[tuple[str, int], int]
    extensions: list[int]
    final: MeanLosses | None

    @classmethod
    def read(
        cls,
        store: Store,
        run: Run,
        devices: Sequence[DeviceName] = (),
        radios: Sequence[RadioName] = (),
    ) -> "Result":
        """All of it that a report is made of. devices, radios: that it is priced for besides those
        that come with the bench. Raises TinyMetaFedError where this version cannot read the run's
        settings, or nothing was judged."""
        experiment = described.settings(run)
        plain = measure(store, run, experiment, None, (), ())
        judged = plain.curve
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
        spent = account.spent()
        priced = courses(run, account, prices.choices(experiment, devices, radios))
        if spent and spent.accounts and not priced:  # a run begun before schema 7
            joules = {name: spent.balance(name).joules for name in spent.accounts}
            total = spent.balance()
            own = Course(spent.by_round, None, joules, total.low, total.high)
            priced = {prices.own(experiment): own}
        unseen = [one for one in store.evaluations(run.id, run.done) if one.part == "unseen"]
        return cls(
            run, experiment, judged, thinned, unseen,
            store.node_totals(run.id), store.device_totals(run.id),
            plain,
            store.bytes_by_round(run.id), store.wall_times(run.id), store.messages(run.id),
            spent, priced,
            store.fates(run.id, MOST_NODES, run.done - MOST_ROUNDS + 1),
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
    def settings(self) -> Flat:
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
    def task(self) -> Flat:
        """The settings of its task, and the version of a user's."""
        task = self.experiment.task
        own = {key: one for key, one in self.sources.items() if key.endswith(_file(task.name))}
        return _flat(task.model_dump(mode="json"), "task.") | own

    @property
    def score(self) -> str:
        """The measure that costs are held against: accuracy, or loss where there are no classes."""
        return "accuracy" if self.has_classes else "loss"

    @cached_property
    def places(self) -> dict[int, int]:
        """Of rounds in `judged`."""
        return {point.round: i for i, point in enumerate(self.judged)}

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
    def bytes(self) -> NDArray[np.float64]:
        """Down and up, of all nodes, since the start: float64 [rounds done + 1]."""
        by_round = np.zeros(self.run.done + 1)
        for number, moved in self.moved:
            by_round[number] = moved
        return by_round.cumsum()

    @cached_property
    def seconds(self) -> NDArray[np.float64]:
        """Wall time until a round was done, float64 [rounds done + 1]; until 0 it is that of the
        evaluation before training. Rounds of which it is not known take as long as one another."""
        known = self.wall_times
        rest, unknown = self.run.seconds - sum(known.values()), self.run.done - len(known)
        before, each = (0.0, rest / unknown) if unknown else (rest, 0.0)
        by_round = [known.get(number, each) for number in range(1, self.run.done + 1)]
        return np.cumsum([before, *by_round])

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


def _flat(value: Any, key: str = "") -> dict[str, str]:
    """A tree of settings as KEY: VALUE, with dotted keys as --set takes them."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for name, part in items for k, v in _flat(part, f"{key}{name}.").items()}
    return {key.rstrip("."): json.dumps(value).strip('"')}


def _file(name: str) -> str:
    """The end of the source of a user's class by the class's name."""
    return short(name.rpartition(":")[0]) or ":"
