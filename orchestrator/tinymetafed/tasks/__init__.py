"""Tasks: one file each. A new one is a file here and a name in the union below."""

from typing import Annotated

from pydantic import Field

from .base import Task
from .keywords import Keywords
from .omniglot import Omniglot
from .sine import Sine
from .tabular import Tabular

TaskSettings = Annotated[Keywords | Omniglot | Sine | Tabular, Field(discriminator="name")]

__all__ = ["Keywords", "Omniglot", "Sine", "Tabular", "Task", "TaskSettings"]
