"""What the measurements share: an experiment to vary, medians, the machine."""

import os
import platform
import statistics
from collections.abc import Iterable
from pathlib import Path

from ..experiments.experiment import Experiment, read
from ..places import EXPERIMENTS

REPEATS = 7  # of what a median is of


def sine(*changes: str) -> Experiment:
    """experiments/demo.toml with changes: 1-40-40-1 with tanh, 1,761 parameters."""
    return read(EXPERIMENTS / "demo.toml", changes)


def median(values: Iterable[float]) -> float:
    """Of the repeats."""
    return statistics.median(values)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    processor = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(": ")[2]
            break
    return {
        "processor": processor,
        "cores": str(len(os.sched_getaffinity(0))),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "system": platform.platform(),
        "python": platform.python_version(),
    }
