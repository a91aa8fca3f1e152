"""The page in Chromium, opened from a file."""

import csv
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tinymetafed.report import page
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
def file(compared: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    results = [Result.read(compared, run) for run in compared.runs()]
    page.write(page.render(page.chapters(results)), path)
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
    context = browser.new_context(color_scheme="light")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(file.as_uri())
    yield tab
    assert errors == []
    assert [url for url in asked if not url.startswith("blob:")] == [file.as_uri()]
    context.close()


def _column(tab: Any, table: str, head: str) -> list[str]:
    heads = tab.locator(f"#{table} th").all_inner_texts()
    return tab.locator(f"#{table} td:nth-child({heads.index(head) + 1})").all_inner_texts()


def test_a_click_on_a_head_sorts(opened: Any):
    before = _column(opened, "runs", "loss after")
    head = opened.locator("#runs th", has_text="loss after")
    head.locator("button").click()
    assert _column(opened, "runs", "loss after") == sorted(before, key=float) != before
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")  # by keyboard, the other way
    assert _column(opened, "runs", "loss after") == sorted(before, key=float, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    opened.locator("#runs th", has_text="name").locator("button").click()
    assert _column(opened, "runs", "name") == [*["reptile"] * 2, *["test"] * 5]
    assert head.get_attribute("aria-sort") is None
    # What has no value comes last, both ways.
    for _ in range(2):
        opened.locator("#runs th").get_by_role("button", name="J", exact=True).click()
        assert _column(opened, "runs", "J")[2:] == [""] * 5


def test_a_table_is_copied_and_downloaded_as_it_is_shown(opened: Any):
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


def test_a_figure_is_downloaded_for_other_programs(opened: Any):
    with opened.expect_download() as download:
        opened.locator("[data-svg=sine-1-loss]").click()
    assert download.value.suggested_filename == "sine-1-loss.svg"
    text = download.value.path().read_text()
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in text
    assert "fill: #ffffff" in text


def test_another_run_is_chosen(opened: Any):
    def shown() -> list[bool]:
        return [opened.locator(f"#run-{number}-round").is_visible() for number in (6, 7)]

    assert shown() == [True, False]
    opened.locator("#run").select_option("7 reptile, seed 2")
    assert shown() == [False, True]


def test_light_and_dark_are_switched(opened: Any):
    def paper() -> tuple[str, str]:
        drawn = "getComputedStyle(document.querySelector('#sine-1-loss path')).fill"
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
