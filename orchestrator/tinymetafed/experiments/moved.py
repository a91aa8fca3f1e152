"""What tells runs apart, wherever the folder lies that has the user's own files: their checksums
do, and not their places."""

import json
import re
from typing import Any

from ..plugins import SOURCE

_FILE = re.compile(r"^(?:/.*/|\./)([^/]+\.py(?::\w+)?)$", re.DOTALL)


def placeless(text: str) -> str:
    """Settings or versions of a run, JSON, with files of the user's own by their names alone. The
    path of a task's data is left out: their checksum is beside it. What is no such JSON stays as it
    is."""
    try:
        tree = json.loads(text)
    except ValueError:
        return text
    if isinstance(tree, dict) and isinstance(task := tree.get("task"), dict) and task.get("found"):
        tree["task"] = {key: value for key, value in task.items() if key != "path"}
    return json.dumps(_named(tree), sort_keys=True)


def _named(value: Any) -> Any:
    if isinstance(value, dict):
        return {_key(key): _named(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_named(one) for one in value]
    return _FILE.sub(r"\1", value) if isinstance(value, str) else value


def _key(key: str) -> str:
    if not key.startswith(SOURCE):
        return key
    return SOURCE + _FILE.sub(r"\1", key.removeprefix(SOURCE))
