"""The experiments of the project by name, as in recorded_weights.json, and what a run came to.

A comparison has a name for each of its runs: file/task/strategy/seed.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from conftest import REAL_DATA
from running import execute
from tinymetafed.experiments import comparison
from tinymetafed.experiments.experiment import Experiment, read
from tinymetafed.places import PROJECT
from tinymetafed.tasks import datasets, keywords, omniglot, tabular

SINGLE = ("demo", "digits", "iris", "omniglot", "reptile", "sine", "smoke")
COMPARED = ("comparison", "feedback", "paper")
JUDGED = 3  # devices in a short run, at most

RECORDED: dict[str, dict[str, Any]] = {"short": {}, "full": {}}
"""What is in the file: of short runs and of full ones, by name."""
if (_path := Path(__file__).with_name("recorded_weights.json")).is_file():
    RECORDED = json.loads(_path.read_text(encoding="utf-8"))


def names() -> Iterator[str]:
    """Of all experiments; those of a comparison in its order."""
    yield from SINGLE
    for file in COMPARED:
        yield from _cells(file)


def experiment(name: str) -> Experiment:
    """The experiment as its file has it."""
    file, *rest = name.split("/", 1)
    return _cells(file)[name] if rest else read(PROJECT / f"experiments/{file}.toml")


@cache
def _cells(file: str) -> dict[str, Experiment]:
    _, cells = comparison.read(PROJECT / f"experiments/{file}.toml")
    return {
        f"{file}/{cell.task}/{cell.strategy}/{cell.experiment.seed}": cell.experiment
        for cell in cells
    }


def full(name: str) -> Experiment:
    """The experiment with all of its rounds on host nodes, none of them emulated."""
    return _changed(experiment(name), "host", {})


def short(name: str, rounds: int, backend: str = "host") -> Experiment:
    """The experiment with so many rounds, judged on few devices before them, in their middle and
    after them."""
    whole = experiment(name)
    devices = min(JUDGED, whole.evaluation.devices)
    judged = {"every": max(1, rounds // 2), "devices": devices, "unseen": 1}
    return _changed(whole, backend, {"rounds": rounds, "evaluation": judged})


def _changed(whole: Experiment, backend: str, changes: dict[str, Any]) -> Experiment:
    tree = whole.model_dump()
    for key, value in {"nodes": {"backend": backend, "emulate": 0}, **changes}.items():
        tree[key] = tree[key] | value if isinstance(value, dict) else value
    return Experiment.model_validate(tree)


def files(settings: Experiment) -> list[datasets.File]:
    """Of the data set that the experiment's task takes its samples from."""
    match settings.task:
        case omniglot.Omniglot(seen=seen, validation=validation, unseen=unseen):
            archives = sorted({entry.partition("/")[0] for entry in (*seen, *validation, *unseen)})
            return [datasets.card(omniglot.Card, "omniglot").files[one] for one in archives]
        case keywords.Keywords(data=data):
            return [datasets.card(keywords.Card, data).file]
        case tabular.Tabular(card=card):
            return [card.file]
        case _:
            return []


def find_data() -> None:
    """Has TMF_DATA name a folder for real data sets, where it names none and there is one."""
    if REAL_DATA:
        os.environ.setdefault("TMF_DATA", str(REAL_DATA[0]))


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    theta: its weights, float32, little-endian. sha256: of these bytes. bytes_down, bytes_up,
    bytes_sensor: of all nodes in all rounds. loss, accuracy: after adaptation in the last
    evaluation, the mean over the devices for validation.
    """

    run: int
    rounds: int
    theta: bytes
    bytes_down: int
    bytes_up: int
    bytes_sensor: int
    loss: float
    accuracy: float

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.theta).hexdigest()


def play(settings: Experiment, folder: Path) -> Outcome:
    """Runs the experiment into a store in `folder`. Raises TinyMetaFedError."""
    store, run = execute(settings, folder)
    rows = store.node_rounds(run.id)
    judged = [
        row for row in store.evaluations(run.id)
        if row.round == settings.rounds and row.part == "validation"
    ]  # fmt: skip
    return Outcome(
        run.id, run.done, run.theta, sum(row.bytes_down for row in rows),
        sum(row.bytes_up for row in rows), sum(row.bytes_sensor for row in rows),
        float(np.mean(np.array([row.loss_after for row in judged], np.float64))),
        float(np.mean(np.array([row.accuracy_after for row in judged], np.float64))),
    )  # fmt: skip
