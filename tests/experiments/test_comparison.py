"""Comparison files: the experiments that they stand for, and what is said of a wrong one."""

from pathlib import Path

import pytest

from comparing import read
from conftest import SMALL
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import comparison
from tinymetafed.experiments.experiment import Experiment, parse
from tinymetafed.places import PROJECT


def test_every_cell_is_the_experiment_with_its_changes(tmp_path: Path):
    settings, cells = read(tmp_path, ("target = 100", "target = 100\nchanges.nodes.count = 5"))
    assert settings.devices == ("nrf52840",)
    found = {(cell.task, cell.strategy, cell.experiment.seed): cell.experiment for cell in cells}
    assert list(found) == [("sine", name, seed) for name in ("few", "Reptile") for seed in (1, 2)]
    for seed in (1, 2):
        changes = ("name=two", f"seed={seed}", "nodes.count=5")
        few = parse(SMALL, "SMALL", (*changes, "strategy.percent=10"))
        assert found["sine", "few", seed] == few
        reptile = "strategy={name='reptile', query=6, batch=3, epochs=2}"
        assert found["sine", "Reptile", seed] == parse(SMALL, "SMALL", (*changes, reptile))


def test_what_is_said_nearer_to_a_run_holds(tmp_path: Path):
    """A strategy's entry before the task's settings of it, these before the experiment's; a
    strategy's changes before those of a strategy on the task, these before the task's."""
    here = "[tasks.strategies.tinymetafed]\npercent = 20\nquery = 9"
    here += "\nchanges = { rounds = 9, nodes.per_round = 2, evaluation.every = 4 }"
    task = "changes = { rounds = 7, nodes.per_round = 1, devices.seen = 50 }"
    _, cells = read(
        tmp_path,
        ("epochs = 2", f"epochs = 2\n{here}"),
        ("target = 100", f"target = 100\n{task}"),
        ("percent = 10", "percent = 10\nchanges.rounds = 8"),
    )  # fmt: skip
    few, reptile = cells[0].experiment, cells[2].experiment
    strategy = few.strategy.model_dump()
    assert (strategy["percent"], strategy["query"], strategy["support"]) == (10, 9, 4)
    assert (few.rounds, reptile.rounds) == (8, 7)
    assert (few.per_round, reptile.per_round) == (2, 1)
    assert (few.evaluation.every, reptile.evaluation.every) == (4, 2)
    assert few.devices.seen == reptile.devices.seen == 50


def test_lists_are_replaced(tmp_path: Path):
    layers = "changes.model.layers = [{ units = 3, activation = 'tanh' }, { units = 1 }]"
    _, cells = read(tmp_path, ("percent = 10", f"percent = 10\n{layers}"))
    assert [len(cell.experiment.model.layers) for cell in cells] == [2, 2, 3, 3]


def test_a_task_without_a_file(tmp_path: Path):
    inline = (
        "changes = { rounds = 2, task.name = 'sine', model.layers = [{ units = 1 }], "
        "nodes.backend = 'host' }"
    )
    _, cells = read(tmp_path, ('experiment = "small.toml"', inline))
    assert cells[0].experiment.name == "two"
    assert cells[0].experiment.nodes.backend == "host"


def test_emulation_of_a_sample_is_on_the_host_else(tmp_path: Path):
    changes = ("target = 100", "target = 100\nchanges.nodes.backend = 'qemu'")
    _, cells = read(tmp_path, changes)
    assert all(cell.experiment.nodes.backend == "qemu" for cell in cells)
    _, cells = read(tmp_path, changes, ("seeds", "emulate = 2\nseeds"))
    for cell in cells:
        assert (cell.experiment.nodes.backend, cell.experiment.nodes.emulate) == ("host", 2)


@pytest.mark.parametrize("name", ["comparison", "feedback", "paper"])
def test_the_comparisons_of_the_project_are_valid(name: str):
    settings, cells = comparison.read(PROJECT / f"experiments/{name}.toml")
    assert len(cells) == len(settings.tasks) * len(settings.strategies) * len(settings.seeds)
    assert all(isinstance(cell.experiment, Experiment) for cell in cells)
    names = {cell.experiment.strategy.name for cell in cells}
    if name == "comparison":
        assert names == {
            "fedadam", "fedavg", "fedper", "fedprox", "fedrep", "fedyogi", "local", "perfedavg",
            "reptile", "scaffold", "tinymetafed", "tinyreptile",
        }  # fmt: skip
    if name == "paper":
        assert names == {"fedavg", "reptile", "tinymetafed", "tinyreptile"}


