"""What is on the page, and in the files of its figures and tables."""

import csv
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from conftest import MakeExperiment
from running import execute, ledger
from tinymetafed.energy.ledger import balance
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.files import escaped
from tinymetafed.report import page
from tinymetafed.report.page import Chapter
from tinymetafed.report.results import Result
from tinymetafed.report.table import Table
from tinymetafed.results.store import Store

HOSTILE = "<script>alert('x')</script>&\"$x_1$"


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, *names: str) -> Iterator[str]:
        """The values of attributes of one of these names."""
        for _, attributes in self.elements:
            yield from (attributes[name] or "" for name in names if name in attributes)


def _chapters(store: Store) -> list[Chapter]:
    return page.chapters([Result.read(store, run) for run in store.runs()])


@pytest.fixture(scope="module")
def chapters(compared: Store) -> list[Chapter]:
    return _chapters(compared)


@pytest.fixture(scope="module")
def html(compared: Store) -> str:
    return page.render(_chapters(compared))


def _table(chapters: list[Chapter], name: str) -> list[dict[str, str]]:
    tables = [table for chapter in chapters for part in chapter.parts for table in part.tables]
    (found,) = (table for table in tables if table.name == name)
    return list(csv.DictReader(io.StringIO(found.csv, newline="")))


def _figure(chapters: list[Chapter], name: str) -> Figure:
    charts = [chart for chapter in chapters for part in chapter.parts for chart in part.charts]
    (found,) = (chart.figure for chart in charts if chart.name == name)
    return found


def test_the_page_needs_nothing_else(html: str):
    found = Elements(html)
    assert not {"link", "img", "iframe", "object", "base"} & {tag for tag, _ in found.elements}
    assert [tag for tag, _ in found.elements].count("style") == 1  # a figure's would be for all
    assert not list(found.attributes("src"))
    assert all(value.startswith("#") for value in found.attributes("href", "xlink:href"))
    assert set(re.findall(r"url\((.)", html)) == {"#"}
    assert set(re.findall(r"https?://[^\"'\s]*", html)) == {
        "http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg",
    }  # fmt: skip


def test_an_id_is_the_only_one_and_what_refers_to_it_finds_it(html: str):
    found = Elements(html)
    ids = list(found.attributes("id"))
    assert len(ids) == len(set(ids))
    wanted = {value[1:] for value in found.attributes("href", "xlink:href")}
    wanted |= set(found.attributes("data-copy", "data-csv", "data-svg", "aria-labelledby"))
    wanted |= set(re.findall(r"url\(#([^)]*)\)", html))
    assert wanted <= set(ids)


def test_every_colour_is_one_for_light_and_dark(html: str):
    used = set(re.findall(r"var\((--\w+)\)", html))
    assert used <= set(re.findall(r"(--\w+): light-dark\(", html))
    drawn = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert drawn
    assert not re.findall(r"#[0-9a-f]{6}\b", drawn)


def test_a_name_is_no_markup(compared: Store, tmp_path: Path):
    shutil.copytree(compared.folder, tmp_path / "runs")
    store = Store(tmp_path / "runs")
    store._db.execute("UPDATE run SET name = ?", (HOSTILE,))
    found = Elements(page.render(_chapters(store)))
    assert [tag for tag, _ in found.elements].count("script") == 1
    assert found.text.count(f"6 {HOSTILE}, reptile, seed 1") > 3  # in the figures too
    assert not [name for _, attributes in found.elements for name in attributes if "on" in name[:2]]


def test_energy_by_account_is_the_ledger_s(compared: Store, chapters: list[Chapter]):
    entries = ledger(compared, compared.run("6"))
    row, other = _table(chapters, "sine-1-energy-by-account")
    assert (row["run"], other["run"]) == ("6", "7")
    # Of a node's round, since others have three nodes: two nodes, four rounds.
    assert float(row["all mJ"]) * 8 == pytest.approx(balance(entries).joules * 1e3, rel=1e-5)
    learn = balance([one for one in entries if one.account == "learn"]).joules
    assert float(row["learn mJ"]) * 8 == pytest.approx(learn * 1e3, rel=1e-5)
    for row in _table(chapters, "run-6-energy-by-node"):
        mine = balance([one for one in entries if str(one.node) == row["node"]])
        assert float(row["all mJ"]) == pytest.approx(mine.joules * 1e3, rel=1e-5)


def test_messages_by_request_are_the_link_s(compared: Store, chapters: list[Chapter]):
    rows = _table(chapters, "sine-1-messages-by-request")
    assert [row["run"] for row in rows] == ["5", "2", "3", "4", "6", "7"]
    for row in rows:
        done = compared.node_rounds(int(row["run"]))
        for way in ("down", "up"):
            moved = sum(getattr(one, f"bytes_{way}") for one in done)
            assert float(row[f"all {way} kB"]) == pytest.approx(moved / len(done) / 1e3, rel=1e-5)


