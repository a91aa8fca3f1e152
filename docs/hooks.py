"""Pages of the site that are made of what there is already: the README, the settings, the commands,
the public API, Robot Framework's keywords, the protocol. MkDocs calls on_files and
on_page_markdown."""

import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
import pages

log = logging.getLogger("mkdocs.plugins.tinymetafed")
PROJECT = Path(__file__).parent.parent

COPIES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "firmware-design.md": "firmware/DESIGN.md",
}
"""Pages that are files of the project, by the page's name."""

MADE: dict[str, Callable[[], str]] = {
    "reference-experiment.md": lambda: pages.settings("experiment"),
    "reference-comparison.md": lambda: pages.settings("comparison"),
    "reference-cli.md": pages.commands,
    "reference-api.md": pages.api,
    "reference-robot.md": pages.keywords,
    "reference-pytest.md": pages.fixtures,
    "protocol.md": pages.protocol,
}

TEXT = r"\[((?:[^\[\]]|\[[^\]]*\])*)\]"
LINK = re.compile(rf"(?<![!`]){TEXT}\(\s*([^)\s]+)\)|(!{TEXT})\(([^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that no file of docs/ has."""
    for name, path in COPIES.items():
        files.append(File.generated(config, name, content=(PROJECT / path).read_text("utf-8")))
    for name, make in MADE.items():
        files.append(File.generated(config, name, content=make()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site has them; the sources have those that a checkout has."""
    name = page.file.src_uri
    folder = PROJECT / Path(COPIES[name]).parent if name in COPIES else PROJECT / "docs"
    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(lambda found: _link(found, folder, page), one) for one in parts[::2]]
    return "".join(parts)


def _link(found: re.Match[str], folder: Path, page: Page) -> str:
    """A link to a page as it is named here; one to another file of the project is its text alone,
    since the site has no such file."""
    text, target = (found[1], found[2]) if found[1] is not None else (found[3], found[5])
    if target.startswith("#") or re.match(r"[a-z]+:", target):
        return found[0]
    path, hash_, anchor = target.partition("#")
    full = Path(os.path.normpath(folder / path))
    if not full.exists() and path not in {*COPIES, *MADE}:
        log.warning("%s: %s: there is no such file", page.file.src_uri, target)
        return found[0]
    if not full.exists():
        return found[0]
    pages = {PROJECT / path: name for name, path in COPIES.items()}
    name = pages.get(full)
    if full.is_relative_to(PROJECT / "docs"):
        name = str(full.relative_to(PROJECT / "docs"))
    if name is None:
        return text if found[1] is not None else ""
    shown = f"[{text}]" if found[1] is not None else text
    return f"{shown}({name}{hash_}{anchor})"


SHIM = re.compile(r"https://unpkg\.com/iframe-worker/shim")


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """The theme would load from the network what the search needs on a page from a disk."""
    return SHIM.sub("iframe-worker.js", output)


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """As of pages."""
    return SHIM.sub("iframe-worker.js", output_content)
