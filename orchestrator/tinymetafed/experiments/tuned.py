"""The file of the settings that tuning has chosen: written once, taken up by the comparison that
names it.

It has a table for each task and strategy of the comparison, by their labels:

    ["sine"."FedAvg"]
    rate = 0.0123
    client.batch = 4
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import files, settings
from ..errors import TinyMetaFedError, printable
from .search_space import Value

Found = dict[str, dict[str, dict[str, Any]]]
"""Settings of the strategies, as tables: by the labels of task and strategy."""


def read(path: Path, origin: str, tasks: list[str], strategies: list[str]) -> Found:
    """The settings for each task and strategy of a comparison.

    origin: the comparison's file. Raises TinyMetaFedError that names it where the file is not
    there, or is of other tasks and strategies: some would be tuned, and others not.
    """
    if not path.exists():
        raise TinyMetaFedError(
            f"{origin}: tuned: {path}: no such file; 'tinymetafed tune {origin}' writes it"
        )
    tree = settings.parse(settings.read_text(path), str(path))
    again = f"run 'tinymetafed tune {origin}' again"
    for where, there, known in (
        ("", tree, tasks), *((f"{task}.", tree.get(task), strategies) for task in tasks),
    ):  # fmt: skip
        if not isinstance(there, dict):
            raise TinyMetaFedError(f"{path}: {where or 'it'} is no table; {again}")
        for label in [*known, *there]:
            if label not in there:
                raise TinyMetaFedError(f"{path}: {where}{label}: missing; {again}")
            if label not in known:
                raise TinyMetaFedError(
                    f"{path}: {where}{printable(label)}: {origin} has none of this label; {again}"
                )
            if not isinstance(there[label], dict):
                raise TinyMetaFedError(f"{path}: {where}{printable(label)}: is no table; {again}")
    return tree


def write(
    path: Path,
    head: Iterable[str],
    chosen: Iterable[tuple[str, str, Mapping[str, Value], str]],
) -> None:
    """head: lines of a comment. chosen: of each task and strategy the labels, settings by path, and
    what is said of them. Raises TinyMetaFedError."""
    lines = [f"# {line}" for line in head]
    for task, strategy, values, said in chosen:
        lines += ["", f"[{_text(task)}.{_text(strategy)}] # {said}"]
        lines += [f"{name} = {_text(value)}" for name, value in values.items()]
    with files.reporting(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with files.writing(path) as file:
        file.write("\n".join([*lines, ""]))


def _text(value: Value) -> str:
    """As TOML has it: a JSON string is a basic string there, but for DEL, and so are the others."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
