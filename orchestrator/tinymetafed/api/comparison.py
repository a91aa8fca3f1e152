"""What the runs of a comparison came to, as tables."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..experiments import comparison as files
from ..experiments.scheduler import Comparison as Runs
from ..plugins import blaming
from ..report.comparison import RunState, Value, outcome
from ..report.over_seeds import Result, UntilTarget
from ..results.store import Store
from .outside import outside_loop
from .result import frame

if TYPE_CHECKING:
    from pandas import DataFrame


class Comparison:
    """The runs of a comparison file that are in a store; `tinymetafed compare` makes them.

    Attributes:
        baseline: label of the strategy that the others are compared with.
        no_federation: what devices are served worse than: the label of the strategy `local`, or
            "the first weights".

    Tables are pandas' (`pip install 'tinymetafed[pandas]'`). Raises TinyMetaFedError.
    """

    def __init__(self, file: Path, folder: Path, baseline: str | None) -> None:
        with blaming():
            settings, cells = files.read(file)
            settings = settings.beside(baseline)
            store = Store(folder, read_only=True)
            try:
                runs = outside_loop(lambda: Runs(cells, store))
                self._found = outcome(settings, runs, store)
            finally:
                store.close()
        self.baseline, self.no_federation = self._found.baseline, self._found.no_federation

    @property
    def runs(self) -> "DataFrame":
        """By `task`, `strategy` and `seed`: the number of the run, NaN where there is none, and
        its rounds."""
        found = frame(RunState, self._found.runs, "task", "strategy", "seed")
        return found.drop(columns="failed")  # that is known while they are made

    @property
    def values(self) -> "DataFrame":
        """By `task`, `strategy`, `seed`, `device`, `radio` and `quantity`: value, and whether it
        is censored."""
        where = "task", "strategy", "seed", "device", "radio", "quantity"
        return frame(Value, self._found.values, *where)

    @property
    def results(self) -> "DataFrame":
        """The same over the seeds, by all but these: mean, difference and ratio to the baseline,
        each with the bounds of its interval: docs/statistics.md."""
        where = "task", "strategy", "device", "radio", "quantity"
        return frame(Result, self._found.results, *where)

    @property
    def until_target(self) -> "DataFrame":
        """What it took to reach the target, by the same: how many runs did, and the median."""
        where = "task", "strategy", "device", "radio", "quantity"
        return frame(UntilTarget, self._found.until_target, *where)
