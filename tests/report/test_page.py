"""What is on the page, and in the files of its charts and tables."""

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import MakeExperiment
from running import execute, ledger
from tinymetafed.energy.ledger import balance
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.files import escaped
from tinymetafed.report import page, vega
from tinymetafed.report.curves import interval
from tinymetafed.report.groups import compare
from tinymetafed.report.page import Page
from tinymetafed.report.results import Result
from tinymetafed.report.table import Table
from tinymetafed.results.statistics import mean_and_interval
from tinymetafed.results.store import Store

HOSTILE = "</script><script>alert('x')</script>&\"$x_1$\u2028"


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text without its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside != "script":
            self.text += data

    def attributes(self, *names: str) -> Iterator[str]:
        """The values of attributes of one of these names."""
        for _, attributes in self.elements:
            yield from (attributes[name] or "" for name in names if name in attributes)


def _page(store: Store, *numbers: int, target: float | None = None) -> Page:
    results = [Result.read(store, run) for run in store.runs() if not numbers or run.id in numbers]
    return page.page(compare(results, target), results=results)


def _data(html: str) -> dict[str, Any]:
    """What the page's script has."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    return json.loads(text)


@pytest.fixture(scope="module")
def found(compared: Store) -> Page:
    return _page(compared)


@pytest.fixture(scope="module")
def html(found: Page) -> str:
    return page.render(found)


def _table(found: Page, name: str) -> list[dict[str, str]]:
    tables = [*found.papers, *found.tables, *found.happened]
    (table,) = (table for table in tables if table.name == name)
    return list(csv.DictReader(io.StringIO(table.csv, newline="")))


def _rows(found: Page, name: str) -> list[dict[str, Any]]:
    """What the chart of a task is drawn of."""
    part = found.tasks[0]
    (chart,) = (one for one in part.charts if one.name == name)
    return chart.rows.records(part.curves.labels)


def test_the_page_needs_nothing_else(html: str):
    found = Elements(html)
    assert not {"link", "img", "iframe", "object", "base"} & {tag for tag, _ in found.elements}
    assert [tag for tag, _ in found.elements].count("style") == 1
    assert not list(found.attributes("src"))
    assert all(value.startswith("#") for value in found.attributes("href"))
    own = html.replace(vega.script(), "")
    assert set(re.findall(r"https?://[^\"'\s]*", own)) == {
        "http://www.w3.org/2000/svg", "https://vega.github.io/schema/vega-lite/v6.json",
    }  # fmt: skip
    # What Vega could load, the browser is told to refuse.
    (policy,) = (one for one in found.attributes("content") if "default-src" in one)
    assert policy.startswith("default-src 'none'; ")
    assert "connect-src" not in policy


def test_an_id_is_the_only_one_and_what_refers_to_it_finds_it(html: str):
    found = Elements(html)
    ids = list(found.attributes("id"))
    assert len(ids) == len(set(ids))
    wanted = {value[1:] for value in found.attributes("href")}
    wanted |= set(found.attributes("data-copy", "data-csv", "aria-labelledby"))
    assert wanted <= set(ids)


def test_every_colour_is_one_for_light_and_dark(html: str):
    known = set(re.findall(r"--c(\w+): light-dark\(", html))
    data = _data(html)
    drawn = json.dumps([data["tasks"], data["specs"], data["config"]])
    used = set(re.findall(r"#([0-9a-f]{6})\b", drawn))
    assert len(used) > 10
    assert used <= known
    assert set(re.findall(r"var\(--c(\w{6})\)", html)) <= known


def test_a_name_is_no_markup(compared: Store, tmp_path: Path):
    shutil.copytree(compared.folder, tmp_path / "runs")
    store = Store(tmp_path / "runs")
    store._db.execute("UPDATE run SET name = ?", (HOSTILE,))
    html = page.render(_page(store))
    found = Elements(html)
    assert [tag for tag, _ in found.elements].count("script") == 3
    assert found.text.count(f"6 {HOSTILE}, reptile, seed 1") == 1
    assert any(HOSTILE in run["title"] for run in _data(html)["runs"])
    assert not [name for _, attributes in found.elements for name in attributes if "on" in name[:2]]


def test_lines_are_means_over_seeds_of_means_over_devices(compared: Store, found: Page):
    rows = [row for row in _rows(found, "sine-1-learning") if row["label"].endswith("percent=50")]
    assert [row["round"] for row in rows] == [0, 2, 4]
    for row in rows:
        means = []
        for run in (5, 2, 3):
            every = compared.evaluations(run, row["round"])
            judged = [one for one in every if one.part == "validation"]
            means.append(sum(one.loss_after or 0.0 for one in judged) / len(judged))
        expected = mean_and_interval(means, least=0.0)
        known = [row[f"loss_after{end}"] for end in ("", "_low", "_high")]
        assert known == pytest.approx(list(expected), rel=1e-4)
        assert row["seeds"] == 3


def test_no_band_goes_above_or_below_what_can_be(found: Page):
    uncut = [0.85, 0.92, 1.0]
    assert mean_and_interval(uncut)[2] > 1
    for when in ("before", "after"):
        assert interval(uncut, f"accuracy {when} adaptation")[2] == 1
        assert (interval(uncut, f"loss {when} adaptation")[2] or 0) > 1
    assert interval([0.0, 1.0, 0.1], "bytes")[1] == 0
    for rows in (found.tasks[0].curves.points, found.tasks[0].curves.ends):
        for name in rows.columns:
            if name.endswith("_low"):
                assert all(one >= 0 for one in rows.column(name) if one is not None)


def test_what_is_to_be_said_of_a_target_is_a_note(compared: Store):
    results = [Result.read(compared, compared.run(str(number))) for number in (5, 2, 6, 7)]
    (part,) = page.page(compare(results, 1e6)).tasks
    (note,) = (one for one in part.notes if one.startswith("Target: "))
    assert "2 of 2 seeds are at the target before training; choose another." in note
    assert note.removeprefix("Target: ") in str(part.verdicts[0].sentences[-1])
    (part,) = page.page(compare(results, 1e-9)).tasks
    assert not [one for one in part.notes if one.startswith("Target: ")]


def test_one_seed_has_no_interval(found: Page):
    for row in _rows(found, "sine-1-learning"):
        assert (row["loss_after_low"] is None) == (row["seeds"] == 1)
    (row,) = (row for row in _table(found, "sine-1-result") if "10" in row["strategy"])
    assert row["loss after adaptation"].endswith(" one seed")


def test_energy_by_account_is_the_ledger_s(compared: Store):
    found = _page(compared, 6)
    entries = ledger(compared, compared.run("6"))
    rows = {row["part"]: row for row in _rows(found, "sine-1-energy")}
    assert rows[""]["joules0"] == pytest.approx(balance(entries).joules, rel=1e-4)
    assert rows[""]["joules0_high"] == pytest.approx(balance(entries).high, rel=1e-4)
    for account in {entry.account for entry in entries}:
        mine = balance([entry for entry in entries if entry.account == account])
        if mine.joules:
            assert rows[account]["joules0"] == pytest.approx(mine.joules, rel=1e-4)
    for row in _table(found, "nodes"):
        mine = balance([one for one in entries if str(one.node) == row["node"]])
        assert float(row["J"]) == pytest.approx(mine.joules, rel=1e-5)


def test_messages_by_request_are_the_link_s(compared: Store, found: Page):
    rows = _rows(found, "sine-1-messages")
    for label, runs in (("reptile", (6, 7)), ("tinymetafed, percent=10", (4,))):
        mine = [row["bytes"] for row in rows if row["label"] == label]
        for way, sign in (("down", -1), ("up", 1)):
            done = [one for run in runs for one in compared.node_rounds(run)]
            moved = sum(getattr(one, f"bytes_{way}") for one in done) / len(runs)
            shown = sum(abs(one) for one in mine if one * sign > 0)
            assert shown == pytest.approx(moved, rel=1e-3)


def test_rounds_of_few_nodes_and_of_many_are_drawn_as_long(compared: Store, found: Page):
    """As what their nodes do."""
    rounds = found.tasks[0].curves.xs[0].axis
    assert rounds is not None
    assert "rounds of a node" in rounds.title
    assert rounds.value == "datum.node_rounds"
    last = {row["label"]: row["node_rounds"] for row in _rows(found, "sine-1-learning")}
    assert last["reptile"] == 4 * 2
    assert last["tinymetafed, percent=10"] == 4 * 3
    alone = _page(compared, 6, 7).tasks[0].curves.xs[0].axis
    assert alone is not None
    assert (alone.title, alone.value) == ("rounds", "datum.round")


def test_losses_of_very_different_size_are_told_apart(compared: Store):
    run = Result.read(compared, compared.run("6"))
    charts = page.page(compare([run])).tasks[0].charts
    assert "y" not in charts[1].logarithmic
    last = replace(run.judged[-1], after=run.judged[0].after / 1000)
    charts = page.page(compare([replace(run, judged=[*run.judged[:-1], last])])).tasks[0].charts
    assert charts[1].name == "sine-1-learning"
    assert "y" in charts[1].logarithmic


def test_what_was_before_adaptation_does_not_fill_the_axis_of_what_is_after(found: Page):
    for chart in found.tasks[0].charts[:2]:
        assert chart.y == "loss_after"
        assert [one.key for one in chart.ys] == ["loss_after", "loss_before"]


def test_every_node_is_there_for_the_whole_of_a_round(html: str):
    charts = {chart["name"]: chart for run in _data(html)["runs"] for chart in run["charts"]}
    lasts: dict[str, float] = {}
    for label, _, seconds in charts["run-6-last"]["rows"]["rows"]:
        lasts[label] = lasts.get(label, 0.0) + seconds
    assert list(lasts) == ["node 0", "node 1"]
    assert lasts["node 0"] == pytest.approx(lasts["node 1"], rel=1e-3)
    assert "run-1-last" not in charts  # nothing was counted


def test_what_was_counted_and_what_not_is_said(found: Page):
    (part,) = found.tasks
    host = "Runs 2–5: the firmware's core in-process, nothing counted."
    qemu = "Runs 6, 7: emulated on QEMU, every instruction counted."
    assert {host, qemu} <= set(part.notes)
    said = "Run 1 is in no figure but its own: a later run has the same settings and seed."
    assert said in part.notes


def test_settings_that_differ_are_listed(found: Page):
    rows = {row["run"]: row for row in _table(found, "settings")}
    assert {"strategy.name", "strategy.percent", "nodes.count"} <= rows["1"].keys()
    assert not {"name", "seed", "rounds", "task.name"} & rows["1"].keys()
    assert (rows["1"]["strategy.percent"], rows["4"]["strategy.percent"]) == ("50.0", "10.0")
    assert (rows["6"]["strategy.percent"], rows["6"]["strategy.batch"]) == ("", "3")
    assert list(rows) == ["1", "2", "3", "4", "5", "6", "7"]


def test_runs_that_were_not_counted_have_no_energy(compared: Store):
    found = _page(compared, 1)
    assert found.prices == []
    assert [chart.name for chart in found.tasks[0].charts] == [
        "sine-1-pareto", "sine-1-learning", "sine-1-devices", "sine-1-messages",
    ]  # fmt: skip
    columns = found.tasks[0].verdicts[0].columns
    assert [one.key for one in columns] == ["score", "bytes", "worst"]
    assert [one.key for one in found.tasks[0].curves.xs] == ["round", "bytes", "wall"]
    page.render(found)


def test_every_chart_and_table_is_a_file(compared: Store, tmp_path: Path):
    found = _page(compared, 6, 7)
    count = page.write_parts(found, tmp_path / "figures", 7.16)
    files = {file.name: file.read_bytes() for file in (tmp_path / "figures").iterdir()}
    assert len(files) == count
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "figures").iterdir()}
    assert modes == {0o600}  # as the store's
    for name in ("sine-1-pareto", "sine-1-learning", "sine-1-learning-by-joules", "run-6-rounds"):
        assert files[f"{name}.png"].startswith(b"\x89PNG")
        assert files[f"{name}.pdf"].startswith(b"%PDF")
        width = float(re.findall(rb"MediaBox \[0 0 ([\d.]+)", files[f"{name}.pdf"])[0])
        assert width == pytest.approx(7.16 * 72, abs=1)
        drawing = ElementTree.fromstring(files[f"{name}.svg"])
        assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
        words = "".join(drawing.itertext())
        assert "node 0" in words if "run" in name else "reptile" in words
        spec = json.loads(files[f"{name}.vl.json"])
        assert spec["data"]["values"]
        assert "@" not in json.dumps(spec)  # all that a reader chooses is chosen
    assert files["runs.csv"].decode().splitlines()[0].startswith("run,name,label,strategy,task")
    assert files["sine-1-result.tex"].startswith(b"\\begin{tabular}{lrrr")
    assert files["sine-1-more.tex"].startswith(b"\\begin{tabular}{lr")
    assert files["sine-1-result.md"].startswith(b"| strategy | seeds | loss after adaptation |")
    (tmp_path / "file").touch()
    with pytest.raises(TinyMetaFedError, match="file: cannot be written"):
        page.write_parts(found, tmp_path / "file")


def test_the_same_runs_make_the_same_page(compared: Store, html: str):
    assert page.render(_page(compared)) == html


def test_a_page_of_runs_that_go_on_loads_itself_again(found: Page, html: str):
    assert 'id="reload"' not in html
    assert 'id="reload" data-seconds="10"' in page.render(found, going_on=True)


def test_a_baseline_that_is_none_is_an_error(compared: Store):
    results = [Result.read(compared, run) for run in compared.runs()]
    assert page.page(compare(results), baseline="reptile").baseline == "reptile"
    with pytest.raises(TinyMetaFedError, match="--baseline rep: no such strategy; there are: tiny"):
        page.page(compare(results), baseline="rep")


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


def test_tables_for_papers_escape_what_means_something_there():
    bound = Table("name", "title", ["ratio"], [["< 0.17× [< 0.48]"], ["> 6.0×"]])
    assert "---:" in bound.markdown
    assert r"$<$ 0.17$\times$ [$<$ 0.48]" in bound.latex
    table = Table("name", "title", ["strategy", "loss (%)"], [["P = 1%|a_b", "0.5 [0, 1]"]])
    assert table.markdown == (
        "| strategy | loss (%) |\n| --- | ---: |\n| P = 1%\\|a_b | 0.5 [0, 1] |\n"
    )
    assert table.latex == (
        "\\begin{tabular}{lr}\n\\toprule\nstrategy & loss (\\%) \\\\\n\\midrule\n"
        "P = 1\\%|a\\_b & 0.5 [0, 1] \\\\\n\\bottomrule\n\\end{tabular}\n"
    )


def test_a_negative_number_has_a_minus_in_latex_and_a_name_its_hyphen():
    table = Table("name", "title", ["Per-FedAvg", "J ÷ A-1"], [["a-1", -0.5], ["b", "−2 [-3, 1]"]])
    assert table.latex.splitlines() == [
        r"\begin{tabular}{lr}", r"\toprule", r"Per-FedAvg & J $\div$ A-1 \\", r"\midrule",
        r"a-1 & $-$0.5 \\", r"b & $-$2 [$-$3, 1] \\", r"\bottomrule", r"\end{tabular}",
    ]  # fmt: skip


def test_the_first_table_of_a_paper_has_what_fits_a_page(found: Page):
    first, second = found.papers
    assert (first.name, second.name) == ("sine-1-result", "sine-1-more")
    columns = found.tasks[0].verdicts[0].columns
    titles = [one.title for one in columns]
    shown = [[name for name in table.head if name in titles] for table in (first, second)]
    assert sorted([*shown[0], *shown[1]]) == sorted(titles)
    assert [one.key for one in columns if one.title in shown[0]] == ["score", "bytes", "joules"]
    assert len(first.head) == 2 + 2 * 3  # a ratio beside each
    assert [row[:2] for row in first.rows] == [row[:2] for row in second.rows]


def test_who_was_late_and_who_was_away_is_shown(experiment: MakeExperiment, tmp_path: Path):
    """As the rows have it: a node is in one of each round, or away."""
    coming = "participation={leave=0.4, join=0.5, deadline=1e-9}"  # all but the first are late
    store, run = execute(experiment("nodes.backend=qemu", coming, rounds=5), tmp_path)
    rows = store.node_rounds(run.id)
    assert 5 < len(rows) < 15
    other, _ = execute(experiment(rounds=2), tmp_path)
    found = _page(other)
    by_node = [row for row in _table(found, "nodes") if row["run"] == str(run.id)]
    for node, shown in enumerate(by_node):
        mine = [row for row in rows if row.node == node]
        assert (shown["rounds"], shown["late"], shown["away"]) == (
            str(len(mine)), str(sum(row.late for row in mine)), str(5 - len(mine)),
        )  # fmt: skip
    this, without = _table(found, "absences")
    assert float(this["node rounds away %"]) == pytest.approx(100 * (15 - len(rows)) / 15, rel=1e-5)
    late = sum(row.late for row in rows)
    assert late == len(rows) - 5
    assert float(this["updates late %"]) == pytest.approx(100 * late / len(rows), rel=1e-5)
    assert without["node rounds away %"] == without["updates late %"] == ""
    data = _data(page.render(found))
    charts = {
        chart["name"]: chart["rows"]["rows"] for run in data["runs"] for chart in run["charts"]
    }
    drawn = {
        (node, number): state
        for node, first, last, state, event, _ in charts[f"run-{run.id}-rounds"]
        if event is None
        for number in range(first, last + 1)
    }
    states = {(f"node {row.node}", row.round): "late" if row.late else "took part" for row in rows}
    assert drawn == {
        (f"node {node}", number): states.get((f"node {node}", number), "away")
        for node in range(3)
        for number in range(1, 6)
    }
    by_device = [row for row in _table(found, "devices") if row["part"] == "seen"]
    assert sum(int(row["late"]) for row in by_device) == late
    labels = {row[0] for row in charts[f"run-{run.id}-last"]}
    last = {row.node: row.late for row in rows if row.round == 5}
    marks = {node: ", late" if last[node] else "" for node in last}
    assert {f"node {node}{mark}" for node, mark in marks.items()} <= labels


def test_what_cannot_be_late_or_away_is_not_said_to_be(found: Page, html: str):
    assert [table.name for table in found.happened] == ["nodes"]
    assert {row["late"] for row in _table(found, "nodes")} == {""}
    assert "Nothing but rounds: no fault, restart" in html
