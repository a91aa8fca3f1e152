"""Figures by class: on the terminal, as JSON, on the page, and as a table of the API."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinymetafed as tmf
from blobs import Blobs, on_blobs
from conftest import MakeExperiment
from printing import printed
from running import execute
from tinymetafed.report import as_json, page, summary
from tinymetafed.report.classes import MOST_SHOWN, by_class, worst_classes
from tinymetafed.report.groups import compare
from tinymetafed.report.page import Page
from tinymetafed.report.results import Result
from tinymetafed.report.table import Table
from tinymetafed.results.store import ClassCount, Store

NAMES = st.sampled_from(("a", "b", "c", "[bold]", "d\x1b[2J"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Runs 1 and 2 of one strategy, 3 and 4 of another, of two seeds each."""
    folder = tmp_path_factory.mktemp("classes")
    reptile = {"strategy": {"name": "reptile", "query": 6, "batch": 3, "epochs": 2}}
    for changes in ({}, reptile):
        for seed in (1, 2):
            execute(
                on_blobs(Blobs(names=("left", "middle", "right")), changes | {"seed": seed}), folder
            )
    return Store(folder)


def _page(store: Store, *runs: int) -> Page:
    results = [Result.read(store, store.run(str(run))) for run in runs]
    return page.page(compare(results), results=results)


def _table(found: Page) -> Table | None:
    return next((one for one in found.happened if one.name.endswith("-classes")), None)


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=60), st.randoms())
def test_figures_are_those_of_the_samples(pairs: list[tuple[str, str]], shuffle: random.Random):
    """Whichever way they are counted."""
    counts = [ClassCount(actual, predicted, 1) for actual, predicted in pairs]
    found = by_class(counts)
    assert sorted(one.name for one in found) == sorted({actual for actual, _ in pairs})
    accuracies = [one.accuracy for one in found]
    assert accuracies == sorted(accuracies)
    for one in found:
        taken = [predicted for actual, predicted in pairs if actual == one.name]
        assert one.samples == len(taken)
        assert one.right == taken.count(one.name)
        wrong = [name for name in taken if name != one.name]
        if one.mistaken is None:
            assert not wrong
        else:
            assert one.mistaken[1] == wrong.count(one.mistaken[0])
            assert all(wrong.count(name) <= one.mistaken[1] for name in wrong)
    shuffle.shuffle(counts)
    assert by_class(counts) == found


def test_the_terminal_has_the_worst(store: Store):
    text = printed(*summary.summary(store, store.run("1"), None))
    [first, *_] = by_class(store.class_counts(1, 4))
    lines = text.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("Classes of unseen devices"))
    cells = [cell.strip() for cell in lines[head + 4].split("│")[1:-1]]
    assert cells == [first.name, str(first.samples), f"{first.accuracy:.1%}", first.mistake]
    assert [line.split("│")[2].strip() for line in lines[head + 4 : head + 7]]
    counts = store.class_counts(1, 4)
    assert sum(one.samples for one in counts) == 5 * 8  # of the query sets of five devices
    right = sum(one.samples for one in counts if one.actual == one.predicted)
    [judged] = store.judged(1, "unseen")
    assert judged.accuracy_after == pytest.approx(right / 40)


def test_of_many_classes_the_worst_are_shown():
    table = worst_classes([ClassCount(f"{i}", f"{i % 7}", 1 + i) for i in range(20)])
    assert table is not None
    assert table.row_count == MOST_SHOWN
    assert "the worst 12 of 20" in printed(table)
    assert worst_classes([]) is None


def test_names_are_text_and_nothing_else():
    table = worst_classes([ClassCount("[bold]x", "\x1b[2Jy", 1)])
    assert table is not None
    text = printed(table)
    assert "[bold]x" in text
    assert "\\x1b[2Jy (100.0%)" in text


def test_json_has_all_of_them(store: Store):
    shown = json.loads(as_json.text(as_json.of_run(store, store.run("1"))))["classes"]
    assert [ClassCount(**one) for one in shown] == store.class_counts(1, 4)


def test_the_page_has_a_column_for_each_strategy(store: Store):
    found = _page(store, 1, 2, 3, 4)
    table = _table(found)
    assert table is not None
    assert table.head == [
        "class", "samples", "fedavg %", "reptile %", "most mistaken for, all strategies",
    ]  # fmt: skip
    every = [[count for run in runs for count in store.class_counts(run, 4)]
             for runs in ((1, 2), (3, 4), (1, 2, 3, 4))]  # fmt: skip
    one, other, both = ({figures.name: figures for figures in by_class(some)} for some in every)
    assert [row[0] for row in table.cells] == list(both)
    for name, samples, *accuracies, mistake in table.cells:
        assert isinstance(name, str)
        assert samples == one[name].samples == other[name].samples
        assert accuracies == [round(100 * some[name].accuracy, 1) for some in (one, other)]
        assert mistake == both[name].mistake
    assert f'<table id="{table.name}"' in page.render(found)


def test_a_strategy_with_less_samples_says_how_many(store: Store):
    found = _page(store, 1, 2, 3)
    table = _table(found)
    assert table is not None
    reptile = {one.name: one for one in by_class(store.class_counts(3, 4))}
    for name, samples, _, accuracy, _ in table.cells:
        known = reptile[str(name)]
        assert samples != known.samples
        assert accuracy == f"{round(100 * known.accuracy, 1):g} of {known.samples}"


@pytest.mark.parametrize("many", [False, True])
def test_few_classes_are_shown_and_many_folded(store: Store, many: bool):
    found = _page(store, 1)
    table = _table(found)
    assert table is not None
    if many:
        several = replace(table, cells=13 * list(table.cells[:1]))
        vars(found)["happened"] = [several if one is table else one for one in found.happened]
    html = page.render(found)
    before = html[: html.index(f'<table id="{table.name}"')]
    opening = before[before.rindex('<details class="table"') :].partition(">")[0]
    assert opening.endswith(" open") != many


@pytest.fixture
def without(tmp_path: Path, experiment: MakeExperiment) -> Iterator[Store]:
    """A run without classes."""
    found, _ = execute(experiment(), tmp_path / "runs")
    yield found
    found.close()


def test_without_classes_there_is_no_table(without: Store):
    assert "Classes of" not in printed(*summary.summary(without, without.run("1"), None))
    assert _table(_page(without, 1)) is None
    assert as_json.of_run(without, without.run("1"))["classes"] == []
    assert tmf.result(1, store=without.folder).classes.empty


def test_the_api_has_them_by_device(store: Store):
    classes = tmf.result(1, store=store.folder).classes
    assert classes.index.names == ["round", "device", "actual", "predicted"]
    expected = [
        ((row.round, row.device, one.actual, one.predicted), one.samples)
        for row in store.evaluations(1)
        for one in row.classes
    ]
    assert classes.index.tolist() == [index for index, _ in expected]
    assert classes["samples"].tolist() == [samples for _, samples in expected]
    assert sum(samples for _, samples in expected) == 5 * 8
