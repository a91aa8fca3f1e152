"""Tasks: one device's learning problem each. A new task is a file here and a line below."""

from .sine import Sine

TaskSettings = Sine  # with a second task: Annotated[Sine | Other, Field(discriminator="name")]

__all__ = ["Sine", "TaskSettings"]
