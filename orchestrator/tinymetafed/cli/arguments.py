"""Arguments and options that several commands take."""

import glob
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..experiments import shipped

OverrideOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. nodes.count=8."),
]
"""Changes to the settings of an experiment file."""


def _complete(kind: shipped.Kind) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        named = [name for name in shipped.names(kind) if name.startswith(incomplete)]
        files = sorted(glob.glob(f"{glob.escape(incomplete)}*"))  # noqa: PTH207
        folders = [f"{file}/" for file in files if Path(file).is_dir()]
        return [*named, *(file for file in files if file.endswith(".toml")), *folders]

    return complete


def given(kind: shipped.Kind) -> Any:
    """The argument for what experiments.shipped finds; a shell completes names and files."""
    return typer.Argument(
        metavar=kind.upper(), autocompletion=_complete(kind),
        help="A TOML file, or the name of one that comes with the bench.",
    )  # fmt: skip


ExperimentArgument = Annotated[Path, given("experiment")]
"""A file of an experiment, or a name that experiments.shipped knows."""

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON: all figures, in bytes, cycles, seconds, joules.")
]
"""For scripts."""

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help='Its number, or "last".')]
"""A run in the store."""
