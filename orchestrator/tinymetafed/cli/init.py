"""The command that writes a project of the user's own."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from ..errors import TinyMetaFedError
from ..places import TEMPLATES
from .terminal import console


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new one, or an empty one.")],
) -> None:
    """Write a small project: data as CSV, an experiment, a strategy, tests, a CI workflow."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        what = "is not empty" if folder.is_dir() else "is no folder"
        raise TinyMetaFedError(f"{folder}: {what}; give one that is not there yet")
    source = TEMPLATES / "project"
    ignored = shutil.ignore_patterns("__pycache__")
    try:
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=ignored)
    except shutil.Error as error:
        raise TinyMetaFedError(f"{folder}: cannot be written: {error.args[0][0][2]}") from None
    except OSError as error:
        raise TinyMetaFedError(f"{folder}: cannot be written: {error.strerror}") from None
    for path in sorted(source.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            console.print(str(folder / path.relative_to(source)), soft_wrap=True, highlight=False)
    console.print(f"Go on with: cd {folder} && tinymetafed run pumps.toml", soft_wrap=True)
