"""Arguments and options that several commands take."""

import glob
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import files
from ..errors import printable
from ..experiments import shipped
from ..experiments.experiment import NAME

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


def output_file(path: Path | None) -> Path | None:
    """The callback of an option for a file: what cannot be written is said before any work. Raises
    TinyMetaFedError."""
    if path is not None:
        files.check(path)
    return path


def output_folder(path: Path | None) -> Path | None:
    """The same for files in a folder."""
    if path is not None:
        files.check_folder(path)
    return path


MarkdownOption = Annotated[
    Path | None,
    typer.Option(
        "--markdown", metavar="FILE", callback=output_file, help="Write the tables as Markdown."
    ),
]
"""For a page of documentation."""

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help='Its number, its name, or "last".')]
"""A run in the store."""

RunsArgument = Annotated[
    list[str], typer.Argument(metavar="RUN…", help='Numbers or names of runs, or "last".')
]
"""Runs in the store; a name stands for all runs so called."""


def _name(given: str | None) -> str | None:
    return given if given is None else _checked("--name", given)


def _tags(given: list[str] | None) -> list[str] | None:
    return given and [_checked("--tag", one) for one in given]


def _checked(option: str, text: str) -> str:
    if not re.fullmatch(NAME, text) or text == "last" or text.isdecimal():
        raise typer.BadParameter(
            f"{printable(text)!r}: use up to 64 letters, digits, '.', '_' and '-', and no number "
            'nor "last"',
            param_hint=option,
        )
    return text


NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", callback=_name, help="Call the run so.")
]
TagOption = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", callback=_tags, help="Tag the run; several times."),
]
NoteOption = Annotated[
    str | None, typer.Option("--note", metavar="TEXT", help="Write it down with the run.")
]
"""What is said of a new run."""
