"""The experiments and comparisons that come with the bench, by name."""

from pathlib import Path
from typing import Literal

from .. import settings
from ..errors import TinyMetaFedError
from ..places import EXPERIMENTS

Kind = Literal["experiment", "comparison"]


def names(kind: Kind) -> list[str]:
    """Of those of this kind, sorted."""
    return [name for name in settings.names(EXPERIMENTS) if _kind(name) == kind]


def find(given: Path, kind: Kind) -> Path:
    """The file that a user means by a path, or by the name of one that comes with the bench.

    kind: of which an error lists the names. Raises TinyMetaFedError where there is neither a file
    nor one of that name.
    """
    if given.suffix or given.name != str(given) or (given.exists() and not given.is_dir()):
        return given
    if given.name in settings.names(EXPERIMENTS):
        return EXPERIMENTS / f"{given.name}.toml"
    raise TinyMetaFedError(
        f"{given}: no such file, and no {kind} of this name comes with the bench; there are: "
        f"{', '.join(names(kind))}"
    )


def _kind(name: str) -> Kind:
    path = EXPERIMENTS / f"{name}.toml"
    tree = settings.parse(settings.read_text(path), str(path))
    return "comparison" if "strategies" in tree else "experiment"
