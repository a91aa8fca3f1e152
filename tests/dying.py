"""What workers do that die at work. Of the standard library alone, which any process has."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any


def double_or_die(marker: Path, number: int) -> int:
    """Dies of the 2, once."""
    if number == 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def once(function: Callable[..., Any], marker: Path) -> Callable[..., Any]:
    """The function, but for its first call, which dies."""

    def call(*arguments: Any) -> Any:
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)

    return call


def always_die(common: object, number: int) -> int:
    """Never returns."""
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail(common: object, number: int) -> int:
    """Raises what no worker should."""
    raise ZeroDivisionError(f"number {number}")
