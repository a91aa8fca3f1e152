"""The documentation's site: it builds strictly and without a network, has no dead link, and its
commands, settings and tables are the program's."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import typer
import yaml
from jsonschema import Draft202012Validator

from calling import call
from following import START, follow
from tinymetafed import cli
from tinymetafed.experiments import schema
from tinymetafed.places import PROJECT, TEMPLATES

SOURCES = [
    *sorted((PROJECT / "docs").glob("*.md")),
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    PROJECT / "firmware/DESIGN.md",
]
KEYS = schema.KINDS["experiment"].model_fields
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Page(HTMLParser):
    """What a page of HTML links to, what it loads by itself, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.anchors |= {found[key] for key in ("id", "name") if key in found}
        if "src" in found:
            self.loaded.append(found["src"])
        if "href" in found:
            self.links.append(found["href"])
            if tag == "link" and found.get("rel") not in ("canonical", "prev", "next"):
                self.loaded.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=PROJECT, capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}


def test_every_link_leads_somewhere(pages: dict[Path, Page]):
    dead: list[str] = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                host = parts.hostname or ""
                if parts.scheme not in ("http", "https") or "." not in host or " " in link:
                    dead.append(f"{path.name}: {link}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if target.suffix != ".html":
                missing = not target.is_file()
            else:
                fragment = unquote(parts.fragment)
                known = pages[target].anchors if target in pages else None
                missing = known is None or (fragment and fragment not in known)
            # Material's own page for what is not found has links from the root of a server.
            if missing and path.name != "404.html":
                dead.append(f"{path.name}: {link}")
    assert not dead
    assert len(pages) > 30


def test_nothing_is_loaded_from_the_network(site: Path, pages: dict[Path, Page]):
    loaded = {one for page in pages.values() for one in page.loaded if urlsplit(one).netloc}
    assert not loaded
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\W*(https?:)?//", path.read_text("utf-8")), path


NARROW = ("comparing", "models", "reference-experiment", "reference-robot", "reference-pytest")
"""Pages with the widest tables and code."""


def test_it_can_be_read_and_searched_from_a_disk(site: Path):
    api = pytest.importorskip("playwright.sync_api", reason="no playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on the PATH: apt-get install chromium")
    with api.sync_playwright() as playwright:
        sandbox = os.geteuid() != 0  # which Chromium has for none but root
        browser = playwright.chromium.launch(executable_path=chromium, chromium_sandbox=sandbox)
        tab = browser.new_page()
        asked: list[str] = []
        errors: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto((site / "index.html").as_uri())
        tab.locator(".md-search__input").click()
        tab.keyboard.type("reconstruction")
        tab.locator(".md-search-result__link").first.wait_for()
        assert "ow it works" in " ".join(tab.locator(".md-search-result__item").all_inner_texts())
        tab.set_viewport_size({"width": 400, "height": 900})
        for name in NARROW:  # a page scrolls down only
            tab.goto((site / f"{name}.html").as_uri())
            assert tab.evaluate("document.documentElement.scrollWidth") <= 400, name
        assert errors == []
        assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []
        browser.close()


def test_the_reference_has_every_key_and_command(pages: dict[Path, Page], site: Path):
    text = (site / "reference-experiment.html").read_text("utf-8")
    for name, one in schema.schema("experiment")["$defs"].items():
        for key in one.get("properties", {}):
            assert f"<code>{key}</code>" in text or key in ("name", "type"), f"{name}.{key}"
    commands = (site / "reference-cli.html").read_text("utf-8")
    for name in typer.main.get_command(cli.app).list_commands(context()):  # type: ignore[attr-defined]
        assert f"tinymetafed {name}" in commands
    keywords = pages[site / "reference-robot.html"].anchors
    assert {"start-federation", "node-should-not-have-faulted"} <= keywords
    fixtures = pages[site / "reference-pytest.html"].anchors
    assert "tinymetafed.pytest_plugin.tmf_node" in fixtures


# ---- what a page says ---------------------------------------------------------------------------


def test_the_readme_is_short():
    assert (PROJECT / "README.md").read_text("utf-8").count("\n") <= 150


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_links_between_sources(path: Path):
    """As they are followed in a checkout, pages that the site makes apart."""
    made = {f"reference-{name}.md" for name in
            ("experiment", "comparison", "cli", "api", "robot", "pytest")}  # fmt: skip
    made |= {"protocol.md", "firmware-design.md"}
    text = FENCE.sub("", path.read_text("utf-8"))
    for target in re.findall(r"\]\(\s*([^)#\s]+)[^)\s]*\)", text):
        if not urlsplit(target).scheme and target not in made:
            assert (path.parent / target).exists(), target


def context(name: str = "tinymetafed") -> Any:
    return typer.main.get_command(cli.app).make_context(name, [], resilient_parsing=True)


def commands(text: str) -> list[str]:
    """Lines of code that call the program, continued ones joined; not those that it prints."""
    code = "".join(found[2] for found in FENCE.finditer(text) if "┃" not in found[2])
    lines = code.replace("\\\n", " ").splitlines()
    lines += re.findall(r"`(tinymetafed [^`…]+)`", FENCE.sub("", text).replace("\n", " "))
    return [line for line in lines if line.startswith("tinymetafed ")]


def problem(line: str) -> str:
    """What the command line's parser does not take of this command; nothing where it takes all."""
    words = shlex.split(line.partition(" && ")[0].partition(" | ")[0], comments=True)[1:]
    words = [word for word in words if not word.startswith(">")]
    command: Any = typer.main.get_command(cli.app)
    above = None
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        above = command.make_context(command.name, [], parent=above, resilient_parsing=True)
        if words[0] not in command.commands:
            return f"no such command {words[0]!r}"
        command = command.commands[words.pop(0)]
    try:
        command.make_context(command.name, words, parent=above)
    except Exception as error:
        return str(error)
    return ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_commands_are_those_of_the_program(path: Path):
    text = path.read_text("utf-8")
    for line in commands(text):
        if line.split()[1] in ("--version", "--install-completion"):
            continue  # they end the process
        found = problem(line)
        in_a_sentence = "Missing parameter" in found and f"`{line}`" in text
        assert not found or in_a_sentence, f"{line}: {found}"
        for key in re.findall(r"--set '?([a-z_]+)[.=]", line):
            assert key in KEYS, line


def test_what_the_parser_does_not_take_is_noticed():
    assert problem("tinymetafed rum demo") == "no such command 'rum'"
    assert "--sett" in problem("tinymetafed run demo --sett a=1")
    assert "Missing" in problem("tinymetafed plan")
    assert problem("tinymetafed run demo --set seed=2 >log && true  # twice") == ""


def test_targets_of_make_are_there():
    there = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for path in SOURCES:
        text = path.read_text("utf-8")
        code = "".join(found[2] for found in FENCE.finditer(text))
        named = re.findall(r"^make ([a-z]+)", code, re.MULTILINE)
        named += re.findall(r"`make ([a-z]+)", text)
        assert set(named) <= there, path


@cache
def partly(kind: str) -> Draft202012Validator:
    """Files of a kind of which a part may be left out."""
    found = {**schema.schema(kind)}
    del found["required"]
    return Draft202012Validator(found)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_settings_are_those_of_the_program(path: Path):
    for language, text in FENCE.findall(path.read_text("utf-8")):
        if language == "toml":
            tree = tomllib.loads(text.replace("…\n", ""))
            kind = "comparison" if "strategies" in tree else "experiment"
            errors = [f"{one.json_path}: {one.message}" for one in partly(kind).iter_errors(tree)]
            assert not errors, text


def test_the_readme_prints_what_the_start_does():
    rows = re.findall(r"^│ 50 .*$", (PROJECT / "README.md").read_text("utf-8"), re.MULTILINE)
    start = START.read_text("utf-8")
    assert len(rows) == 3
    assert all(row in start for row in rows)


def test_who_follows_the_start_gets_there(tmp_path: Path):
    here = str(Path(sys.executable).parent)
    path = os.pathsep.join([here, os.environ["PATH"]])
    follow(tmp_path, os.environ | {"PATH": path}, START)
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert (tmp_path / "mine/pumps.toml").is_file()


QEMU = pytest.mark.skipif(
    not shutil.which("qemu-system-arm"), reason="qemu-system-arm is not installed"
)


@QEMU
def test_the_plan_is_the_one_that_is_printed(tmp_path: Path):
    """But for what the compiler of the image changes: its size, cycles, what follows from them."""
    text = (PROJECT / "docs/planning.md").read_text("utf-8")
    printed = call(tmp_path, "plan", "demo", COLUMNS="88").stdout.splitlines()
    for first, last in (("Layers", "A node's memory"), ("Bytes of a round", "…\nMilli")):
        part = text.partition(f"\n{first}")[2].partition(f"\n{last}")[0]
        rows = [line for line in part.splitlines() if line.startswith("│")]
        assert rows
        assert not [row for row in rows if row not in printed]


@QEMU
@pytest.mark.parametrize("strategy", ["reptile", "scaffold"])
def test_what_scaffold_costs(tmp_path: Path, strategy: str):
    text = (PROJECT / "docs/strategies.md").read_text("utf-8").replace("\n", " ")
    printed = call(tmp_path, "plan", "reptile", "--json", "--set", f"strategy.name={strategy}")
    plan = json.loads(printed.stdout)
    memory, down = plan["memory"]["needed"], plan["rounds"]["later"]["bytes_down"]
    if strategy == "reptile":
        assert f"where `reptile` takes {memory:,}, and" in text
        assert f"where `reptile` takes {down:,} (" in text
    else:
        assert f"{memory:,} bytes on a node" in text
        assert f"{down:,} bytes down" in text


def test_the_workflow_is_the_one_of_a_new_project():
    text = (PROJECT / "docs/your-ci.md").read_text("utf-8")
    workflow = (TEMPLATES / "project/.github/workflows/ci.yml").read_text("utf-8")
    assert re.findall(r"- run: .*", text) == re.findall(r"- run: .*", workflow)


def test_every_extra_is_listed():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    text = (PROJECT / "docs/install.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert listed == set(project["optional-dependencies"]) - {"dev"}


def test_the_citation_is_of_this_version():
    """By what every version of the format asks for; cffconvert checks the rest."""
    cited = yaml.safe_load((PROJECT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    assert cited["version"] == project["version"]
    assert cited["license"] == project["license"]
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()


def test_the_changelog_keeps_its_form():
    text = (PROJECT / "CHANGELOG.md").read_text("utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE)[0] == "[Unreleased]"
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= kinds
