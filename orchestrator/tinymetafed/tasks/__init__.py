"""Tasks: one file each. A new one is a file here and a name in the union below. A user's own needs
neither: plugins.py."""

from typing import Annotated

from pydantic import Field

from .base import OWN, Task
from .keywords import Keywords
from .omniglot import Omniglot
from .own import Audio, Images, Signals, Table
from .sine import Sine
from .tabular import Tabular

OwnTask = Audio | Images | Signals | Table
TaskSettings = Annotated[
    Keywords | Omniglot | Sine | Tabular | OwnTask, Field(discriminator="name"), OWN
]

__all__ = [
    "Audio", "Images", "Keywords", "Omniglot", "Signals", "Sine", "Table", "Tabular", "Task",
    "TaskSettings",
]  # fmt: skip
