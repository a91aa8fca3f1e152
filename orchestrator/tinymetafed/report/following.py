"""What a page is made of: runs of the store, read again while they go on."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, replace

from ..errors import TinyMetaFedError, printable
from ..experiments import comparison
from ..experiments.comparison import Cell, ComparisonSettings
from ..experiments.remembered import recall
from ..results.store import Run, Store
from . import compared, page
from .groups import TaskRuns, compare
from .page import Page
from .results import Result

log = logging.getLogger(__name__)

PAUSE = 2.0
"""Seconds between two looks into the store."""
LEAST = 10.0
"""Seconds between two pages."""


class Source:
    """The runs, or the comparison, that a user has named.

    Raises TinyMetaFedError where there are no such runs, or the file is no comparison.
    """

    def __init__(
        self,
        store: Store,
        which: Sequence[str],
        baseline: str | None = None,
        target: float | None = None,
    ) -> None:
        self._store, self._which = store, which
        self._baseline, self._target = baseline, target
        self._known: dict[int, tuple[object, Result | None]] = {}
        self._settings: ComparisonSettings | None = None
        self._cells: list[Cell] = []
        self._runs: list[Run | None] = []
        self._warned = False
        path = compared.file(which)
        found = None if path is None else comparison.read(path)
        if path is None or path.name == f"{which[0]}.toml":
            # A comparison's name may be that of other runs, too.
            kept = recall(store, which[0]) if len(which) == 1 else None
            known = (one for one in (kept, found) if one and any(compared.find(one[1], store)))
            found = next(known, None)
        if found is not None:
            self._settings, self._cells = found
            if target is not None:
                raise TinyMetaFedError("--target: the comparison has a target for each task")

    @classmethod
    def of_comparison(
        cls,
        store: Store,
        settings: ComparisonSettings,
        cells: Sequence[Cell],
        baseline: str | None = None,
    ) -> "Source":
        """Of one that has been read already."""
        found = cls(store, [], baseline)
        found._settings, found._cells = settings, list(cells)
        return found

    @property
    def going_on(self) -> bool:
        """Whether rounds are to be done, as of the last reading."""
        return any(run is None or run.done < run.rounds for run in self._runs)

    def read(self, *, going_on: bool = False) -> Page:
        """The page of the runs as they are now. going_on: runs of the same settings belong together
        however many rounds they have done. Raises TinyMetaFedError where no run can be shown."""
        with self._store.snapshot():
            settings = self._settings
            if settings is None:
                self._runs = list(self._named())
                results = [one for run in self._runs if run and (one := self._result(run))]
                tasks = compare(results, self._target, going_on=going_on) if results else []
                title, prices = "", []
            else:
                self._runs = compared.find(self._cells, self._store)
                tasks = compared.tasks(settings, self._cells, self._runs, self._result)
                results = []
                title = settings.name
                prices = [
                    (str(one), str(other)) for one in settings.devices for other in settings.radios
                ]
            for task in tasks:
                compared.against_no_federation(self._store, task)
        if not tasks:
            raise TinyMetaFedError(
                "none of these runs can be shown on a page" if settings is None else
                f"the store has no run of the comparison {settings.name} yet"
            )  # fmt: skip
        found = page.page(tasks, title, prices, self._beside(tasks), results)
        if settings is not None:
            self._warn_of_absent(settings, found)
            there = {part.name for part in found.tasks}
            absent = [task.label for task in settings.tasks if task.label not in there]
            found = replace(found, absent=absent, tuned=settings.tuned)
        return found

    def _beside(self, tasks: Sequence[TaskRuns]) -> str | None:
        """What others are compared with at first; None where it is not said, or has no run. Raises
        TinyMetaFedError where a user asks for one that has none."""
        asked, settings = self._baseline, self._settings
        there = list(dict.fromkeys(group.label for task in tasks for group in task.groups))
        if settings is None:
            return asked
        if asked is None:
            return settings.compared_with if settings.compared_with in there else None
        settings.beside(asked)
        if asked not in there:
            raise TinyMetaFedError(
                f"--baseline {printable(asked)}: it has no run in the store yet; there are: "
                f"{', '.join(there)}"
            )
        return asked

    def _warn_of_absent(self, settings: ComparisonSettings, found: Page) -> None:
        """Once, of what has no run, and where that is the baseline."""
        absent = list(compared.not_run(settings, self._cells, self._runs))
        text = f"these have no run: {'; '.join(absent)}"
        wanted = settings.compared_with
        if self._baseline is None and found.baseline != wanted:
            text += f". The page compares with {found.baseline}, not with the baseline, {wanted}"
        if absent and not self._warned:
            log.warning("comparison %s: %s", settings.name, text)
            self._warned = True

    def _named(self) -> list[Run]:
        """Raises TinyMetaFedError where there are none, which names comparisons, too."""
        try:
            return self._store.named(self._which)
        except TinyMetaFedError as error:
            known = ", ".join(self._store.comparisons())
            raise TinyMetaFedError(f"{error}; comparisons: {known}" if known else error) from None

    def _result(self, run: Run) -> Result | None:
        """None, with a warning, where it cannot be shown."""
        seen = astuple(run)
        known = self._known.get(run.id)
        if known is None or known[0] != seen:
            devices = self._settings.devices if self._settings else ()
            radios = self._settings.radios if self._settings else ()
            found: Result | None = None
            try:
                found = Result.read(self._store, run, devices, radios)
            except TinyMetaFedError as error:
                log.warning("%s; it is not on the page", error)
            known = self._known[run.id] = (seen, found)
        return known[1]

    def changes(self) -> Iterator[Page]:
        """The page each time that the store has more of the runs, until all have come to their
        end."""
        written = time.monotonic()
        while self.going_on:
            before = self._state(self._runs)
            time.sleep(PAUSE)
            now = compared.find(self._cells, self._store) if self._settings else self._named()
            ended = not any(run is None or run.done < run.rounds for run in now)
            if self._state(now) != before and (ended or time.monotonic() >= written + LEAST):
                yield self.read(going_on=True)
                written = time.monotonic()

    @staticmethod
    def _state(runs: Sequence[Run | None]) -> list[tuple[int, int] | None]:
        return [run and (run.id, run.done) for run in runs]
