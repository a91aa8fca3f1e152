"""The file of the settings that tuning has chosen: written once, taken up by the comparison that
names it.

It has a table for each task and strategy of the comparison, by their labels:

    ["sine"."FedAvg"]
    rate = 0.0123
    client.batch = 4

and one that says of each task what they were found on, by the digest of its settings:

    [tuned_on]
    "sine" = "sha256:0123456789abcdef"
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from .. import files, settings
from ..errors import TinyMetaFedError, printable
from .experiment import Experiment
from .search_space import Value

ON = "tuned_on"
"""The table that says what settings were found on."""


@dataclass(frozen=True)
class Found:
    """What is in the file at `path`.

    settings: of the strategies, as tables, by the labels of task and strategy. digests: of what
    they were found on, by the task's label; none of a task of which the file does not say it.
    """

    path: Path
    settings: dict[str, dict[str, dict[str, Any]]]
    digests: dict[str, str]


def digest(experiments: Mapping[str, Experiment]) -> str:
    """Of what settings are tuned on: a task's experiments, by the label of the strategy.

    Seed, rounds and the strategy's settings are left out, and so is what changes nothing that is
    learnt: where files lie, what runs the nodes and what they are priced for, how often a run is
    judged. Defaults are left out, so that a setting that is new to the bench changes nothing.
    """
    parts = {
        label: {
            "task": _given(one.task),
            "model": _given(one.model),
            "devices": _given(one.devices),
            "nodes": [one.nodes.count, one.nodes.per_round],
            "participation": _given(one.participation),
            "evaluation": [one.evaluation.support, one.evaluation.steps, one.evaluation.query],
        }
        for label, one in experiments.items()
    }
    text = json.dumps(parts, sort_keys=True, default=to_jsonable_python)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _given(value: Any) -> Any:
    """Settings without defaults, but for those that tell kinds apart; and without paths."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            name: _given(one)
            for name, one in value
            if name in ("name", "type")
            or (name != "path" and (name not in fields or one != fields[name].default))
        }
    return [_given(one) for one in value] if isinstance(value, tuple | list) else value


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
    on = tree.pop(ON, {}) if ON not in tasks else {}
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
    if not isinstance(on, dict):
        raise TinyMetaFedError(f"{path}: {ON}: is no table; {again}")
    return Found(path, tree, on)


def write(
    path: Path,
    head: Iterable[str],
    chosen: Iterable[tuple[str, str, Mapping[str, Value], str]],
    digests: Mapping[str, str],
) -> None:
    """head: lines of a comment. chosen: of each task and strategy the labels, settings by path, and
    what is said of them. digests: see Found. Raises TinyMetaFedError."""
    lines = [f"# {line}" for line in head]
    if digests:
        lines += [
            "",
            f"[{ON}] # digests of what each task was, but for strategies, seed and rounds",
        ]
        lines += [f"{_text(task)} = {_text(one)}" for task, one in digests.items()]
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