@pytest.mark.parametrize("name", ["comparison", "paper"])
def test_strategies_of_a_task_see_as_many_devices(name: str):
    """In the comparisons of the project, and are judged alike."""
    _, cells = comparison.read(PROJECT / f"experiments/{name}.toml")
    for task in {cell.task for cell in cells}:
        mine = [cell.experiment for cell in cells if cell.task == task]
        assert len({one.rounds * one.per_round for one in mine}) == 1
        same = [one.evaluation.model_dump(exclude={"every"}) for one in mine]
        assert all(one == same[0] for one in same)


CLASSES = (
    "changes = { task = { name = 'omniglot', ways = 5 }, model.loss = 'softmax_cross_entropy', "
    "model.layers = [{ units = 4, local = true }, { units = 5 }], strategy.support = 5, "
    "strategy.query = 10, evaluation.support = 5, evaluation.query = 15 }"
)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seeds = [1, 2]", "seeds = [1, 1]", "seeds: 1 is there twice"),
        ("seeds = [1, 2]", "seeds = []", "seeds: [] is not allowed; use a list of values at least"),
        ("seeds = [1, 2]", "seeds = [-1]", "seeds.0: -1 is not allowed; use a whole number at"),
        ("seeds", "sedes = [1]\nseeds", "sedes: unknown key; known are: name, seeds, baseline, "),
        ("seeds", "devices = ['nrf1']\nseeds", "devices.0: 'nrf1' is not allowed; use nrf52840"),
        ("seeds", "radios = ['lora']\nseeds", "radios.0: 'lora' is not allowed; use ble1m"),
        ("seeds", "radios = ['uart', 'uart']\nseeds", "radios: 'uart' is there twice"),
        ("seeds", "emulate = 5\nseeds", "sine × few: nodes.emulate: 5 of 4 rounds"),
        ('label = "few"', 'label = "Reptile"', "strategies.label: 'Reptile' is there twice"),
        ("target = 100", "target = 0", "tasks.0.target: 0 is not allowed; use a number more than"),
        ('name = "reptile"', 'name = "sgd"', "tasks.0.strategies.reptile: none of the strategies"),
        ('name = "tinymetafed"', 'name = "sgd"', "sine × few: strategy.name: 'sgd' is unknown"),
        ("percent = 10", "percent = 101", "sine × few: strategy.percent: 101 is not allowed"),
        ("percent = 10", "speed = 10", "sine × few: strategy.speed: unknown key; known are: "),
        ("percent = 10", "changes.nodes.cuont = 1", "sine × few: nodes.cuont: unknown key"),
        ("batch = 3", "bach = 3", "sine × Reptile: strategy.bach: unknown key"),
        ("batch = 3", "changes.rounds = 0", "sine × Reptile: rounds: 0 is not allowed"),
        ("batch = 3", "changes = 3", "tasks.0.strategies.reptile.changes: 3 is not allowed"),
        ("target = 100", "target = 1\nchanges.model.layers = [{ units = 3 }]",
            "sine × few: model.layers.0: the task has 1 outputs, the last layer 3"),
        ("target = 100", "target = 1\nchanges.evaluation = { devices = 0, unseen = 2 }",
            "sine × few: target: it is looked for on devices for validation, and evaluation.dev"),
        ("target = 100", f"target = 70\n{CLASSES}", "sine × few: target: 70 is no accuracy; use 0"),
        ("target = 100", f"target = 0.7\n{CLASSES.replace('ways = 5', 'ways = 400')}",
            "sine × few: model.layers.1: the task has 400 outputs"),
        ("target = 100", f"target = 0.7\n{CLASSES.replace('ways = 5', 'ways = 5000')}",
            "sine × few: task.ways: 5000 is not allowed"),
    ],
)  # fmt: skip
def test_a_comparison_that_is_wrong(tmp_path: Path, old: str, new: str, says: str):
    with pytest.raises(TinyMetaFedError) as caught:
        read(tmp_path, (old, new))
    assert str(caught.value).startswith(f"{tmp_path / 'two.toml'}: {says}")
    assert len(str(caught.value).splitlines()) == 1  # for one thing wrong


def test_ways_of_which_there_are_not_so_many(tmp_path: Path):
    few = CLASSES.replace("ways = 5", "ways = 900, seen = ['images_background_small1']")
    with pytest.raises(TinyMetaFedError, match=r"sine × few: task.ways: 900 of the \d+ classes"):
        read(tmp_path, ("target = 100", f"target = 0.7\n{few}"))


def test_two_strategies_that_are_one(tmp_path: Path):
    again = '[[strategies]]\nlabel = "again"\nname = "tinymetafed"\npercent = 10.0'
    with pytest.raises(
        TinyMetaFedError, match="few × seed 1 and sine × again × seed 1 are the same"
    ):
        read(tmp_path, ("percent = 10", f"percent = 10\n{again}"))


def test_an_experiment_that_is_not_there(tmp_path: Path):
    with pytest.raises(TinyMetaFedError, match=r"nowhere\.toml: cannot be read"):
        read(tmp_path, ("small.toml", "nowhere.toml"))
