"""A comparison file (TOML) checked into the experiments that it stands for."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from .. import plugins, settings
from ..energy import power
from ..energy.settings import DeviceName, RadioName
from ..errors import TinyMetaFedError, printable
from ..federation.settings import Seed
from ..settings import Settings
from . import shipped, tuned
from .experiment import Experiment, Name, build
from .search_space import Space

log = logging.getLogger(__name__)

Label = Annotated[str, Field(min_length=1, max_length=64)]
Changes = dict[str, Any]
"""Keys of an experiment file with other values: tables are merged, and lists by tables whose
keys are indexes; all else is replaced."""


class OnTask(Settings):
    """[tasks.strategies.NAME]: what is no key here is one of the strategy's own settings."""

    model_config = ConfigDict(extra="allow", frozen=True)

    changes: Changes = Field(default_factory=dict)
    """Keys of the experiment with other values."""
    space: Space = Field(default_factory=dict)
    """What `tune` searches of this strategy, before what is said elsewhere."""

    @property
    def own(self) -> Changes:
        """Settings of the strategy."""
        return self.model_extra or {}


class TaskEntry(Settings):
    """[[tasks]]: an experiment without its strategy."""

    label: Label
    """Name in tables and reports."""
    experiment: str | None = None
    """Experiment file, from this file's folder. If not given, `changes` have all of it."""
    target: Annotated[float | None, Field(gt=0)] = None
    """Accuracy after adaptation that is to be reached; loss where the task has no classes."""
    changes: Changes = Field(default_factory=dict)
    """Keys of the experiment with other values."""
    space: Space = Field(default_factory=dict)
    """What `tune` searches on this task, before what `tune.space` says."""
    strategies: dict[str, OnTask] = Field(default_factory=dict)
    """Settings of strategies on this task, by the strategy's name."""


class StrategyEntry(OnTask):
    """[[strategies]]: what is no key here is one of the strategy's own."""

    label: Label
    """Name in tables and reports."""
    name: str
    """The strategy, as in `strategy.name` of an experiment."""

    @property
    def own(self) -> Changes:
        """Settings of the strategy, with its name."""
        return {"name": self.name} | super().own

    def beside(self, folder: Path) -> Changes:
        """The same; a file that it names is in this folder."""
        return self.own | {"name": plugins.absolute(self.name, folder)}


class TuneSettings(Settings):
    """[tune]: how 'tinymetafed tune' plays its trials."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1001, 1002)
    """Of the runs of each trial; none of those that are compared."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of the rounds of a run, those that a trial has."""
    changes: Changes = Field(default_factory=dict)
    """Keys of the experiment with other values in every trial."""
    space: Space = Field(default_factory=dict)
    """Settings that are searched, by their names, where it is not what the bench searches."""


class ComparisonSettings(Settings):
    """A whole comparison file."""

    name: Name
    """Name of its runs."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    """Each combination of task and strategy is run with each of them."""
    baseline: str | None = None
    """Label of the strategy that the others are compared with; the first where not given."""
    emulate: Annotated[int, Field(ge=0)] = 0
    """Rounds of each run that QEMU nodes play again, for cycles and energy; the others are played
    on `host` nodes. 0 leaves the experiments' own nodes."""
    devices: Annotated[tuple[DeviceName, ...], Field(min_length=1)] = ("nrf52840",)
    """Microcontrollers that runs are priced for."""
    radios: Annotated[tuple[RadioName, ...], Field(min_length=1)] = ("ble1m",)
    """Radios that runs are priced for."""
    tuned: str | None = None
    """File that `tune` has written, from this file's folder: its settings hold before those that
    are here."""
    tune: TuneSettings = TuneSettings()
    """How `tune` plays its trials."""
    tasks: Annotated[tuple[TaskEntry, ...], Field(min_length=1)]
    """What the strategies are compared on."""
    strategies: Annotated[tuple[StrategyEntry, ...], Field(min_length=1)]
    """What is compared."""

    @model_validator(mode="after")
    def _nothing_is_there_twice(self) -> "ComparisonSettings":
        for key in ("seeds", "devices", "radios"):
            _distinct(key, map(_name, getattr(self, key)))
        for key in ("tasks", "strategies"):
            _distinct(f"{key}.label", [one.label for one in getattr(self, key)])
        _distinct("tune.seeds", self.tune.seeds)
        return self

    @model_validator(mode="after")
    def _tunes_on_other_seeds(self) -> "ComparisonSettings":
        if "tune" in self.model_fields_set:
            check_seeds(self)
        return self

    @model_validator(mode="after")
    def _baseline_is_a_strategy(self) -> "ComparisonSettings":
        labels = [one.label for one in self.strategies]
        if self.baseline is not None and self.baseline not in labels:
            raise ValueError(f"baseline: no label of a strategy; there are: {', '.join(labels)}")
        return self

    @property
    def compared_with(self) -> str:
        """The label of the baseline."""
        return self.strategies[0].label if self.baseline is None else self.baseline

    def beside(self, baseline: str | None) -> "ComparisonSettings":
        """The same with another baseline, where one is given. Raises TinyMetaFedError where it is
        none of the strategies."""
        labels = [one.label for one in self.strategies]
        if baseline is not None and baseline not in labels:
            raise TinyMetaFedError(
                f"--baseline {printable(baseline)}: no label of a strategy; there are: "
                f"{', '.join(labels)}"
            )
        return self if baseline is None else self.model_copy(update={"baseline": baseline})

    @model_validator(mode="after")
    def _settings_are_for_a_strategy(self) -> "ComparisonSettings":
        names = {one.name for one in self.strategies}
        for i, task in enumerate(self.tasks):
            if unused := sorted(task.strategies.keys() - names):
                raise ValueError(
                    f"tasks.{i}.strategies.{unused[0]}: none of the strategies is one; there are: "
                    f"{', '.join(sorted(names))}"
                )
        return self