def test_where_all_have_as_many_nodes_a_round_is_that_of_all(compared: Store):
    found = page.chapters([Result.read(compared, compared.run(number)) for number in ("6", "7")])
    (row, _) = _table(found, "sine-1-energy-by-account")
    assert float(row["all mJ"]) * 4 == pytest.approx(
        balance(ledger(compared, compared.run("6"))).joules * 1e3, rel=1e-5
    )
    (row, _) = _table(found, "sine-1-messages-by-request")
    moved = sum(one.bytes_up for one in compared.node_rounds(6))
    assert float(row["all up kB"]) == pytest.approx(moved / 4e3, rel=1e-5)
    axes = _figure(found, "sine-1-loss").axes[0]
    assert axes.get_xlabel() == "rounds"
    assert np.max(axes.lines[0].get_xdata()) == 4


def test_rounds_of_few_nodes_and_of_many_are_drawn_as_long(chapters: list[Chapter]):
    """As what their nodes do."""
    axes = _figure(chapters, "sine-1-loss").axes[0]
    assert "rounds of a node" in axes.get_xlabel()
    assert {np.max(line.get_xdata()) for line in axes.lines} == {4 * 2, 4 * 3}
    for stem, title in (
        ("energy", "energy of one node's round"),
        ("messages", "bytes of one node"),
    ):
        assert title in _figure(chapters, f"sine-1-{stem}").axes[0].get_title("left")


def test_losses_of_very_different_size_are_told_apart(compared: Store):
    run = Result.read(compared, compared.run("6"))
    found = page.chapters([run])
    for name in ("sine-1-loss", "sine-1-bytes", "sine-1-joules"):
        assert _figure(found, name).axes[0].get_yscale() == "linear"
        assert _figure(found, name).axes[0].get_ylim()[0] == 0
    last = replace(run.judged[-1], after=run.judged[0].after / 1000)
    found = page.chapters([replace(run, judged=[*run.judged[:-1], last])])
    for name in ("sine-1-loss", "sine-1-bytes", "sine-1-joules"):
        assert _figure(found, name).axes[0].get_yscale() == "log"
        assert 0 < _figure(found, name).axes[0].get_ylim()[0] < last.after


def test_every_node_is_there_for_the_whole_of_a_round(compared: Store, chapters: list[Chapter]):
    rows = _table(chapters, "run-6-round-4")
    lasts = [float(row["all ms"]) for row in rows]
    assert len(lasts) == 2
    assert lasts[0] == pytest.approx(lasts[1], rel=1e-5)
    timeline = _figure(chapters, "run-6-round")
    by_node: dict[float, list[tuple[float, float]]] = {}
    for bars in timeline.axes[0].containers:
        for bar in bars:
            by_node.setdefault(bar.get_y(), []).append((bar.get_x(), bar.get_width()))
    for bars in by_node.values():
        starts, widths = np.array(bars).T
        np.testing.assert_allclose(starts, np.cumsum(widths) - widths, atol=1e-9)
        assert widths.sum() == pytest.approx(lasts[0], rel=1e-5)


def test_what_was_counted_and_what_not_is_said(chapters: list[Chapter]):
    notes = [note for chapter in chapters for note in chapter.notes]
    host = "Runs 1–5: the firmware's core in-process, nothing counted."
    qemu = "Runs 6, 7: emulated on QEMU, every instruction counted."
    assert {host, qemu} <= set(notes)
    assert "Run 1 is in no figure but its own: a later run has the same settings and seed." in notes
    (cost,) = (chapter for chapter in chapters if chapter.title == "Cost")
    assert host in cost.notes
    assert [chart.note for part in cost.parts for chart in part.charts] == [
        "", "Not counted, so not in it: run 2–5.",
    ]  # fmt: skip


def test_the_front_is_of_counted_runs(compared: Store):
    """Of two alike in all else, the dearer is on the front once the other is not known."""
    cheap, dear = (Result.read(compared, compared.run(number)) for number in ("6", "7"))
    assert dear.spent is not None
    less = replace(dear.spent, by_round=0.9 * dear.spent.by_round)
    cheap = replace(cheap, judged=dear.judged, spent=less)
    lost = replace(cheap, totals=[replace(cheap.totals[0], counted=3), *cheap.totals[1:]])
    for first, front in ((cheap, cheap), (lost, dear)):
        axes = _figure(page.chapters([first, dear]), "sine-1-joules").axes[0]
        (drawn,) = (line for line in axes.get_lines() if line.get_linestyle() == ":")
        assert np.array(drawn.get_xydata()).tolist() == [[front.joules[-1], dear.judged[-1].after]]


