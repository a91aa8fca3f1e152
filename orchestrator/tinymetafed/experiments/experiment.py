"""An experiment file (TOML) checked into typed settings."""

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from .. import settings
from ..errors import TinyMetaFedError
from ..federation.settings import FederationSettings
from ..settings import Settings

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class _Named(Settings):
    name: Name


class Experiment(FederationSettings, _Named):  # the name comes first
    """A federation under the name of its experiment."""


def parse(text: str, origin: str, overrides: tuple[str, ...] = ()) -> Experiment:
    """Settings from TOML and KEY=VALUE overrides with dotted keys.

    Raises TinyMetaFedError that names `origin`, the key and what it may be, a line for each error.
    """
    tree = settings.parse(text, origin)
    for override in overrides:
        _override(tree, override)
    return settings.check(Experiment, tree, origin)


def read(path: Path, overrides: tuple[str, ...] = ()) -> Experiment:
    """The experiment in a file. Raises TinyMetaFedError."""
    return parse(settings.read_text(path), str(path), overrides)


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    *path, last = key.strip().split(".")
    if not equals or not last:
        raise TinyMetaFedError(f"--set {override}: expected KEY=VALUE, e.g. nodes.count=8")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # a string may be given without quotes
    for step in path:
        tree = tree.setdefault(step, {})
        if not isinstance(tree, dict):
            raise TinyMetaFedError(f"--set {override}: {step} is not a table")
    tree[last] = parsed