def check_seeds(settings: ComparisonSettings) -> None:
    """Raises ValueError where trials would be played with a seed that is compared: its devices
    would be those by which settings were chosen."""
    if common := sorted(set(settings.seeds) & set(settings.tune.seeds)):
        raise ValueError(
            f"tune.seeds: {common[0]} is one of the comparison's seeds; tune with others"
        )


def _name(value: object) -> object:
    """Of a device or a radio, as tables have it."""
    return value if isinstance(value, str | int) else str(value)


def _distinct(key: str, values: Iterable[object]) -> None:
    for value, times in Counter(values).items():
        if times > 1:
            raise ValueError(f"{key}: {value!r} is there twice")


@dataclass(frozen=True)
class Cell:
    """A run of the comparison: a strategy on a task with a seed.

    task, strategy: their labels.
    """

    task: str
    strategy: str
    experiment: Experiment

    def __str__(self) -> str:
        return f"{self.task} × {self.strategy} × seed {self.experiment.seed}"


def read(path: Path) -> tuple[ComparisonSettings, list[Cell]]:
    """The comparison in a file, or of a name that comes with the bench, and its runs: tasks,
    strategies and seeds in their order.

    Raises TinyMetaFedError that names the file, the run and the key, as an experiment's does.
    """
    comparison, path = parse(path)
    found: tuned.Found | None = None
    if comparison.tuned is not None:
        tasks, strategies = labels(comparison)
        found = tuned.read(path.parent / comparison.tuned, str(path), tasks, strategies)
    cells = [
        Cell(
            task.label,
            strategy.label,
            make(
                comparison, path, task, strategy, seed,
                chosen=found,
            ),
        )
        for task in comparison.tasks
        for strategy in comparison.strategies
        for seed in comparison.seeds
    ]  # fmt: skip
    check_distinct(cells, str(path))
    if found is not None:
        _warn_of_changes(cells, found, path)
    return comparison, cells


def digests(cells: Iterable[Cell]) -> dict[str, str]:
    """Of what the settings of each task's strategies are tuned on, by its label."""
    every: dict[str, dict[str, Experiment]] = {}
    for cell in cells:
        every.setdefault(cell.task, {}).setdefault(cell.strategy, cell.experiment)
    return {task: tuned.digest(experiments) for task, experiments in every.items()}


def untuned(comparison: ComparisonSettings, path: Path) -> list[Cell]:
    """Each task and strategy by the settings of the file alone, on the first seed. Raises
    TinyMetaFedError."""
    return [
        Cell(
            task.label, strategy.label,
            make(comparison, path, task, strategy, comparison.seeds[0]),
        )
        for task in comparison.tasks
        for strategy in comparison.strategies
    ]  # fmt: skip


def _warn_of_changes(cells: Iterable[Cell], found: tuned.Found, path: Path) -> None:
    """Says of which tasks strategies were tuned on other settings than those that are here."""
    for task, now in digests(cells).items():
        if found.digests.get(task, now) != now:
            log.warning(
                "%s: found on other settings of %s; run 'tinymetafed tune %s' again",
                found.path, task, path,
            )  # fmt: skip


def parse(path: Path) -> tuple[ComparisonSettings, Path]:
    """What is in a file, or in the one of a name that comes with the bench, and where that is.
    Raises TinyMetaFedError."""
    path = shipped.find(path, "comparison")
    tree = settings.parse(settings.read_text(path), str(path))
    if {"task", "strategy", "rounds"} & tree.keys():
        raise TinyMetaFedError(f"{path}: an experiment; use 'tinymetafed run {path}'")
    return settings.check(ComparisonSettings, tree, str(path)), path


def labels(comparison: ComparisonSettings) -> tuple[list[str], list[str]]:
    """Of its tasks and of its strategies."""
    return [one.label for one in comparison.tasks], [one.label for one in comparison.strategies]


