"""The pages of the reference, as Markdown, made of what the program itself goes by."""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from robot.libdocpkg import LibraryDocumentation
from typer.cli import get_docs_for_click

import tinymetafed
from tinymetafed import cli
from tinymetafed.experiments.schema import schema

PROJECT = Path(__file__).parent.parent

# ---- settings -----------------------------------------------------------------------------------

INTRODUCTIONS = {
    "experiment": """# Experiment files

All keys of an experiment file (TOML), made from the settings that the program checks. A key that
does not exist, or a value out of range, is an error that names the file, the key and what is
allowed. `--set KEY=VALUE` changes any of them on the command line, an index of a list being a key
from 0 on: `--set model.layers.0.units=10`.

An editor that knows TOML schemas (Taplo, Even Better TOML) checks and completes a file whose first
line is `#:schema experiment.json`, where `tinymetafed schema experiment >experiment.json` has
written that file.
""",
    "comparison": """# Comparison files

All keys of a comparison file (TOML). [Comparing strategies](comparing.md) explains how they work
together. The schema for editors is that of `tinymetafed schema comparison`.
""",
}


def settings(kind: str) -> str:
    """Every key of the files of a kind."""
    root = schema(kind)
    return INTRODUCTIONS[kind] + "".join(_table(root, root, "", 2, {}))


def _table(
    root: dict[str, Any], part: dict[str, Any], path: str, level: int, done: dict[str, str]
) -> Iterator[str]:
    """The keys of a table, and then the tables in it. done: anchors of what is on the page already,
    by path, and of kinds by their class: each is there once."""
    below: list[tuple[str, str, dict[str, Any]]] = []
    rows: list[str] = []
    for key, value in part.get("properties", {}).items():
        inner = f"{path}.{key}".removeprefix(".")
        kinds = _tables(root, value)
        if kinds and _is_by_name(value):
            inner += ".NAME"
        brackets = "[[{}]]" if _is_list(value) else "[{}]"
        if kinds:
            below.append((inner, brackets.format(inner), value))
        elif "const" in value:
            continue
        default = _default(value, required=key in part.get("required", []))
        rows.append(f"| `{key}` | {_type(root, value, inner)} | {default} | {_text(value)} |\n")
    if rows:
        yield "\n| key | type and range | default | |\n| --- | --- | --- | --- |\n"
        yield from rows
    for inner, title, value in below:
        if inner in done:
            continue
        done[inner] = _anchor(inner)
        yield f"\n{'#' * level} `{title}` {{ #{_anchor(inner)} }}\n"
        if text := _text(value):
            yield f"\n{text}\n"
        yield from _kinds(root, value, inner, level, done)


def _kinds(
    root: dict[str, Any], value: dict[str, Any], path: str, level: int, done: dict[str, str]
) -> Iterator[str]:
    """The table that a value is; of several kinds, told apart by a key, each."""
    found = _tables(root, value)
    if len(found) == 1:
        yield from _table(root, found[0], path, level + 1, done)
        return
    if all(one["title"] in done for one in found):
        links = [f"[`{_tag(one)[1]}`](#{done[one['title']]})" for one in found]
        yield f"\nIts settings are those of {', '.join(links)}.\n"
        return
    for one in found:
        done[one["title"]] = f"{_anchor(path)}-{_anchor(_tag(one)[1])}"
    for one in found:
        tag, name = _tag(one)
        yield f"\n{'#' * (level + 1)} `{tag} = {name}` {{ #{_anchor(path)}-{_anchor(name)} }}\n"
        yield f"\n{_text(one)}\n"
        yield from _table(root, one, path, min(level + 2, 6), done)


def _tables(root: dict[str, Any], value: dict[str, Any]) -> list[dict[str, Any]]:
    """The tables that a value may be; none where it is no table."""
    value = value.get("items", value) if value.get("type") == "array" else value
    if "$ref" in value:
        value = root["$defs"][value["$ref"].rpartition("/")[2]]
    if "properties" in value and value.get("title"):
        return [value]
    if "additionalProperties" in value and isinstance(value["additionalProperties"], dict):
        return _tables(root, value["additionalProperties"])
    parts = [*value.get("anyOf", []), *value.get("oneOf", [])]
    return [table for one in parts for table in _tables(root, one)]


def _is_list(value: dict[str, Any]) -> bool:
    return value.get("type") == "array"


def _is_by_name(value: dict[str, Any]) -> bool:
    """Whether it has a table for each of some names, that are no keys of its own."""
    return isinstance(value.get("additionalProperties"), dict)


def _tag(one: dict[str, Any]) -> tuple[str, str]:
    """The key that tells a table from others, and what it says."""
    for key in ("name", "type"):
        value = one["properties"].get(key, {})
        if "const" in value:
            return key, f'"{value["const"]}"'
        if "enum" in value:
            return key, ", ".join(f'"{name}"' for name in value["enum"])
    return "a table", str(one["title"])


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _text(value: dict[str, Any]) -> str:
    return " ".join(value.get("description", "").split()).replace("|", "\\|")


