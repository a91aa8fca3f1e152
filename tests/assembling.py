"""Programs for the emulated processor, written in assembly for a test."""

from collections.abc import Callable
from pathlib import Path

Assemble = Callable[[str], bytes]
MakeProgram = Callable[[str], Path]


def function(name: str, *body: str) -> str:
    """A global function of that name, at a multiple of four."""
    head = (".balign 4", f".global {name}", f".type {name}, %function", f"{name}:")
    return "\n".join((*head, *body, f".size {name}, . - {name}", ""))
