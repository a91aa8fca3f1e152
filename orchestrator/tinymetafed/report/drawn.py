"""Whether the figure of a run is there: to draw it takes longer than all else that is shown."""

import hashlib
from dataclasses import astuple
from pathlib import Path

from ..results.store import Run, Store

HEAD = 1024
"""Bytes of the file in which its mark is."""


def path(store: Store, run: Run) -> Path:
    """Of the figure, in the store's folder."""
    return store.folder / f"{run.id}-{run.name}.png"


def mark(run: Run) -> str:
    """What a figure of the run as it is now is marked with, drawn by today's code."""
    code = Path(__file__).with_name("figure.py").read_bytes()
    return hashlib.sha256(code + repr(astuple(run)).encode()).hexdigest()


def find(store: Store, run: Run) -> Path | None:
    """The figure, where there is one of the run as it is now."""
    file = path(store, run)
    try:
        with file.open("rb") as opened:
            return file if mark(run).encode() in opened.read(HEAD) else None
    except OSError:
        return None
