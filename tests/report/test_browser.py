"""The page in Chromium, opened from a file."""

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tinymetafed.report import page
from tinymetafed.report.groups import compare
from tinymetafed.report.page import Page
from tinymetafed.report.results import Result
from tinymetafed.results.store import Store

sync_api: Any = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: pip install -e '.[browser]'"
)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on the PATH: apt-get install chromium"
)


@pytest.fixture(scope="module")
def found(compared: Store) -> Page:
    results = [Result.read(compared, run) for run in compared.runs()]
    return page.page(compare(results, 3.0), results=results)


@pytest.fixture(scope="module")
def file(found: Page, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    page.write(page.render(found), path)
    return path


@pytest.fixture(scope="module")
def browser(file: Path) -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        sandbox = os.geteuid() != 0  # which Chromium has for none but root
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, file: Path) -> Iterator[Any]:
    """The page; at the end, it has asked for nothing else and had no error."""
    context = browser.new_context(color_scheme="light", viewport={"width": 1280, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(file.as_uri())
    tab.locator("#run-1-rounds svg").wait_for()
    yield tab
    assert errors == []
    own = [url for url in asked if not url.startswith(("blob:", "data:"))]
    assert set(own) == {file.as_uri()}
    context.close()


def _column(tab: Any, table: str, head: str) -> list[str]:
    heads = tab.locator(f"#{table} th").all_text_contents()
    return tab.locator(f"#{table} td:nth-child({heads.index(head) + 1})").all_text_contents()


def _titles(tab: Any, chart: str) -> list[str]:
    """Of the axes."""
    return tab.locator(f"#{chart} .role-axis-title text").all_inner_texts()


def _strategies(tab: Any) -> list[str]:
    """In the order of the first table."""
    return [
        text.split("\n")[0] for text in tab.locator("#sine-1-result tbody th").all_inner_texts()
    ]


LABELS = ["tinymetafed, percent=50", "tinymetafed, percent=10", "reptile"]


def test_a_click_on_a_head_sorts(opened: Any):
    before = _column(opened, "runs", "unseen loss after")
    opened.locator("#tables summary").first.click()
    head = opened.locator("#runs th", has_text="unseen loss after")
    head.locator("button").click()
    assert _column(opened, "runs", "unseen loss after") == sorted(before, key=float) != before
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")  # by keyboard, the other way
    assert _column(opened, "runs", "unseen loss after") == sorted(before, key=float, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    # What has no value comes last, both ways.
    for _ in range(2):
        opened.locator("#runs th").get_by_role("button", name="J", exact=True).click()
        assert _column(opened, "runs", "J")[2:] == [""] * 5


def test_a_table_is_copied_and_downloaded_as_it_is_shown(opened: Any):
    opened.locator("#tables summary").first.click()
    opened.locator("#runs th", has_text="seed").locator("button").click()
    opened.locator("[data-copy=runs]").click()
    opened.get_by_text("Copied").wait_for()
    text = opened.evaluate("navigator.clipboard.readText()")
    with opened.expect_download() as download:
        opened.locator("[data-csv=runs]").click()
    assert download.value.suggested_filename == "runs.csv"
    assert download.value.path().read_bytes().decode() == text
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["run"] for row in rows] == _column(opened, "runs", "run")
    assert [row["seed"] for row in rows] == ["1", "1", "1", "1", "2", "2", "10"]  # as numbers


def test_the_first_table_is_sorted_and_what_is_best_is_marked(opened: Any, found: Page):
    score = found.tasks[0].verdicts[0].columns[0].entries
    order = sorted(range(3), key=lambda i: score[i].value or 0.0)
    assert _strategies(opened) == [LABELS[i] for i in order]
    opened.locator("#sine-1-result th", has_text="loss after").locator("button").click()
    assert _strategies(opened) == [LABELS[i] for i in reversed(order)]
    best = opened.locator("#sine-1-result tr", has=opened.locator("td:nth-child(3).best"))
    assert best.count() == 1
    assert LABELS[order[0]] in best.inner_text()


def test_what_others_are_compared_with_is_chosen(opened: Any, found: Page):
    """Also in what is copied; a page that is loaded again keeps it."""
    columns = found.tasks[0].verdicts[0].columns
    for again in (False, True):
        if again:
            opened.reload()
        else:
            opened.locator("#baseline").select_option("reptile")
        for i, label in enumerate(LABELS):
            row = opened.locator("#sine-1-result tbody tr", has_text=label)
            shown = row.locator("td .ratio").all_inner_texts()
            expected = [one.ratios[2][i] for one in columns if one.key in FIRST]
            assert shown == ([] if i == 2 else [text for text in expected if text])
        assert "reptile" in opened.locator(".verdict").inner_text()
    for kind, begins in (
        ("markdown", "| strategy | seeds | loss after"), ("csv", "strategy,seeds,loss after"),
        ("latex", "\\begin{tabular}{lr"),
    ):  # fmt: skip
        opened.locator(f".answer [data-copy-as={kind}]").click()
        opened.get_by_text("Copied").first.wait_for()
        text = opened.evaluate("navigator.clipboard.readText()")
        assert text.startswith(begins)
        assert "reptile" in text.splitlines()[0] + text.splitlines()[min(2, 1 + text.count("\n"))]


FIRST = ("score", "bytes", "joules", "rounds until")


def test_devices_and_radios_are_chosen(opened: Any, found: Page):
    """In the table, and in the charts that are of joules."""
    opened.locator("#device").select_option("stm32l476")
    opened.locator("#radio").select_option("lora7")
    place = found.prices.index(("stm32l476", "lora7"))
    column = found.tasks[0].verdicts[place].column("joules")
    assert column is not None
    heads = opened.locator("#sine-1-result thead th").all_inner_texts()
    assert column.title in heads
    row = opened.locator("#sine-1-result tbody tr", has_text="reptile")
    cell = row.locator("> *").nth(heads.index(column.title))
    assert cell.locator(".mean").inner_text() == column.entries[2].text
    energy = opened.locator("#sine-1-energy .role-axis-title", has_text="stm32l476, lora7")
    energy.wait_for()


def test_what_is_along_the_axes_is_chosen(opened: Any):
    figure = opened.locator("#sine-1-learning")
    x = figure.get_by_label("x axis")
    choices = x.locator("option").all_text_contents()
    assert choices == ["rounds", "bytes", "energy", "device time", "wall time"]
    for choice, title in (
        ("bytes", "communication, all nodes (kB)"), ("energy", "energy, all nodes"),
        ("device time", "time on the devices"), ("wall time", "wall time of the bench"),
        ("rounds", "rounds of a node"),
    ):  # fmt: skip
        x.select_option(choice)
        figure.locator(".role-axis-title", has_text=title).wait_for()
    figure.get_by_label("y axis").select_option("loss before adaptation")
    figure.locator(".role-axis-title", has_text="loss before adaptation").wait_for()
    for name in ("log x", "log y", "bands"):
        box = figure.get_by_label(name)
        was = box.is_checked()
        box.set_checked(not was)
        opened.wait_for_function(
            "([name, was]) => data.tasks[0].charts[1].chosen.log.includes(name.at(-1)) !== was"
            " || name === 'bands' && data.tasks[0].charts[1].chosen.bands !== was", arg=[name, was],
        )  # fmt: skip
    figure.locator("svg.marks").wait_for()


def test_a_strategy_is_hidden_by_its_name_in_the_legend(opened: Any):
    legend = opened.locator("#sine-1 .legend")
    lines = opened.locator("#sine-1-learning .mark-line.role-mark path")
    assert lines.count() == 3
    button = legend.get_by_role("button", name="reptile")
    button.click()
    opened.wait_for_function(
        "document.querySelectorAll('#sine-1-learning .mark-line.role-mark path').length === 2"
    )
    assert button.get_attribute("aria-pressed") == "false"
    button.dblclick()  # it alone
    opened.wait_for_function(
        "document.querySelectorAll('#sine-1-learning .mark-line.role-mark path').length === 1"
    )
    assert "reptile" in opened.locator("#sine-1-energy").inner_text()
    legend.get_by_role("button", name="Show all").click()
    opened.wait_for_function(
        "document.querySelectorAll('#sine-1-learning .mark-line.role-mark path').length === 3"
    )


def test_a_point_says_what_it_is_and_a_chart_is_zoomed(opened: Any):
    chart = opened.locator("#sine-1-learning .chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + 100)
    opened.mouse.move(*middle)
    tip = opened.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    assert {"strategy", "round", "95% interval", "seeds"} <= set(tip.inner_text().split("\n")) | {
        text.strip() for text in tip.locator("td.key").all_inner_texts()
    } | {text.rstrip(":") for text in tip.locator("td.key").all_inner_texts()}
    domain = "JSON.stringify(data.tasks[0].charts[1].view.scale('x').domain())"
    before = opened.evaluate(domain)
    opened.keyboard.down("Control")
    opened.mouse.wheel(0, -200)
    opened.keyboard.up("Control")
    opened.wait_for_function(f"{domain} !== {json.dumps(before)}")
    opened.mouse.dblclick(*middle)
    opened.wait_for_function(f"{domain} === {json.dumps(before)}")


def test_a_chart_is_downloaded_for_other_programs(opened: Any):
    for name, kind in (("sine-1-pareto", "SVG"), ("run-1-rounds", "PNG"), ("sine-1-energy", "SVG")):
        figure = opened.locator(f"#{name}")
        with opened.expect_download() as download:
            figure.get_by_role("button", name=kind).click()
        assert download.value.suggested_filename == f"{name}.{kind.lower()}"
        content = download.value.path().read_bytes()
        if kind == "PNG":
            assert content.startswith(b"\x89PNG")
            continue
        assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
        assert b"var(" not in content
        assert b"reptile" in content


def test_shares_in_the_place_of_joules(opened: Any):
    figure = opened.locator("#sine-1-energy")
    figure.get_by_label("as shares").check()
    figure.locator(".role-axis-title", has_text="share").wait_for()


def test_another_run_is_chosen(opened: Any):
    assert opened.locator("#run-1-rounds").is_visible()
    opened.locator("#run").select_option("6")
    opened.locator("#run-7-nodes svg").wait_for()
    assert opened.locator("#run-1-rounds").count() == 0


def test_light_and_dark_are_switched(opened: Any):
    def paper() -> tuple[str, str]:
        drawn = (
            "getComputedStyle(document.querySelector('#sine-1-learning svg.marks')).backgroundColor"
        )
        return opened.evaluate(f"[getComputedStyle(document.body).backgroundColor, {drawn}]")

    white, black = ["rgb(255, 255, 255)"] * 2, ["rgb(20, 23, 28)"] * 2
    assert paper() == white
    opened.locator("#theme").select_option("dark")
    assert paper() == black
    opened.emulate_media(color_scheme="dark")
    opened.locator("#theme").select_option("light")
    assert paper() == white
    opened.locator("#theme").select_option("")
    assert paper() == black
    opened.emulate_media(media="print")
    assert paper() == white


@pytest.mark.parametrize("width", [400, 800, 1280])
def test_nothing_runs_over_the_edge(opened: Any, width: int):
    opened.set_viewport_size({"width": width, "height": 800})
    opened.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
    opened.locator("#tables summary").first.click()
    opened.wait_for_function("document.documentElement.scrollWidth <= innerWidth")


def test_a_page_of_runs_that_go_on_loads_itself_again(browser: Any, found: Page, tmp_path: Path):
    path = tmp_path / "going-on.html"
    page.write(page.render(found, going_on=True), path)
    tab = browser.new_page()
    tab.clock.install()
    tab.goto(path.as_uri())
    tab.locator("#theme").select_option("dark")
    page.write(page.render(found), path)
    tab.clock.run_for(11_000)
    tab.locator("#following").wait_for(state="detached")
    assert tab.locator("#theme").input_value() == "dark"  # it keeps what was chosen
    tab.close()


def test_no_title_is_clipped_on_a_telephone(browser: Any, file: Path):
    context = browser.new_context(viewport={"width": 400, "height": 900})
    tab = context.new_page()
    tab.goto(file.as_uri())
    tab.locator("#run-1-rounds svg").wait_for()
    beyond = tab.evaluate(
        """() => [...document.querySelectorAll(".chart svg")].flatMap((svg) => {
          const all = svg.getBoundingClientRect();
          return [...svg.querySelectorAll(".role-axis-title text")].filter((text) => {
            const one = text.getBoundingClientRect();
            return one.left < all.left - 1 || one.right > all.right + 1
              || one.top < all.top - 1 || one.bottom > all.bottom + 1;
          }).map((text) => text.textContent);
        })"""
    )
    assert tab.locator(".role-axis-title text").count() > 5
    assert beyond == []
    context.close()
