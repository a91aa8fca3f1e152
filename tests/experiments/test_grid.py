"""A grid is the comparison of an experiment's variants."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comparing import execute
from conftest import SMALL
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import parse
from tinymetafed.experiments.grid import read, values
from tinymetafed.report.comparison import outcome
from tinymetafed.report.comparison_tables import tables

TREE = st.recursive(
    st.integers() | st.text(st.characters(codec="utf-8", exclude_categories=["C"])),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(TREE, min_size=1, max_size=4))
def test_commas_within_a_value_are_its_own(parts: list[object]):
    texts = [json.dumps(part) for part in parts]
    assert values(" , ".join(texts)) == texts


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("4,8", ["4", "8"]),
        ("host, qemu", ["host", "qemu"]),
        ("{start=60,end=10},50", ["{start=60,end=10}", "50"]),
        ('\'a,b\',"c,\\",d"', ["'a,b'", '"c,\\",d"']),
        ("[{units=3},{units=1}]", ["[{units=3},{units=1}]"]),
        ("'a\\',b", ["'a\\'", "b"]),
        ("4,", ["4", ""]),
    ],
)
def test_values(text: str, found: list[str]):
    assert values(text) == found


def test_each_combination_is_what_run_would_make_of_it(folder: Path):
    settings, cells = read(
        folder / "small.toml",
        ["strategy.percent=10,{start=60,end=10}", "nodes.count=2,3", "seed=1,2", "rounds=3"],
    )
    assert settings.seeds == (1, 2)
    assert [one.label for one in settings.strategies] == [
        f"percent={percent}, count={count}"
        for percent in ("10", "{start=60,end=10}") for count in (2, 3)
    ]  # fmt: skip
    assert len(cells) == 8
    changes = ("strategy.percent={start=60,end=10}", "nodes.count=2", "seed=2", "rounds=3")
    expected = parse(SMALL, "SMALL", changes)
    [cell] = [one for one in cells if one.experiment == expected]
    assert str(cell) == "test × percent={start=60,end=10}, count=2 × seed 2"


def test_steps_that_two_keys_share_are_told_apart(folder: Path):
    changes = ["strategy.query=6,8", "evaluation.query=8,9"]
    settings, _ = read(folder / "small.toml", changes)
    assert settings.strategies[0].label == "strategy.query=6, evaluation.query=8"


def test_what_is_changed_of_the_task_has_tables_of_its_own(folder: Path):
    settings, cells = read(folder / "small.toml", ["task.amplitude=[1,2],[1,3]", "seed=1,2"])
    assert [one.label for one in settings.tasks] == [
        "test, task.amplitude=[1,2]", "test, task.amplitude=[1,3]"
    ]  # fmt: skip
    assert {cell.strategy for cell in cells} == {"tinymetafed"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["seed=1"], "one run; give several values"),
        ([], "one run; give several values"),
        (["seed=1,1"], r"test × tinymetafed × seed 1 and .* are the same; remove one"),
        (["seed=1,"], "--set seed=1,: expected KEY=VALUE,VALUE"),
        (["seed"], "--set seed: expected KEY=VALUE,VALUE"),
        (["nodes.count=3,0", "seed=1,2"], r"nodes.count: 0 is not allowed.* \(nodes.count=0, seed"),
        (["nodes.cuont=3,4"], r"nodes.cuont: unknown key.* \(nodes.cuont=3\)"),
    ],
)
def test_a_grid_that_is_wrong(folder: Path, changes: list[str], says: str):
    with pytest.raises(TinyMetaFedError, match=says):
        read(folder / "small.toml", changes)


def test_a_grid_is_a_comparison(folder: Path):
    """It finds what is in the store, and says of it what a comparison says."""
    path = folder / "small.toml"
    _, cells = read(path, ["strategy.percent=10,20", "seed=1,2"])
    execute(folder, cells)
    settings, cells = read(path, ["strategy.percent=10,20,30", "seed=1,2"], target=100)
    store, compared, seen = execute(folder, cells)
    assert {i for i, _ in seen} == {4, 5}
    assert len(store.runs()) == 6
    found = outcome(settings, compared, store)
    reached = [one for one in found.results if one.quantity == "rounds until target"]
    assert [(one.strategy, one.seeds) for one in reached] == [
        ("percent=10", 2), ("percent=20", 2), ("percent=30", 2)
    ]  # fmt: skip
    without, cells = read(path, ["strategy.percent=10,20,30", "seed=1,2"])
    shown = list(tables(without, compared, outcome(without, compared, store)))
    assert len(shown) == 4  # none of what it took until a target
