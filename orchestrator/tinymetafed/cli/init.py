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
        _write_schemas(folder / "schema")
    except shutil.Error as error:
        raise TinyMetaFedError(f"{folder}: cannot be written: {error.args[0][0][2]}") from None
    except OSError as error:
        raise TinyMetaFedError(f"{folder}: cannot be written: {error.strerror}") from None
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            console.print(str(path), soft_wrap=True, highlight=False)
    console.print(f"Go on with: cd {folder} && tinymetafed run pumps.toml", soft_wrap=True)


def _write_schemas(folder: Path) -> None:
    """By which an editor checks the project's files, as their first lines say."""
    from ..experiments import schema

    folder.mkdir()
    for kind in schema.KINDS:
        (folder / f"{kind}.json").write_text(schema.text(kind), "utf-8")
