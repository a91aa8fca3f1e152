"""One run from its start, or from where it stopped, to its end: nodes, rounds, store."""

import asyncio
import importlib.metadata
import json
import platform
import resource
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF
from types import MappingProxyType
from typing import Any

from .. import plugins
from ..errors import FirmwareFault, TinyMetaFedError
from ..federation.engines import make_engine
from ..federation.federation import Federation
from ..federation.state import FederationState
from ..link import Hello
from ..models.model import FirstWeights
from ..nodes import renode_console
from ..nodes.backends import image_checksum, private_directory
from ..nodes.recording import FrameRecorder
from ..nodes.settings import NodeSettings
from ..results.schema import RESUMABLE
from ..results.store import DeviceEvaluation, Run, Store
from ..signals import ending, handlers_restored
from ..strategies import ServerState
from .emulated_rounds import EmulatedSample
from .experiment import Experiment
from .round_report import RoundReport

Started = Callable[[Callable[[], object]], None]
OnRound = Callable[[RoundReport], None]
Progress = Callable[[int, str], None]
"""Called with the rounds done and what is being done now."""


@dataclass
class TimeProfile:
    """Where the time of a run went, in seconds: wall time, and the processors' time that the
    orchestrator's own process had in its code (user) and in the kernel for it (system), and that
    the emulators had. The rest of the wall time the orchestrator was waiting for emulators."""

    wall: float = 0.0
    user: float = 0.0
    system: float = 0.0
    emulators: float = 0.0

    def __add__(self, other: "TimeProfile") -> "TimeProfile":
        return TimeProfile(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "TimeProfile") -> "TimeProfile":
        return self + TimeProfile(*(-value for value in astuple(other)))

    @classmethod
    def now(cls) -> "TimeProfile":
        """The clocks; the emulators' only of those that have ended."""
        own, children = (resource.getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
        return cls(
            time.perf_counter(), own.ru_utime, own.ru_stime, children.ru_utime + children.ru_stime
        )


def execute(
    experiment: Experiment,
    store: Store,
    run: Run | None,
    progress: Progress,
    threads: int | None = None,
    frames: Path | None = None,
    on_round: OnRound | None = None,
    started: Started | None = None,
) -> tuple[Run, TimeProfile]:
    """Runs the experiment, or goes on with `run`, and returns what the store holds then. An
    experiment with more rounds than the run adds them; see extension.py.

    threads: for the work of host nodes; one for each processor where not given. frames: a file for
    every frame of these rounds, see FrameRecorder. on_round: called with each round when it is in
    the store; the run ends there where its report is stopped.

    SIGINT, SIGTERM and SIGHUP end it between two awaits, with the rounds done so far in the store
    and the nodes closed: KeyboardInterrupt. A thread that is not the main one hears of no signal:
    there `started` is called with what ends it in the same way. Raises TinyMetaFedError.
    """
    before = TimeProfile.now()
    work = partial(_execute, experiment, store, run, progress, threads, frames, on_round)
    try:
        with nullcontext() if started else handlers_restored(), plugins.blaming():
            run = asyncio.run(_until_ended(work, started))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    return run, TimeProfile.now() - before


async def _until_ended(
    work: Callable[[], Coroutine[Any, Any, Run]],
    started: Started | None,
) -> Run:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    if started is not None:
        started(lambda: loop.call_soon_threadsafe(task.cancel))
    else:
        for number in ending():
            loop.add_signal_handler(number, task.cancel)
    return await work()


async def _execute(
    experiment: Experiment,
    store: Store,
    run: Run | None,
    progress: Progress,
    threads: int | None,
    frames: Path | None,
    on_round: OnRound | None,
) -> Run:
    if run is not None:
        plugins.check_unchanged(run.id, run.versions)
        backbone = store.backbone(run.id).tobytes()
        experiment = experiment.starting_with(FirstWeights(backbone=backbone))
    with ExitStack() as resources:
        recorder = None if frames is None else resources.enter_context(FrameRecorder(frames))
        directory = resources.enter_context(private_directory())
        engine = make_engine(experiment, directory, threads, recorder)
        federation = Federation(experiment, engine)
        sample = EmulatedSample.of(experiment, directory) if experiment.nodes.emulate else None
        progress(run.done if run else 0, f"booting {experiment.nodes.count} nodes")
        try:
            state = await federation.start()
            if sample is not None:
                await sample.start()
            return await _rounds(
                experiment, federation, state, sample, store, run, progress, on_round
            )
        except FirmwareFault as error:
            if not experiment.faults.tolerate:
                raise
            raise TinyMetaFedError(str(error)) from None
        finally:
            await federation.close()
            if sample is not None:
                await sample.close()


async def _rounds(
    experiment: Experiment,
    federation: Federation,
    state: FederationState,
    sample: EmulatedSample | None,
    store: Store,
    run: Run | None,
    progress: Progress,
    on_round: OnRound | None,
) -> Run:
    hellos = federation.engine.hellos
    build = firmware(experiment.nodes, hellos, sample and sample.nodes[0].hello)
    clock = time.perf_counter()

    def lap() -> float:
        nonlocal clock
        before, clock = clock, time.perf_counter()
        return clock - before

    if run is None:
        progress(0, "evaluating before training")
        evaluations = await federation.judge(state)
        run = begin(experiment, federation, state, evaluations, store, build, lap)
    else:
        if run.schema < RESUMABLE:
            raise TinyMetaFedError(
                f"run {run.id} was begun with {run.made_by}, which did not store all that its "
                "nodes need to go on; run the experiment again"
            )
        if not same_firmware(run.firmware, build):
            raise TinyMetaFedError(
                f"run {run.id} was begun with another build of the firmware ({run.firmware}, now "
                f"{build}); its weights would not be those of one run"
            )
        server = ServerState(run.weights, store.server_state(run.id))
        state = FederationState.start(server, run.done, store.kept(run.id), run.changes)
        last = store.last_rounds(run.id)
        left_out = {(one.round, one.node) for one in store.events(run.id, "left out")}
        state = await federation.resume(state, last, left_out)
        if sample is not None:
            sample.last |= last
    with store.going_on(run.id):
        if experiment.rounds != run.rounds:
            store.extend(run, experiment.rounds)
        try:
            await _train(experiment, federation, state, sample, store, run, progress, lap, on_round)
        except TinyMetaFedError:
            events = federation.take_events() + (sample.take_events() if sample else [])
            with suppress(TinyMetaFedError, sqlite3.Error):  # the store may be why
                store.add_events(run.id, events)
            raise
    return store.run(str(run.id))


def begin(
    experiment: Experiment,
    federation: Federation,
    state: FederationState,
    evaluations: Sequence[DeviceEvaluation],
    store: Store,
    build: str,
    lap: Callable[[], float],
    more_versions: Mapping[str, str] = MappingProxyType({}),
) -> Run:
    """The row of a run that is before its first round. evaluations: of that state. build: see
    firmware. lap: seconds that it took. more_versions: besides those of every run."""
    unseen = experiment.devices_of("unseen")
    if unseen and experiment.task.target_is_class:  # what is wrong is said before the training
        federation.engine.client.class_names(unseen[0])
    return store.create(
        evaluations,
        state.server.kept,
        federation.model.backbone,
        federation.take_events(),
        plugins.sources(experiment),
        name=experiment.name,
        # Also those of a strategy that is an object of the caller's own, and in no union.
        settings=experiment.model_dump_json(serialize_as_any=True, warnings=False),
        seed=experiment.seed,
        backend="+".join(map(plugins.short, experiment.nodes.backends)),
        versions=json.dumps({**versions(experiment), **more_versions}),
        firmware=build,
        memory=federation.engine.memory,
        rounds=experiment.rounds,
        seconds=lap(),
        theta=state.theta.astype("<f4").tobytes(),
        changed=state.broadcast.changed.astype("<i4").tobytes(),
    )


async def _train(
    experiment: Experiment,
    federation: Federation,
    state: FederationState,
    sample: EmulatedSample | None,
    store: Store,
    run: Run,
    progress: Progress,
    lap: Callable[[], float],
    on_round: OnRound | None,
) -> None:
    """The rounds that are left, or until one is stopped at."""
    while state.done < experiment.rounds:
        progress(state.done, "training")
        before = state
        result = await federation.round(before)
        if sample is not None:
            result = await sample.follow(before, result)
        state = result.state
        if experiment.judged_after(state.done):
            progress(state.done, "evaluating")
        evaluations = await federation.judge(state)
        kept = {i: one for i, one in state.kept.items() if one is not before.kept.get(i)}
        events, seconds = [*result.events, *federation.take_events()], lap()
        store.commit(
            run.id, state.done, state.theta, state.broadcast.changed, seconds, result.rows,
            evaluations, result.phases, kept, state.server.kept, events, result.measured,
        )  # fmt: skip
        if on_round is not None:
            report = RoundReport(
                run.id, state.done, experiment.rounds, state.theta, tuple(result.rows),
                tuple(evaluations), tuple(events), seconds, experiment.task.target_is_class,
            )  # fmt: skip
            on_round(report)
            lap()  # what the caller does meanwhile is no part of the run
            if report.stopped:
                return
        await _hear_signals()
    progress(state.done, "done")


async def _hear_signals() -> None:
    """Lets a signal end the run between two rounds, also where nothing else is waited for. The loop
    takes a pass each to hear of it, to call its handler, and to cancel the task."""
    for _ in range(3):
        await asyncio.sleep(0)


def firmware(settings: NodeSettings, hellos: Sequence[Hello], emulated: Hello | None = None) -> str:
    """Version and build of what started nodes run by the hello of one of each group, as JSON, with
    the SHA-256 of an emulated node's image; and the build and image of the emulated ones that play
    a sample of the rounds. Raises TinyMetaFedError."""
    groups = [
        _build(hello, image_checksum(kind))
        for hello, (_, kind) in zip(hellos, settings.fleet, strict=True)
    ]
    found = groups[0] if len(groups) == 1 else {"groups": groups}
    if emulated is not None:
        found |= {"emulated": emulated.build.hex(), "image": image_checksum(settings.on_qemu)}
    return json.dumps(found)


def _build(hello: Hello, image: str | None) -> dict[str, Any]:
    found = {"version": hello.version, "build": hello.build.hex()}
    return found if image is None else found | {"image": image}


def same_firmware(one: str, other: str) -> bool:
    """Whether these are of the same firmware, as far as both tell: a run of an earlier version has
    no image's SHA-256."""
    first, second = json.loads(one), json.loads(other)
    return all(first[key] == second[key] for key in first.keys() & second.keys())


def versions(experiment: Experiment) -> dict[str, str]:
    """Of what can change a run's result; of data, checksums and what is in which part; of users'
    classes, the checksum of their source."""
    found = {"python": platform.python_version()}
    for package in ("tinymetafed", "numpy", "cbor2", "cobs"):
        found[package] = importlib.metadata.version(package)
    used = ["qemu"] if experiment.nodes.emulate else experiment.nodes.backends
    emulators = {"qemu": shutil.which("qemu-system-arm"), "renode": renode_console.program()}
    for backend in emulators.keys() & used:
        if (emulator := emulators[backend]) is None:
            continue
        output = subprocess.run(
            [emulator, "--version"], capture_output=True, text=True, check=False
        ).stdout
        found[backend] = output.partition("\n")[0].removeprefix("QEMU emulator version ")
    found |= {plugins.SOURCE + one.name: one.version for one in plugins.sources(experiment)}
    return found | experiment.task.prepare(experiment.seed)