def _default(value: dict[str, Any], *, required: bool) -> str:
    if required:
        return "required"
    default = value.get("default")
    if default is None or default in ([], {}) or isinstance(default, dict):
        return ""
    return f"`{_toml(default)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) \
        else str(value)  # fmt: skip


KINDS = {
    "integer": "whole number", "number": "number", "string": "text", "boolean": "true, false",
    "object": "table",
}  # fmt: skip


FILES = {":": "./FILE.py:CLASS", r"\.toml$": "./FILE.toml"}
"""What a text is that names a file of a user's own, by its pattern."""


def _type(root: dict[str, Any], value: dict[str, Any], path: str) -> str:
    """What a value may be, in words."""
    if _tables(root, value):
        what = "list of tables" if _is_list(value) else "table"
        what = "tables by name" if _is_by_name(value) else what
        plain = [one for one in value.get("oneOf", []) if "type" in one and "properties" not in one]
        first = "".join(f"{_type(root, one, path)}, or " for one in plain)
        return f"{first}[{what}](#{_anchor(path)})"
    if "enum" in value:
        return ", ".join(f'`"{name}"`' if isinstance(name, str) else f"`{name}`"
                         for name in value["enum"])  # fmt: skip
    if "const" in value:
        return f'`"{value["const"]}"`'
    if "anyOf" in value:
        kinds = [_type(root, one, path) for one in value["anyOf"] if one.get("type") != "null"]
        return ", or ".join(dict.fromkeys(kinds))
    if value.get("pattern") in FILES:
        return f'`"{FILES[value["pattern"]]}"`'
    if value.get("type") == "array":
        return _list(root, value, path)
    if "type" not in value:
        return "table"
    return f"{KINDS.get(value['type'], value['type'])}{_range(value)}"


def _list(root: dict[str, Any], value: dict[str, Any], path: str) -> str:
    if "prefixItems" in value:
        return f"[{', '.join(_type(root, one, path) for one in value['prefixItems'])}]"
    least = f", {value['minItems']} at least" if value.get("minItems", 0) > 1 else ""
    if not value["items"]:
        return "list of values"
    what, comma, limits = _type(root, value["items"], path).partition(",")
    what = what if what.startswith("`") else f"{what}s"
    return f"list of {what}{comma}{limits}{least}"


def _number(value: float) -> str:
    """With commas between thousands, as a file may have underscores there."""
    return f"{round(value):,}" if value == round(value) else f"{value:g}"


def _range(value: dict[str, Any]) -> str:
    low, high = value.get("minimum"), value.get("maximum")
    above, below = value.get("exclusiveMinimum"), value.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f", {_number(low)} to {_number(high)}" if high < 2**53 else f", ≥ {_number(low)}"
    parts = [
        f"{sign} {_number(limit)}"
        for sign, limit in ((">", above), ("≥", low), ("<", below), ("≤", high))
        if limit is not None
    ]
    if "pattern" in value:
        parts.append(f"`{value['pattern']}`".replace("|", "\\|"))
    return f", {', '.join(parts)}" if parts else ""


# ---- commands, classes, keywords ----------------------------------------------------------------


def commands() -> str:
    """Every command with its options, the list of them with the first sentence of each."""
    command: Any = typer.main.get_command(cli.app)
    context = command.make_context("tinymetafed", [], resilient_parsing=True)
    text = get_docs_for_click(obj=command, ctx=context, name="tinymetafed", title="Command line")
    for name, one in command.commands.items():
        first = " ".join(str(one.help).split()).partition(". ")[0].rstrip(".")
        line = f"* [`{name}`](#tinymetafed-{name}): {first}."
        text = re.sub(rf"^\* `{name}`: .*$", lambda _, line=line: line, text, count=1, flags=re.M)
    return text.replace("\n* ", "\n- ")


API = """# Python API

All of `tinymetafed.__all__`, by their docstrings. What is listed here stays as it is from version
to version. [From Python](api.md) shows how the parts work together.
"""
REST = "Experiments and runs"
GROUPS = {
    "Strategies": ("strategies", "models.model", "nodes.update"),
    "Programs of nodes": ("nodes.program",),
    "Tasks": ("tasks", "models.layers"),
    "Backends": ("nodes.backend", "nodes.transport"),
}
"""Modules whose names are explained together, behind all others."""
ALIASES = {"Batch", "Count", "Experiment", "Program", "Rate"}
"""Names of types, and the settings, which have a page of their own."""


def api() -> str:
    """What is public."""
    parts = {title: [f"\n## {title}\n"] for title in (REST, *GROUPS)}
    for name in tinymetafed.__all__:
        if name in ALIASES:
            continue
        found = getattr(tinymetafed, name)
        module = found.__module__.removeprefix("tinymetafed.")
        titles = (title for title, modules in GROUPS.items() if module.startswith(modules))
        path = f"{found.__module__}.{found.__qualname__}"
        # mkdocstrings takes the module of that name for it.
        hidden = inspect.isfunction(found) and path in sys.modules
        parts[next(titles, REST)].append(_function(found) if hidden else _object(path))
    return API + "".join(text for part in parts.values() for text in part)


