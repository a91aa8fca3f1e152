"""A comparison as it was played last, which the store keeps: so its runs are shown under its labels
where its file is not at hand."""

import json
from contextlib import suppress

from pydantic import ValidationError

from ..results.store import Store
from .comparison import Cell, ComparisonSettings
from .experiment import Experiment


def remember(store: Store, settings: ComparisonSettings, cells: list[Cell]) -> None:
    """Keeps it in the place of an earlier one of its name. Raises TinyMetaFedError."""
    rows = [(one.task, one.strategy, one.experiment.model_dump_json()) for one in cells]
    # What the file does not say is not checked as if it did.
    store.put_comparison(
        settings.name, settings.model_dump_json(exclude_unset=True), json.dumps(rows)
    )


def recall(store: Store, name: str) -> tuple[ComparisonSettings, list[Cell]] | None:
    """The one of that name; None where there is none, or none that this version can read. Raises
    TinyMetaFedError."""
    found = store.comparison(name)
    if found is None:
        return None
    with suppress(ValidationError):
        settings = ComparisonSettings.model_validate_json(found[0])
        rows = json.loads(found[1])
        return settings, [
            Cell(task, strategy, Experiment.model_validate_json(text))
            for task, strategy, text in rows
        ]
    return None
