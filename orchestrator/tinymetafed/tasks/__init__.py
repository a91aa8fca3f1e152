"""Tasks: one file each. A new one is a file here and a name in the union below."""

from typing import Annotated

from pydantic import Field

from .base import Task
from .keywords import Keywords
from .omniglot import Omniglot
from .own import Audio, Images, Signals, Table
from .sine import Sine
from .tabular import Tabular

OwnTask = Audio | Images | Signals | Table
TaskSettings = Annotated[
    Keywords | Omniglot | Sine | Tabular | OwnTask, Field(discriminator="name")
]

__all__ = [
    "Audio", "Images", "Keywords", "Omniglot", "Signals", "Sine", "Table", "Tabular", "Task",
    "TaskSettings",
]  # fmt: skip
