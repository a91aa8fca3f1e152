"""Where the data of an experiment's task lie: in files that it names from its own folder."""

from pathlib import Path
from typing import Any

from .. import plugins, settings
from ..errors import TinyMetaFedError
from ..tasks import TaskSettings


class _Table(settings.Settings):
    task: TaskSettings


def expand(tree: dict[str, Any], origin: str, folder: Path) -> dict[str, Any]:
    """The experiment with what its task has to know of these files: see Task.resolved.

    folder: of the experiment's file. Raises TinyMetaFedError that names `origin` and the key, or
    the file and its line.
    """
    table = tree.get("task")
    if not isinstance(table, dict):
        return tree
    if "found" in table:
        raise TinyMetaFedError(f"{origin}: task.found: a run's row has it; leave it out")
    try:
        with plugins.blaming():
            task = settings.check(_Table, {"task": table}, origin, folder).task
    except TinyMetaFedError:
        return tree  # the whole experiment's check says this, and what else is wrong
    try:
        with plugins.blaming():
            resolved = task.resolved(folder)
    except TinyMetaFedError as error:
        text = str(error)
        raise TinyMetaFedError(f"{origin}: {text}" if text.startswith("task.") else text) from None
    return tree if resolved is task else tree | {"task": resolved}