def test_settings_that_differ_are_listed(chapters: list[Chapter]):
    rows = {row["run"]: row for row in _table(chapters, "settings")}
    assert {"strategy.name", "strategy.percent", "nodes.count"} <= rows["1"].keys()
    assert not {"name", "seed", "rounds", "task.name"} & rows["1"].keys()
    assert (rows["1"]["strategy.percent"], rows["4"]["strategy.percent"]) == ("50.0", "10.0")
    assert (rows["6"]["strategy.percent"], rows["6"]["strategy.batch"]) == ("", "3")
    assert list(rows) == ["1", "2", "3", "4", "5", "6", "7"]


def test_runs_that_were_not_counted_have_no_energy(compared: Store):
    found = page.chapters([Result.read(compared, compared.run("1"))])
    assert [chapter.title for chapter in found] == ["Runs", "Learning", "Cost", "Messages"]
    assert "<svg" in page.render(found)


def test_every_figure_and_table_is_a_file(chapters: list[Chapter], tmp_path: Path):
    count = page.write_parts(chapters, tmp_path / "figures")
    files = {file.name: file.read_bytes() for file in (tmp_path / "figures").iterdir()}
    assert len(files) == count
    for name in ("sine-1-loss", "sine-1-bytes", "sine-1-joules", "sine-1-energy", "run-6-round"):
        assert files[f"{name}.png"].startswith(b"\x89PNG")
        drawing = ElementTree.fromstring(files[f"{name}.svg"])
        assert drawing.tag.endswith("svg")
        assert "sine" in "".join(drawing.itertext()) or "node" in "".join(drawing.itertext())
    assert files["runs.csv"].decode().splitlines()[0].startswith("run,name,strategy,task,seed")
    (tmp_path / "file").touch()
    with pytest.raises(TinyMetaFedError, match="file: cannot be written"):
        page.write_parts(chapters, tmp_path / "file")


def test_the_same_runs_make_the_same_page(compared: Store, html: str):
    assert page.render(_chapters(compared)) == html


def test_one_seed_has_no_interval(chapters: list[Chapter]):
    for row in _table(chapters, "sine-1-learning"):
        assert (row["95% low"] == row["95% high"] == "") == (row["seeds"] == "1")


_CELLS = (
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
)


@given(st.lists(st.lists(_CELLS, min_size=3, max_size=3)))
def test_csv_is_what_the_page_shows(cells: list[list[str | int | float | None]]):
    table = Table("name", "title", ["a", 'b "c"', "d,e"], cells)
    shown = [escaped(row) for row in [table.head, *table.rows]]
    assert list(csv.reader(io.StringIO(table.csv, newline=""))) == shown
    for row, shown in zip(cells, table.rows, strict=True):
        for cell, text in zip(row, shown, strict=True):
            if isinstance(cell, float):
                assert float(text) == pytest.approx(cell, rel=1e-5)


def test_who_was_late_and_who_was_away_is_shown(experiment: MakeExperiment, tmp_path: Path):
    """As the rows have it: a node is in one of each round, or away."""
    coming = "participation={leave=0.4, join=0.5, deadline=1e-9}"  # all but the first are late
    store, run = execute(experiment("nodes.backend=qemu", coming, rounds=5), tmp_path)
    rows = store.node_rounds(run.id)
    assert 5 < len(rows) < 15
    other, _ = execute(experiment(rounds=2), tmp_path)
    found = _chapters(other)
    by_node = _table(found, f"run-{run.id}-rounds-by-node")
    for node, shown in enumerate(by_node):
        mine = [row for row in rows if row.node == node]
        assert shown == {
            "node": str(node), "took part": str(len(mine)), "late": str(sum(r.late for r in mine)),
            "away": str(5 - len(mine)),
        }  # fmt: skip
    this, without = _table(found, "runs")
    assert float(this["node rounds away %"]) == pytest.approx(100 * (15 - len(rows)) / 15, rel=1e-5)
    late = sum(row.late for row in rows)
    assert late == len(rows) - 5
    assert float(this["updates late %"]) == pytest.approx(100 * late / len(rows), rel=1e-5)
    assert without["node rounds away %"] == without["updates late %"] == ""
    labels = [
        one.get_text() for one in _figure(found, f"run-{run.id}-round").axes[0].get_yticklabels()
    ]
    last = {row.node: row.late for row in rows if row.round == 5}
    marks = {
        node: ", late" if last.get(node) else "" if node in last else ", away" for node in range(3)
    }
    assert sorted(labels) == [f"node {node}{mark}" for node, mark in marks.items()]


def test_what_cannot_be_late_or_away_is_not_said_to_be(chapters: list[Chapter]):
    names = {table.name for chapter in chapters for part in chapter.parts for table in part.tables}
    assert not [name for name in names if "rounds-by-node" in name]
    assert not [head for head in _table(chapters, "runs")[0] if "late" in head or "away" in head]
