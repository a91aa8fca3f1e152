"""The runs of a comparison, several side by side, each in a process with nodes of its own."""

import asyncio
import json
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from multiprocessing import util
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from .. import plugins, tasks
from ..errors import TinyMetaFedError
from ..nodes.backends import make_group, private_directory
from ..nodes.process import kill_with_parent
from ..nodes.settings import NodeSettings
from ..results.store import Labels, Run, Store
from ..signals import handlers_restored, interrupt_on_ending
from . import runner
from .comparison import Cell
from .experiment import Experiment
from .moved import placeless
from .round_report import LastJudged

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Called with the index of a run, its rounds done, and what it is doing."""
ENDED = "ended"
"""What a run is doing whose process is gone, whether it came to its end or not."""


class SideBySide(ABC):
    """Work of several kinds that is done by processes of its own.

    Attributes:
        failed: why a piece of work did not come to its end, by its index.
    """

    def __init__(self) -> None:
        self.failed: dict[int, str] = {}

    @property
    @abstractmethod
    def unfinished(self) -> list[int]:
        """Indices of what is to be done."""

    @abstractmethod
    def _name(self, i: int) -> str:
        """Of a piece of work, for a warning."""

    @abstractmethod
    def _work(self, i: int, threads: int) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """What a process does, and its arguments, behind which it gets its end of a pipe; see
        in_a_process."""

    @abstractmethod
    def _look(self) -> None:
        """Looks up what is done."""

    @abstractmethod
    def _done(self, i: int) -> int:
        """How much of a piece of work is done, now that its process has ended."""

    def execute(self, jobs: int, progress: Progress) -> None:
        """Does what is to be done, `jobs` at a time; one that fails leaves the others going.

        SIGINT, SIGTERM and SIGHUP end all of them, with what is done so far stored and the nodes
        closed: KeyboardInterrupt.
        """
        waiting = self.unfinished
        threads = max(1, len(os.sched_getaffinity(0)) // jobs)
        running: dict[Connection, tuple[int, BaseProcess]] = {}
        with _terminated_as_interrupted():
            try:
                while waiting or running:
                    while waiting and len(running) < jobs:
                        i = waiting.pop(0)
                        pipe, process = self._start(i, threads)
                        running[pipe] = (i, process)
                    for pipe in wait(list(running)):
                        assert isinstance(pipe, Connection)
                        i, process = running[pipe]
                        if not self._receive(i, pipe, progress):
                            del running[pipe]
                            pipe.close()
                            self._end(i, process, progress)
            finally:
                for _, process in running.values():
                    process.terminate()
                for _, process in running.values():
                    process.join()
                self._look()

    def _start(self, i: int, threads: int) -> tuple[Connection, BaseProcess]:
        _place_for_sockets()
        # Processes of a server without threads, which has everything imported.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        pipe, end = context.Pipe(duplex=False)
        target, arguments = self._work(i, threads)
        process = context.Process(target=target, args=(*arguments, end), daemon=True)
        with _uninterrupted():  # nor does its server, which else would end while it imports
            process.start()
        end.close()
        return pipe, process

    def _receive(self, i: int, pipe: Connection, progress: Progress) -> bool:
        """What a process says; False where it has ended."""
        try:
            match pipe.recv():
                case "progress", done, doing:
                    progress(i, done, doing)
                case "warning", text:
                    log.warning("%s: %s", self._name(i), text)
                case "failed", text:
                    self.failed[i] = text
        except (EOFError, OSError):  # between two messages, or within one
            return False
        return True

    def _end(self, i: int, process: BaseProcess, progress: Progress) -> None:
        process.join()
        if process.exitcode:
            self.failed.setdefault(i, f"its process ended with status {process.exitcode}")
        progress(i, self._done(i), ENDED)


class Comparison(SideBySide):
    """The runs of a comparison and what the store has of them.

    A run is that of a cell where settings, firmware and versions are the same. Raises
    TinyMetaFedError where the nodes cannot run, or there are no data for them.

    Attributes:
        cells: of the comparison file.
        runs: by cell; None where nothing of it is in the store.
        failed: why a run did not come to its end, by the index of its cell.
    """

    def __init__(self, cells: Sequence[Cell], store: Store) -> None:
        super().__init__()
        self.cells = cells
        self._store = store
        self._identities = identities([cell.experiment for cell in cells])
        self._look()

    def _look(self) -> None:
        self.runs = [self._find(i) for i in range(len(self.cells))]

    def _find(self, i: int) -> Run | None:
        found = self._store.find(**self._identities[i])
        return found or self._find_moved(i)

    def _find_moved(self, i: int) -> Run | None:
        """The run that was begun where the user's own files lay in another folder. One of a class
        of theirs that is not at its end is none: its source is looked for where it was."""
        identity, experiment = self._identities[i], self.cells[i].experiment
        if not plugins.sources(experiment) and getattr(experiment.task, "found", None) is None:
            return None
        keys = ("settings", "versions")
        wanted = [placeless(identity[key]) for key in keys]
        for run in self._store.matching(name=experiment.name, firmware=identity["firmware"]):
            if [placeless(getattr(run, key)) for key in keys] == wanted and (
                run.done >= experiment.rounds or not plugins.sources(experiment)
            ):
                return run
        return None

    @property
    def unfinished(self) -> list[int]:
        """Indices of the cells of which rounds are to be done."""
        pairs = enumerate(zip(self.cells, self.runs, strict=True))
        return [i for i, (cell, run) in pairs if not run or run.done < cell.experiment.rounds]

    def _name(self, i: int) -> str:
        return str(self.cells[i])

    def _work(self, i: int, threads: int) -> tuple[Callable[..., None], tuple[Any, ...]]:
        run = self.runs[i]
        folder = self._store.folder.absolute()
        experiment, labels = self.cells[i].experiment, self._store.labels
        return _run, (experiment, folder, run and run.id, threads, labels)

    def _done(self, i: int) -> int:
        run = self._find(i)
        return run.done if run else 0


def identities(experiments: Iterable[Experiment]) -> list[dict[str, str]]:
    """Of the run of each experiment the columns of the store that tell it from all others.

    Raises TinyMetaFedError where the nodes cannot run, or there are no data for them.
    """
    builds: dict[str, str] = {}
    found: list[dict[str, str]] = []
    for one in experiments:
        kind = one.nodes.model_dump_json()
        if kind not in builds:
            builds[kind] = asyncio.run(_build(one.nodes))
        found.append(
            {
                "settings": one.model_dump_json(),
                "firmware": builds[kind],
                "versions": json.dumps(runner.versions(one)),
            }
        )
    return found


def default_jobs(cells: Sequence[Cell]) -> int:
    """Runs side by side, so that each emulator has a core, and so has a run on the host; a board is
    in one run at a time."""
    settings = [cell.experiment.nodes for cell in cells]
    if any("serial" in nodes.backends for nodes in settings):
        return 1
    emulators = max(
        1, *(sum(kind.count for _, kind in one.fleet if kind.emulated) for one in settings)
    )
    return max(1, len(os.sched_getaffinity(0)) // emulators)


async def _build(settings: NodeSettings) -> str:
    """What a run on such nodes has as its firmware. Raises TinyMetaFedError."""
    kinds = [(group.start, kind) for group, kind in settings.fleet]
    if settings.emulate:
        kinds.append((0, settings.on_qemu))
    with private_directory() as directory:
        nodes = [
            make_group(kind.model_copy(update={"count": 1}), directory, first)[0]
            for first, kind in kinds
        ]
        try:
            for node in nodes:
                await node.start()
        finally:
            for node in nodes:
                await node.close()
    hellos = [node.hello for node in nodes if node.hello is not None]
    if settings.emulate:
        return runner.firmware(settings, hellos[:-1], hellos[-1])
    return runner.firmware(settings, hellos)


def _run(
    experiment: Experiment,
    folder: Path,
    run: int | None,
    threads: int,
    labels: Labels,
    pipe: Connection,
) -> None:
    """In a process: one run, from its start or from where it was."""
    with in_a_process(pipe):
        store = Store(folder)
        store.labels = labels
        before = None if run is None else store.run(str(run))
        judged = LastJudged()

        def progress(done: int, doing: str) -> None:
            pipe.send(("progress", done, f"{doing}{judged}"))

        runner.execute(experiment, store, before, progress, threads, on_round=judged)


@contextmanager
def in_a_process(pipe: Connection) -> Iterator[None]:
    """What a process does that a SideBySide has started; it tells it what goes wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the parent's SIGTERM ends it
    kill_with_parent()
    parent = multiprocessing.parent_process()
    if parent is None or not parent.is_alive():  # it ended before the line above
        sys.exit(1)
    logging.basicConfig(level=logging.WARNING, handlers=[_PipeHandler(pipe)])
    try:
        yield
    except TinyMetaFedError as error:
        pipe.send(("failed", str(error)))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)


class _PipeHandler(logging.Handler):
    """Sends warnings to the parent; but not those of tasks, which it gave when it read the data."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(tasks.__name__):
            self._pipe.send(("warning", record.getMessage()))


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    with handlers_restored():
        interrupt_on_ending()
        yield


@cache
def _place_for_sockets() -> None:
    """Has the sockets between this process and its children in a private folder with a short path,
    as long as this process lives: the folder of TMPDIR may have a path that is too long."""
    folder, before = private_directory(short=True), tempfile.tempdir
    tempfile.tempdir = str(folder.__enter__())
    try:
        util.get_temp_dir()  # remembers it, and removes its part of it when this process ends
        util.Finalize(None, folder.__exit__, (None, None, None), exitpriority=-1000)  # after that
    finally:
        tempfile.tempdir = before


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A process that is started meanwhile never hears of SIGINT."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