def _function(found: Callable[..., Any]) -> str:
    """As mkdocstrings has one."""
    name, text = found.__name__, inspect.cleandoc(found.__doc__ or "")
    signature = inspect.signature(found)
    lines: list[str] = []
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and "*" not in lines:
            lines.append("*")
        lines.append(_short(str(one)))
    code = "".join(f"    {line},\n" for line in lines)
    result = _short(inspect.formatannotation(signature.return_annotation))
    kind = '<code class="doc-symbol doc-symbol-heading doc-symbol-function"></code>'
    head = f"\n### {kind} {name} {{ #{name} }}\n\n"
    return f"{head}```python\n{name}(\n{code}) -> {result}\n```\n\n{text}\n"


def _short(text: str) -> str:
    """Types without their modules."""
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)


def _object(path: str) -> str:
    return f"\n::: {path}\n    options: {{ heading_level: 3 }}\n"


FIXTURES = """# pytest

What the plugin has; [Your CI](your-ci.md) shows how it is used.

## Options and markers

{options}

## Fixtures
"""


def fixtures() -> str:
    """Of the plugin of pytest, and what they give."""
    from tinymetafed import pytest_plugin, testing

    source = inspect.getsource(pytest_plugin)
    names = re.findall(r"^@pytest\.fixture.*\ndef (tmf_\w+)", source, re.MULTILINE)
    options = _pytest_options(pytest_plugin)
    rows = "".join(f"| `{name}` | {text} |\n" for name, text in options)
    parts = [FIXTURES.format(options=f"| | |\n| --- | --- |\n{rows}")]
    parts += [_object(f"tinymetafed.pytest_plugin.{name}") for name in names]
    parts.append("\n## What they give\n")
    for one in (testing.Federation, testing.Node):
        parts.append(_object(f"{one.__module__}.{one.__qualname__}"))
    return "".join(parts)


def _pytest_options(plugin: Any) -> list[tuple[str, str]]:
    """Options, keys of the configuration and markers, and what each is for."""
    import pytest

    found: list[tuple[str, str]] = []

    class Parser:
        def getgroup(self, name: str) -> "Parser":
            return self

        def addoption(self, name: str, **options: Any) -> None:
            found.append((f"{name} {options['metavar']}", options["help"]))

        def addini(self, name: str, text: str, **options: Any) -> None:
            found.append((f"{name} = …", f"In pytest's configuration. {text}"))

    class Config:
        def addinivalue_line(self, name: str, text: str) -> None:
            head, _, tail = text.partition("): ")
            # Braces at the end of a cell would be its attributes.
            found.append((f"@pytest.mark.{head})", re.sub(r"(\{.*?\})", r"`\1`", tail)))

    parser: pytest.Parser | Any = Parser()
    config: pytest.Config | Any = Config()
    plugin.pytest_addoption(parser)
    plugin.pytest_configure(config)
    return found


KEYWORDS = """# Keywords of Robot Framework

`Library    tinymetafed.robot`, for Robot Framework 6.1 or later; [Your CI](your-ci.md) shows how it
is used.

"""


def keywords() -> str:
    """Of the library, as Robot Framework's own documentation tool has them."""
    library = LibraryDocumentation("tinymetafed.robot")
    names = [one.name for one in library.keywords]
    library.convert_docs_to_html()
    parts = [KEYWORDS, _html(library.doc, names), "\n## Keywords\n"]
    for one in library.keywords:
        parts.append(f"\n### {one.name} {{ #{_anchor(one.name)} }}\n\n")
        if arguments := ", ".join(f"`{argument}`" for argument in one.args):
            parts.append(f"Arguments: {arguments}\n\n")
        parts.append(_html(one.doc, names))
    return "".join(parts)


def _html(text: str, names: list[str]) -> str:
    """With links to the keywords as they are named on the page."""
    for name in names:
        text = text.replace(f'href="#{name.replace(" ", "%20")}"', f'href="#{_anchor(name)}"')
    text = text.replace("<b>*</b>", "***")  # sections of a suite, which are no bold type
    text = text.replace("<pre>\n", "<pre><code>").replace("</pre>", "</code></pre>")
    return f"<div>\n{text}\n</div>\n"


PROTOCOL = """# Protocol

What the server and a node say to each other, as CDDL
([RFC 8610](https://www.rfc-editor.org/rfc/rfc8610)). The C codec is generated from
this file, and `orchestrator/tinymetafed/link/messages.py` mirrors it.
[The firmware](firmware-design.md) gives the reasons.

```cddl
{text}```
"""


def protocol() -> str:
    """The contract between the server and a node."""
    return PROTOCOL.format(text=(PROJECT / "firmware/protocol.cddl").read_text("utf-8"))
