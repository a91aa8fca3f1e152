"""What workers do that die at work. Of the standard library alone, which any process has."""

import os
import signal
from pathlib import Path


def double_or_die(marker: Path, number: int) -> int:
    """Dies of the 2, once."""
    if number == 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def always_die(common: object, number: int) -> int:
    """Never returns."""
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail(common: object, number: int) -> int:
    """Raises what no worker should."""
    raise ZeroDivisionError(f"number {number}")
