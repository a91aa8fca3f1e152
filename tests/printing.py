"""What is printed, as text."""

from rich.console import Console, RenderableType


def printed(*parts: RenderableType) -> str:
    """On a wide terminal without colours."""
    console = Console(width=160)
    with console.capture() as capture:
        console.print(*parts)
    return capture.get()
