"""An experiment file (TOML) checked into typed settings."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from .. import plugins, settings
from ..errors import TinyMetaFedError
from ..federation.settings import FederationSettings
from ..settings import Settings
from . import model_source, shipped, task_source

log = logging.getLogger(__name__)

HERE = Path()
Overrides = Sequence[str] | Mapping[str, Any]

NAME = r"^[A-Za-z0-9._-]{1,64}$"
Name = Annotated[str, Field(pattern=NAME)]


class _Named(Settings):
    name: Name
    """Name of its runs."""


class Experiment(FederationSettings, _Named):  # the name comes first
    """A federation under the name of its experiment."""


def parse(text: str, origin: str, overrides: Overrides = (), folder: Path = HERE) -> Experiment:
    """Settings from TOML and overrides with dotted keys, KEY=VALUE or by key.

    folder: where files lie that it names. Raises
    TinyMetaFedError that names `origin`, the key and what it may be, a line for each error.
    """
    tree = settings.parse(text, origin)
    if {"tasks", "strategies", "seeds"} & tree.keys():
        raise TinyMetaFedError(f"{origin}: a comparison; use 'tinymetafed compare {origin}'")
    if {"licence", "citation"} <= tree.keys():
        raise TinyMetaFedError(
            f"{origin}: a data set's card; name it in task.data of an experiment"
        )
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            _put(tree, key, value, key)
    else:
        for override in overrides:
            _override(tree, override)
    return build(tree, origin, folder)


def read(path: Path, overrides: Overrides = ()) -> Experiment:
    """The experiment in a file, or the one of a name that comes with the bench. Raises
    TinyMetaFedError."""
    if not path.exists() and (str(path) == "last" or str(path).isdecimal()):
        raise TinyMetaFedError(
            f"{path}: no such file; to go on with a run use 'tinymetafed run --resume {path}'"
        )
    path = shipped.find(path, "experiment")
    return parse(settings.read_text(path), str(path), overrides, path.parent)


def build(tree: dict[str, Any], origin: str, folder: Path) -> Experiment:
    """The experiment of a file's tree, its task with what lies in the files that it names, its
    model with the layers and weights of the file or run that it names. Raises TinyMetaFedError, as
    `parse` does."""
    tree = task_source.expand(tree, origin, folder)
    tree, source = model_source.expand(tree, origin, folder)
    with plugins.blaming():
        experiment = settings.check(Experiment, tree, origin, folder)
    try:
        first = model_source.first_weights(experiment.built_model, source)
    except ValueError as error:
        raise TinyMetaFedError(f"{origin}: {error}") from None
    if source.has_seen_other_devices(experiment):
        log.warning(
            "%s: model.from_run: that run has another seed, so it may have learnt from devices "
            "that are not seen here; use its seed",
            origin,
        )
    return experiment.starting_with(first)


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not all(step.strip() for step in key.split(".")):
        raise TinyMetaFedError(f"--set {override:.200}: expected KEY=VALUE, e.g. nodes.count=8")
    _put(tree, key, settings.value(value), f"--set {override:.200}")


def _put(tree: dict[str, Any], key: str, parsed: Any, origin: str) -> None:
    *path, last = [step.strip() for step in key.split(".")]
    place: dict[str, Any] | list[Any] = tree
    try:
        for i, step in enumerate(path):
            place = (
                place[settings.index(place, step)]
                if isinstance(place, list)
                else place.setdefault(step, {})
            )
            if not isinstance(place, dict | list):
                raise KeyError(f"{'.'.join(path[: i + 1])} is neither a table nor a list")
        if isinstance(place, list):
            place[settings.index(place, last)] = parsed
        else:
            place[last] = parsed
    except KeyError as error:
        raise TinyMetaFedError(f"{origin}: {error.args[0]}") from None
