# pyright: reportMissingImports=false
"""The nodes of an experiment at the work that Flower gives to them, and the store of it."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import plugins
from ..api.result import Result
from ..errors import TinyMetaFedError
from ..experiments import runner
from ..experiments.experiment import Experiment
from ..federation.client import FitInstructions
from ..federation.engines import RoundOrder, make_engine
from ..federation.federation import Federation, RoundResult, node_row, phase_counts
from ..federation.state import FederationState
from ..nodes.folder import private_directory
from ..results.store import DeviceEvaluation, Store
from ..strategies import ServerState


@dataclass(frozen=True)
class Answer:
    """delta: float32 [parameters], zero where nothing was sent. metrics: for Flower, which weighs
    by "num-examples"."""

    delta: NDArray[np.float32]
    metrics: dict[str, int | float]


class Nodes:
    """They have a thread with a loop of its own, and boot with the first message.

    A round is in the store as soon as the weights after it are known: with the first message of
    the next one, or that asks for an evaluation.
    """

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        """folder: of the store. Raises TinyMetaFedError."""
        self.experiment, self.folder = experiment, folder
        _check(experiment)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._starting = threading.Lock()
        self._resources = ExitStack()
        self._server: _Server | None = None
        self._closed = False

    @property
    def result(self) -> Result:
        """The run in the store. Raises TinyMetaFedError where it has not begun."""
        if self._server is None or self._server.run is None:
            raise TinyMetaFedError("the run has not begun: no client has been sent any weights")
        return Result(self.folder, self._server.run)

    def ask(self, what: str, node: int, number: int, theta: NDArray[np.float32]) -> Answer:
        """What a node comes to that trains in round `number`, from 1, on these weights; or, for
        "evaluate", that judges the weights after it. In any thread. Raises TinyMetaFedError."""
        with self._starting:
            if self._closed:
                raise TinyMetaFedError("the nodes of this app have ended")
            if not self._thread.is_alive():
                self._thread.start()
            server = self._server = self._server or self._do(self._start())
        return self._do(server.ask(what, node, number, theta))

    def close(self) -> None:
        """Ends the nodes."""
        with self._starting:
            if self._closed:
                return
            self._closed = True
            if self._thread.is_alive():
                if self._server is not None:
                    self._do(self._server.close())
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
            self._loop.close()
            self._resources.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _start(self) -> "_Server":
        directory = self._resources.enter_context(private_directory())
        with plugins.blaming():
            return await _Server.start(self.experiment, self.folder, directory)


class _Server:
    """All of it, in the loop."""

    def __init__(self, experiment: Experiment, store: Store, federation: Federation) -> None:
        self.run: int | None = None
        self._experiment, self._store, self._federation = experiment, store, federation
        self._state: FederationState | None = None
        self._judged: dict[int, list[DeviceEvaluation]] = {}
        self._done: dict[int, RoundResult | None] = {}  # by node, of the round under way
        self._lock = asyncio.Lock()
        self._clock = time.perf_counter()

    @classmethod
    async def start(cls, experiment: Experiment, folder: Path, directory: Path) -> "_Server":
        """Boots the nodes."""
        experiment.task.prepare(experiment.seed)
        federation = Federation(experiment, make_engine(experiment, directory))
        store = Store(folder)
        try:
            await federation.start()
        except BaseException:
            await federation.close()
            store.close()
            raise
        return cls(experiment, store, federation)

    async def close(self) -> None:
        await self._federation.close()
        self._store.close()

    async def ask(self, what: str, node: int, number: int, theta: NDArray[np.float32]) -> Answer:
        """See Nodes."""
        count, parameters = self._experiment.nodes.count, self._federation.model.parameters
        if not 0 <= node < count:
            raise TinyMetaFedError(
                f"nodes.count: the experiment has nodes 0 to {count - 1}, and Flower a client "
                f"{node}; give both the same number"
            )
        if theta.shape != (parameters,) or not np.isfinite(theta).all():
            raise TinyMetaFedError(
                f"Flower's weights are not {parameters} finite numbers, but of shape {theta.shape}"
            )
        with plugins.blaming():
            if what == "train":
                return await self._train(node, number, theta)
            return await self._evaluate(node, number, theta)

    async def _train(self, node: int, number: int, theta: NDArray[np.float32]) -> Answer:
        async with self._lock:
            state = await self._reach(number - 1, theta, judge=False)
            if node in self._done:
                raise TinyMetaFedError(f"node {node} has been in round {number} already")
            self._done[node] = None
        federation = self._federation
        program = federation.program(state)
        device = dict(zip(*federation.select(state.done), strict=True))[node]
        order = RoundOrder([node], program, state.broadcast, [FitInstructions(device)])
        [result] = await federation.engine.fit(order)
        row = node_row(number, node, device, result.usage, result)
        phases = list(phase_counts(number, node, result.usage))
        self._done[node] = RoundResult(state, [row], phases, [])
        delta = np.zeros(len(theta), np.float32)
        if result.update is None:
            raise TinyMetaFedError(
                f"round {number}: training of device {device} on node-{node} diverged"
            )
        delta[result.update.indices] = result.update.values
        return Answer(delta, {
            "num-examples": result.update.samples,
            "bytes-down": row.bytes_down, "bytes-up": row.bytes_up,
        })  # fmt: skip

    async def _evaluate(self, node: int, number: int, theta: NDArray[np.float32]) -> Answer:
        async with self._lock:
            await self._reach(number, theta, judge=True)
        rows = [one for one in self._judged[number] if one.part == "validation"]
        count = self._experiment.nodes.count
        if not rows:
            raise TinyMetaFedError("evaluation.devices: 0, and Flower has some judged; give more")
        mine = rows[node % len(rows) :: count]
        known = [one for one in mine if one.loss_after is not None]
        if not known:
            raise TinyMetaFedError(f"after round {number} adaptation diverged on node-{node}")
        metrics: dict[str, int | float] = {
            "num-examples": len(known) * self._experiment.evaluation.query
        }
        for name in ("loss_before", "loss_after", "accuracy_before", "accuracy_after"):
            if name.startswith("loss") or self._experiment.task.target_is_class:
                values = [float(getattr(one, name)) for one in known]
                metrics[name.replace("_", "-")] = fmean(values)
        return Answer(np.zeros(0, np.float32), metrics)

    async def _reach(
        self, done: int, theta: NDArray[np.float32], *, judge: bool
    ) -> FederationState:
        """The state after `done` rounds, whose weights these are. judge: it is to be evaluated,
        although the experiment may not say so."""
        state = self._state
        if state is None:
            if done:
                raise TinyMetaFedError(f"Flower begins with round {done + 1}, not with the first")
            self._state = state = await self._begin(theta)
        if done == state.done + 1:
            self._state = state = await self._commit(state, theta)
        if done != state.done:
            raise TinyMetaFedError(
                f"Flower is after round {done}, the nodes are after round {state.done}: a round "
                "without any of them"
            )
        if state.theta.tobytes() != theta.tobytes():
            raise TinyMetaFedError(
                f"after round {done} Flower sends other weights than before; they have to be the "
                "same for all nodes"
            )
        if judge and done not in self._judged:
            validation = self._experiment.devices_of("validation")
            self._judged[done] = await self._federation.evaluate(state, validation)
            if self.run is not None:
                self._store.add_evaluations(self.run, self._judged[done])
        return state

    async def _begin(self, theta: NDArray[np.float32]) -> FederationState:
        experiment, federation = self._experiment, self._federation
        state = federation.state_of(theta)
        self._judged[0] = await federation.judge(state)
        build = runner.firmware(experiment.nodes, federation.engine.hellos)
        run = runner.begin(
            experiment, federation, state, self._judged[0], self._store, build, self._lap, _flower()
        )
        self.run = run.id
        return state

    async def _commit(self, before: FederationState, theta: NDArray[np.float32]) -> FederationState:
        """The state after the round under way, which is in the store."""
        assert self.run is not None
        if not self._done or None in self._done.values():
            raise TinyMetaFedError(f"Flower has ended round {before.done + 1} before its nodes")
        if before.done == self._experiment.rounds:
            raise TinyMetaFedError(
                f"rounds: the experiment has {before.done}, and Flower more; give both the same"
            )
        state = before.advance(ServerState(theta, before.server.kept))
        results = [self._done[node] for node in sorted(self._done)]
        rows = [row for one in results if one is not None for row in one.rows]
        phases = [count for one in results if one is not None for count in one.phases]
        events, self._done = self._federation.take_events(), {}
        if judged := await self._federation.judge(state):
            self._judged[state.done] = judged
        self._store.commit(
            self.run, state.done, theta, state.broadcast.changed, self._lap(), rows,
            self._judged.get(state.done, ()), phases, events=events,
        )  # fmt: skip
        return state

    def _lap(self) -> float:
        before, self._clock = self._clock, time.perf_counter()
        return self._clock - before


def _flower() -> dict[str, str]:
    import flwr

    return {"flwr": flwr.__version__}


def _check(experiment: Experiment) -> None:
    """Raises TinyMetaFedError where the experiment has what Flower decides, or what nodes keep."""
    wrong: dict[str, str] = {}
    participation = experiment.participation
    if experiment.per_round != experiment.nodes.count:
        wrong["nodes.per_round"] = "Flower's strategy chooses the nodes of a round; leave it out"
    if participation.leave or participation.deadline is not None:
        wrong["participation"] = "Flower decides who takes part and is waited for; leave it out"
    if experiment.strategy.keeps:
        wrong["strategy"] = (
            f"{plugins.short(experiment.strategy.name)} has nodes keep something from round to "
            "round, which a client of Flower's does not; use another, or no error_feedback"
        )
    if experiment.nodes.emulate:
        wrong["nodes.emulate"] = "rounds are Flower's; use backend qemu for cycles and joules"
    for key, text in wrong.items():
        raise TinyMetaFedError(f"{experiment.name}: {key}: {text}")
