"""Rounds in TensorBoard's format, from the callback of the public API:

with TensorBoard("log") as board:
    tinymetafed.run("demo", on_round=board)
"""

from collections.abc import Callable, Sequence
from itertools import product
from os import PathLike
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any, Self

from .errors import TinyMetaFedError, without_extra
from .experiments.round_report import RoundReport
from .files import reporting


class TensorBoard:
    """Writes scalars by round to a folder for each run, run-1 and so on; a run that goes on adds to
    its own.

    loss and accuracy before and after adaptation are means over devices for validation, of those
    where it did not diverge, after rounds that were judged; unseen_loss and unseen_accuracy those
    over unseen devices, after the last round; bytes those of all nodes in a round. Raises
    TinyMetaFedError where tensorboardX is not installed, the folder cannot be written, or has the
    rounds of another store.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise without_extra("logging for TensorBoard", "tensorboard", error) from None
        self._open: Callable[..., Any] = SummaryWriter
        self.folder = Path(folder)
        with reporting(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._writers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __call__(self, report: RoundReport) -> None:
        """Adds a round."""
        writer = self._writer(report)
        values = {
            "bytes/down": float(report.bytes_down),
            "bytes/up": float(report.bytes_up),
            "seconds": report.seconds,
        }
        measures = ("loss", "accuracy") if report.has_classes else ("loss",)
        for measure in measures:
            for part, when in product(("validation", "unseen"), ("before", "after")):
                judged = [one for one in report.evaluations if one.part == part]
                every = [getattr(one, f"{measure}_{when}") for one in judged]
                name = measure if part == "validation" else f"unseen_{measure}"
                values |= {f"{name}/{when}_adaptation": mean for mean in _mean(every)}
        for name, value in values.items():
            writer.add_scalar(name, value, report.number)
        writer.flush()

    def close(self) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, report: RoundReport) -> Any:
        if report.run not in self._writers:
            path = self.folder / f"run-{report.run}"
            if report.number == 1 and path.exists():
                raise TinyMetaFedError(
                    f"{path}: has the rounds of another store's run {report.run}; give another "
                    "folder"
                )
            with reporting(path):
                # Its name is else that of another file of the same second.
                self._writers[report.run] = self._open(
                    str(path), filename_suffix=f".{report.number}"
                )
        return self._writers[report.run]


def _mean(values: Sequence[float | None]) -> Sequence[float]:
    known = [value for value in values if value is not None]
    return [fmean(known)] if known else []
