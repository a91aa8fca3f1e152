"""A run without the command line, or rounds without a run."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tinymetafed.energy.ledger import Entry
from tinymetafed.experiments import runner
from tinymetafed.experiments.experiment import Experiment
from tinymetafed.federation.client import Client
from tinymetafed.federation.engines import LinkEngine
from tinymetafed.federation.federation import Federation
from tinymetafed.federation.state import FederationState
from tinymetafed.nodes.host import HostTransport
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.transport import Transport
from tinymetafed.report.described import describe
from tinymetafed.results.store import Run, Store

STRATEGIES: dict[str, tuple[str, ...]] = {
    "fedavg": (
        "strategy={name='fedavg', query=8, batch=3, epochs=2}", "devices.fraction=[0.25, 1.0]",
    ),
    "local": ("strategy={name='local', query=6, batch=4, epochs=2}",),
    "reptile": ("strategy={name='reptile', query=6, batch=3, epochs=2}",),
    "tinyreptile": ("strategy={name='tinyreptile', query=6}", "nodes.per_round=1"),
    "tinymetafed": ("strategy.percent=20",),
    "feedback": (
        "strategy.percent={start=60, end=10}", "strategy.error_feedback=true", "nodes.per_round=2",
    ),
    "feedback-float16": (
        "strategy.percent=20", "strategy.values=float16", "strategy.error_feedback=true",
    ),
    "feedback-int8": (
        "strategy.percent=20", "strategy.values=int8", "strategy.error_feedback=true",
    ),
    "fedprox": (
        "strategy={name='fedprox', query=8, batch=3, epochs=2, proximal=0.5}",
        "devices.fraction=[0.25, 1.0]",
    ),
    "fedadam": ("strategy={name='fedadam', client={name='fedavg', query=6, batch=3, epochs=2}}",),
    "fedyogi": (
        "strategy={name='fedyogi', client={name='tinymetafed', support=4, query=6, percent=20, "
        "error_feedback=true}}",
    ),
    "fedper": ("strategy={name='fedper', query=6, batch=3, epochs=2}",),
    "fedrep": ("strategy={name='fedrep', query=6, batch=3, head_epochs=2, epochs=1}",),
    "perfedavg": ("strategy={name='perfedavg', support=6, query=6, batch=4}",),
    "scaffold": ("strategy={name='scaffold', query=6, batch=3, epochs=2}", "devices.seen=20"),
}  # fmt: skip
"""Changes to the small experiment that make it one of each."""


def created(folder: Path, server: dict[str, NDArray[Any]] | None = None) -> tuple[Store, int]:
    """A run of no rounds whose server keeps these arrays."""
    store = Store(folder)
    text = dict.fromkeys(("name", "settings", "backend", "versions", "firmware"), "")
    numbers = dict.fromkeys(("seed", "memory", "rounds", "seconds"), 1)
    run = store.create([], server, **text, **numbers, theta=bytes(8), changed=bytes(8))
    return store, run.id


def ledger(store: Store, run: Run) -> list[Entry]:
    """The energy of a run, by round and node."""
    return list(describe(store, run).account(store, run).entries())


def execute(experiment: Experiment, folder: Path) -> tuple[Store, Run]:
    """Runs the experiment into a store in `folder`."""
    store = Store(folder)
    run, _ = runner.execute(experiment, store, None, lambda done, doing: None)
    return store, run


class _Stopped(Exception):
    pass


def in_pieces(
    experiment: Experiment, folder: Path, stops: Sequence[int] | None = None, *, ends: bool = True
) -> tuple[Store, Run]:
    """Runs the experiment and stops after so many rounds, in ascending order, after each where not
    given; each time another run goes on with the one before. ends: and at last to its end."""
    store, run = Store(folder), None
    for last in range(1, experiment.rounds) if stops is None else stops:

        def stop(done: int, doing: str, last: int = last) -> None:
            if (done, doing) == (last, "training"):
                raise _Stopped

        with pytest.raises(_Stopped):
            runner.execute(experiment, store, run, stop)
        run = store.run("last")
        assert run.done == last
    if ends:
        run, _ = runner.execute(experiment, store, run, lambda done, doing: None)
    assert run is not None
    assert len(store.runs()) == 1
    return store, run


def came_to(store: Store, run: Run) -> dict[str, object]:
    """All that another run with the same settings should come to, to the last bit."""
    return {
        "done": run.done,
        "theta": run.theta,
        "changed": run.changed,
        "rows": store.node_rounds(run.id),
        "evaluations": store.evaluations(run.id),
        "kept": {owner: one.tobytes() for owner, one in store.kept(run.id).items()},
        "server": {
            name: (one.dtype.str, one.shape, one.tobytes())
            for name, one in store.server_state(run.id).items()
        },
    }


def weights(experiment: Experiment, folder: Path) -> NDArray[np.uint32]:
    """The bits of the weights that the experiment ends with."""
    _, run = execute(experiment, folder)
    return run.weights.view(np.uint32)


def play(
    experiment: Experiment, rounds: int, transport: Callable[[], Transport] = HostTransport
) -> list[FederationState]:
    """The states before, between and after the first rounds of an experiment, on nodes in-process
    over such transports."""

    async def open_transport() -> Transport:
        return transport()

    async def session() -> list[FederationState]:
        nodes = [Node(f"node-{i}", open_transport) for i in range(experiment.nodes.count)]
        federation = Federation(experiment, LinkEngine(Client(experiment), nodes))
        states = [await federation.start()]
        for _ in range(rounds):
            states.append((await federation.round(states[-1])).state)
        await federation.close()
        return states

    return asyncio.run(session())
