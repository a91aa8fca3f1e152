"""Engines that do the same work: over links, or natively in any number of threads."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SMALL
from running import STRATEGIES
from tinymetafed.experiments.experiment import Experiment, parse
from tinymetafed.federation.client import Client
from tinymetafed.federation.engines import Engine, HostEngine, LinkEngine
from tinymetafed.federation.federation import Federation
from tinymetafed.federation.state import FederationState
from tinymetafed.nodes import native
from tinymetafed.nodes.host import open_host
from tinymetafed.nodes.node import Node
from tinymetafed.results.store import DeviceEvaluation, NodeRound

LAYERS = (
    "[{units=6, activation='tanh'}, {units=5, activation='relu'}, {units=1, local=true}]",
    "[{units=1}]",
    "[{units=3, local=true}, {units=4, activation='tanh'}, {units=3, local=true}, {units=1}]",
    "[{units=40, activation='relu'}, {units=70}, {units=1}]",  # takes several frames
)
RATES = (0.01, 0.3, 1.0, 10.0)  # the last ones are such that training diverges


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    """Small ones of every strategy: some come and go, some diverge."""
    strategy = draw(st.sampled_from(sorted(STRATEGIES)))
    count = draw(st.integers(1, 5))
    small = parse(SMALL, "SMALL", STRATEGIES[strategy]).strategy
    changes = [*STRATEGIES[strategy], f"nodes.count={count}"]
    changes.append(f"nodes.per_round={1 if small.serial else draw(st.integers(1, count))}")
    client, clients = getattr(small, "client", small), "strategy"
    if client is not small:
        clients = "strategy.client"
    samples = draw(st.sampled_from((1, 7, 90)))
    for key in ("query", *(("support",) if client.support else ())):
        changes.append(f"{clients}.{key}={samples}")
    rates = ("rate", "local_rate", "global_rate", "meta_rate")
    for key in (rate for rate in rates if rate in type(client).model_fields):
        changes.append(f"{clients}.{key}={draw(st.sampled_from(RATES))}")
    fraction = draw(st.sampled_from((0.05, 1.0))) if small.takes_fewer else 1.0
    changes += [
        f"model.layers={draw(st.sampled_from(LAYERS))}",
        f"participation.leave={draw(st.sampled_from((0.0, 0.4)))}",
        "participation.join=0.6",
        f"devices.seen={draw(st.integers(count, 9))}",
        f"devices.fraction=[{fraction}, 1.0]",
        f"seed={draw(st.integers(0, 1000))}",
        f"evaluation.steps={draw(st.sampled_from((0, 3, 20)))}",
        "rounds=5",
    ]
    return parse(SMALL, "SMALL", tuple(changes))


def links(experiment: Experiment) -> LinkEngine:
    """Nodes in this process, over the frames of a link."""
    nodes = [Node(f"node-{i}", open_host) for i in range(experiment.nodes.count)]
    return LinkEngine(Client(experiment), nodes)


def threads(count: int) -> Callable[[Experiment], HostEngine]:
    """The shared library, in so many threads."""
    return lambda experiment: HostEngine(Client(experiment), count)


ENGINES: dict[str, Callable[[Experiment], Engine]] = {
    "links": links, "one thread": threads(1), "two threads": threads(2),
}  # fmt: skip


def bits(state: FederationState) -> dict[str, Any]:
    """All of a state, to the last bit; none of it is not finite, whatever diverged."""
    for array in (state.theta, *state.kept.values()):
        assert np.isfinite(array).all()
    return {
        "theta": state.theta.tobytes(),
        "changed": state.broadcast.changed.tolist(),
        "version": state.broadcast.version,
        "done": state.done,
        "server": {name: one.tobytes() for name, one in state.server.kept.items()},
        "kept": {owner: one.tobytes() for owner, one in state.kept.items()},
    }


async def _session(
    experiment: Experiment, engine: Engine
) -> list[tuple[dict[str, Any], list[NodeRound], list[DeviceEvaluation]]]:
    federation = Federation(experiment, engine)
    validation = experiment.devices_of("validation")
    try:
        state = await federation.start()
        found = [(bits(state), list[NodeRound](), await federation.judge(state))]
        for done in range(1, experiment.rounds + 1):
            result = await federation.round(state)
            state = result.state
            assert result.phases == []
            judged = await federation.evaluate(state, validation) if done % 2 else []
            found.append((bits(state), result.rows, judged))
    finally:
        await federation.close()
    return found


@given(experiments())
@settings(max_examples=100)
def test_all_engines_come_to_the_same(experiment: Experiment):
    """Every state, row and evaluation, with the numbers and the bytes of every frame."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "WORTH_A_THREAD", 0.0)
        found = {
            name: asyncio.run(_session(experiment, make(experiment)))
            for name, make in ENGINES.items()
        }
    assert found["one thread"] == found["links"]
    assert found["two threads"] == found["links"]
