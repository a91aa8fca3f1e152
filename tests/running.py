"""A run without the command line."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinymetafed import runner
from tinymetafed.experiment import Experiment
from tinymetafed.store import Run, Store


def execute(experiment: Experiment, folder: Path) -> tuple[Store, Run]:
    """Runs the experiment into a store in `folder`."""
    store = Store(folder)
    run, _ = runner.execute(experiment, store, None, lambda done, doing: None)
    return store, run


def weights(experiment: Experiment, folder: Path) -> NDArray[np.uint32]:
    """The bits of the weights that the experiment ends with."""
    _, run = execute(experiment, folder)
    return run.weights.view(np.uint32)
