"""What a run's settings say, also where this version cannot read all of them."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..energy.settings import EnergySettings, Priced
from ..errors import TinyMetaFedError
from ..experiments.experiment import Experiment
from ..federation.participation import Attendance, Participation
from ..nodes.settings import NodeSettings
from ..plugins import short
from ..results import spending
from ..results.store import Run, Store
from ..settings import check

T = TypeVar("T", bound=BaseModel)


def settings(run: Run) -> Experiment:
    """The experiment that the run is of. Raises TinyMetaFedError where this version has no such
    strategy, task or key, or where the row is damaged."""
    try:
        return Experiment.model_validate_json(run.settings)
    except ValidationError:
        pass
    where = f"run {run.id}, begun with {run.made_by}: its settings"
    tree = run.tree
    if not tree:
        raise TinyMetaFedError(f"{where} are damaged")
    try:
        return check(Experiment, tree, where)
    except TinyMetaFedError as error:
        raise TinyMetaFedError(str(error).partition("\n")[0]) from None


@dataclass(frozen=True)
class Description:
    """A run for a table.

    problem: why its settings cannot be read, or None. strategy, task: their names. count, sampled,
    priced, away: of its nodes, as its account needs them; priced is None where not known.
    """

    experiment: Experiment | None
    problem: str | None
    strategy: str
    task: str
    count: int
    sampled: bool
    priced: Priced | None
    away: Callable[[int], Collection[int]]

    def classes(self, judged: Collection[Any]) -> bool:
        """Whether there is an accuracy."""
        if self.experiment is not None:
            return self.experiment.task.target_is_class
        return any(one.accuracy_after or one.accuracy_before for one in judged)

    @property
    def counts(self) -> Sequence[range]:
        """Nodes of which what they execute is counted, or would be where any is."""
        return [range(self.count)] if self.priced is None else [nodes for nodes, _ in self.priced]

    def account(self, store: Store, run: Run, priced: Priced | None = None) -> spending.Account:
        """Of the run, for what it was priced for where nothing else is given."""
        return spending.Account(
            store, run, self.count, priced or self.priced, self.away, sampled=self.sampled
        )


def describe(store: Store, run: Run) -> Description:
    """What can be said of any run. Raises TinyMetaFedError where the store cannot be read."""
    try:
        return of(settings(run))
    except TinyMetaFedError as error:
        return _without_settings(store, run, str(error))


def of(known: Experiment) -> Description:
    """Of an experiment that can be read."""
    return Description(
        known, None, short(known.strategy.name), short(known.task.name), known.nodes.count,
        known.nodes.sampled > 0, known.priced, known.attendance.away,
    )  # fmt: skip


def _without_settings(store: Store, run: Run, problem: str) -> Description:
    tree = run.tree
    nodes, energy = _part(NodeSettings, tree, "nodes"), _part(EnergySettings, tree, "energy")
    participation = _part(Participation, tree, "participation")
    count = 1 + max((one.node for one in store.node_totals(run.id)), default=0)
    away: Callable[[int], Collection[int]] = lambda done: ()  # noqa: E731
    if nodes is not None and participation is not None and nodes.count >= count:
        count = nodes.count
        away = Attendance(participation, run.seed, count).away
    else:
        energy = None  # it is not known who slept
    sampled = nodes is not None and nodes.sampled > 0
    priced = energy and [(range(count), energy)]
    strategy, task = (
        short(str(_table(tree, key).get("name", "?"))) for key in ("strategy", "task")
    )
    return Description(None, problem, strategy, task, count, sampled, priced, away)


def _table(tree: dict[str, Any], key: str) -> dict[str, Any]:
    found = tree.get(key)
    return found if isinstance(found, dict) else {}


def _part(model: type[T], tree: dict[str, Any], key: str) -> T | None:
    """A table by itself; None where it cannot be read either."""
    try:
        return model.model_validate(tree.get(key, {}))
    except ValidationError:
        return None


def raw(run: Run) -> str:
    """The settings as they are in the store."""
    tree = run.tree
    return json.dumps(tree, indent=2, ensure_ascii=False) if tree else run.settings
