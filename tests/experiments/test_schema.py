"""The JSON schemas of experiment and comparison files agree with what the bench reads."""

import json
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from calling import call
from tinymetafed.experiments import comparison, experiment, schema
from tinymetafed.places import EXPERIMENTS, TEMPLATES

FILES = [*sorted(EXPERIMENTS.glob("*.toml")), *sorted((TEMPLATES / "project").glob("*.toml"))]


@cache
def validator(kind: str) -> Draft202012Validator:
    found = schema.schema(kind)
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


def kind_of(path: Path) -> str:
    """By the first line, as an editor finds it."""
    found = re.match(r"#:schema schema/(\w+)\.json\n", path.read_text())
    assert found, path
    return found[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_shipped_is_valid(path: Path):
    found = [f"{one.json_path}: {one.message}" for one in
             validator(kind_of(path)).iter_errors(tomllib.loads(path.read_text()))]  # fmt: skip
    assert not found


@pytest.mark.parametrize("kind", list(schema.KINDS))
def test_the_schema_beside_the_experiments_is_the_one_that_is_printed(kind: str, tmp_path: Path):
    done = call(tmp_path, "schema", kind)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == schema.schema(kind)
    kept = (EXPERIMENTS / f"schema/{kind}.json").read_text("utf-8")
    assert kept == done.stdout, (
        f"write it anew: tinymetafed schema {kind} >experiments/schema/{kind}.json"
    )


DEMO = tomllib.loads((EXPERIMENTS / "demo.toml").read_text())


def changed(dotted: str, value: Any, base: Any = DEMO) -> Any:
    """The tree with another value of a key, an index of a list being one."""
    key, _, rest = dotted.partition(".")
    new = changed(rest, value, base[int(key)] if key.isdecimal() else base[key]) if rest else value
    if isinstance(base, list):
        return [*base[: int(key)], new, *base[int(key) + 1 :]]
    return {**base, key: new}


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("colour", 1, False),
        ("nodes.cuont", 4, False),
        ("nodes.count", 0, False),
        ("nodes.count", 10_000, True),
        ("nodes.backend", "qemuu", False),
        ("nodes.ports", "auto", True),
        ("nodes.ports", ["/dev/ttyACM0", "/dev/ttyACM1"], True),
        ("energy", {"device": "nrf52840", "radio": "lora7"}, True),
        ("energy", {"device": "nrf52841"}, False),
        ("strategy.percent", 101, False),
        ("strategy.percent", {"start": 100, "end": 10}, True),
        ("strategy.percent", {"start": 100}, False),
        ("strategy.speed", 1, False),
        ("strategy", {"name": "fedavgg"}, False),
        ("strategy", {"name": "fedadam", "client": {"name": "tinymetafed", "percent": 5}}, True),
        ("strategy", {"name": "fedadam", "client": {"name": "scaffold"}}, False),
        ("task", {"name": "sine", "grid": 1}, False),
        ("task", {"name": "table", "path": "a.csv", "target": "y", "device_column": "d"}, True),
        ("task", {"name": "table", "path": "a.csv", "target": ["y"], "found": {}}, False),
        ("model", {"loss": "mse"}, False),
        ("model", {"layers": [{"units": 1}]}, True),
        ("model.layers.0", {"type": "conv2d", "filters": 8, "size": 3, "padding": "same"}, True),
        ("model.layers.0", {"type": "conv2d", "filters": 8, "size": [3, 300]}, False),
        ("model.layers.0", {"type": "conv2d", "filters": 8, "padding": 255}, False),
        ("model.layers.0", {"units": 8, "unit": 8}, False),
    ],
)
def test_it_allows_what_the_bench_allows(key: str, value: Any, valid: bool):
    assert validator("experiment").is_valid(changed(key, value)) == valid


def test_it_allows_classes_and_files_of_your_own():
    for key, value in (
        ("strategy", {"name": "./mine.py:Mine", "momentum": 0.5}),
        ("task", {"name": "package.module:Class", "slope": 2}),
        ("nodes.backend", "./mine.py:Mine"),
        ("model", {"from_run": "last"}),
        ("energy", {"device": "./board.toml"}),
    ):
        assert validator("experiment").is_valid(changed(key, value)), key


def test_a_comparison_needs_tasks_and_strategies():
    tree = tomllib.loads((EXPERIMENTS / "comparison.toml").read_text())
    assert validator("comparison").is_valid(tree)
    assert not validator("comparison").is_valid({**tree, "sedes": [1]})
    assert not validator("comparison").is_valid({**tree, "tasks": []})
    assert not validator("comparison").is_valid(DEMO)


@pytest.mark.parametrize("kind", list(schema.KINDS))
def test_every_key_is_described(kind: str):
    found = schema.schema(kind)
    without = [
        f"{name}.{key}"
        for name, one in {**found["$defs"], kind: found}.items()
        for key, value in one.get("properties", {}).items()
        if "const" not in value and not value.get("description", "").endswith((".", ")"))
    ]
    assert not without
    assert not [name for name, one in found["$defs"].items() if not one.get("description")]


def test_what_the_bench_reads_is_valid_as_it_is_stored():
    """The settings that a run keeps are a file's again, but for what nobody gives."""
    for name in ("demo", "omniglot", "digits", "iris"):
        stored = experiment.read(EXPERIMENTS / f"{name}.toml").model_dump(mode="json")
        del stored["model"]["sha256"]
        assert validator("experiment").is_valid(stored), name


def test_cells_of_a_comparison_are_valid():
    _, cells = comparison.read(EXPERIMENTS / "comparison.toml")
    for cell in cells[::3]:
        stored = cell.experiment.model_dump(mode="json")
        del stored["model"]["sha256"]
        assert validator("experiment").is_valid(stored), cell