def check_distinct(cells: Iterable[Cell], origin: str) -> None:
    """Raises TinyMetaFedError that names `origin` where a run is there twice."""
    first: dict[str, Cell] = {}
    for cell in cells:
        same = first.setdefault(cell.experiment.model_dump_json(), cell)
        if same is not cell:
            raise TinyMetaFedError(f"{origin}: {same} and {cell} are the same; remove one")


def make(
    comparison: ComparisonSettings,
    path: Path,
    task: TaskEntry,
    strategy: StrategyEntry,
    seed: int,
    *,
    chosen: tuned.Found | None = None,
    changes: Changes | None = None,
) -> Experiment:
    """The experiment of a run. path: of the file. chosen: settings of the strategies that hold
    before the file's. changes: more of them. Raises TinyMetaFedError."""
    tree: dict[str, Any] = {}
    folder = path.parent  # where files lie that the experiment names
    if task.experiment is not None:
        base = path.parent / task.experiment
        folder = base.parent
        tree = settings.parse(settings.read_text(base), str(base))
    origin = f"{path}: {task.label} × {strategy.label}"
    tree["name"] = comparison.name  # by which a report finds all of them
    here = task.strategies.get(strategy.name, OnTask())
    for some in (task.changes, here.changes, strategy.changes):
        tree = _changed(tree, some, origin)
    kept = tree.get("strategy", {})
    own = strategy.beside(path.parent)
    if not isinstance(kept, dict) or plugins.absolute(kept.get("name"), folder) != own["name"]:
        kept = {}  # another strategy's
    own = kept | here.own | own
    tree |= {"seed": seed, "strategy": own}
    if comparison.emulate:
        tree = _changed(tree, {"nodes": {"backend": "host", "emulate": comparison.emulate}}, origin)
    tree = _changed(tree, changes or {}, origin)
    experiment = _build(tree, origin, folder, path, chosen, (task.label, strategy.label))
    check_devices(comparison.devices, experiment, origin)
    check_target(task.target, experiment, origin)
    return experiment


def _build(
    tree: dict[str, Any],
    origin: str,
    folder: Path,
    path: Path,
    chosen: tuned.Found | None,
    where: tuple[str, str],
) -> Experiment:
    """The experiment with the chosen settings of its strategy; what is wrong with these alone is
    said of their file. Raises TinyMetaFedError."""
    if chosen is None:
        return build(tree, origin, folder)
    task, strategy = where
    own = _changed(tree["strategy"], chosen.settings[task][strategy], origin)
    try:
        return build(tree | {"strategy": own}, origin, folder)
    except TinyMetaFedError as error:
        build(tree, origin, folder)
        what = str(error).splitlines()[0].removeprefix(f"{origin}: ").removeprefix("strategy.")
        raise TinyMetaFedError(
            f"{chosen.path}: {task}.{strategy}.{what}; run 'tinymetafed tune {path}' again"
        ) from None


def check_devices(devices: Sequence[DeviceName], experiment: Experiment, origin: str) -> None:
    """Raises TinyMetaFedError that names `origin` where it could not be priced for one."""
    counted = {one.name for one in experiment.timings}
    for i, name in enumerate(devices):
        if (core := power.device(name).core) not in counted:
            raise TinyMetaFedError(
                f"{origin}: devices.{i}: the experiment does not count cycles of {core}; give it "
                "the device as energy.device"
            )


def check_target(target: float | None, experiment: Experiment, origin: str) -> None:
    """Raises TinyMetaFedError that names `origin`."""
    if target is not None and experiment.task.target_is_class and target > 1:
        raise TinyMetaFedError(f"{origin}: target: {target:g} is no accuracy; use 0 to 1")
    if target is not None and not experiment.evaluation.devices:
        raise TinyMetaFedError(
            f"{origin}: target: it is looked for on devices for validation, and "
            "evaluation.devices is 0; leave out the target, or use more"
        )


def _changed(tree: dict[str, Any], changes: Changes, origin: str) -> dict[str, Any]:
    try:
        return _merged(tree, changes)
    except KeyError as error:
        raise TinyMetaFedError(f"{origin}: changes: {error.args[0]}") from None


def _merged(tree: Any, changes: Changes) -> Any:
    """Tables are merged; of a list, the items whose index is a key. Raises KeyError with what is
    wrong."""
    if isinstance(tree, list):
        items = list(tree)
        for key, value in changes.items():
            i = settings.index(items, key)
            items[i] = _value(items[i], value)
        return items
    return tree | {key: _value(tree.get(key), value) for key, value in changes.items()}


def _value(below: Any, value: Any) -> Any:
    mergeable = isinstance(below, dict | list) and isinstance(value, dict)
    return _merged(below, value) if mergeable else value
