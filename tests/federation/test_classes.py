"""What unseen devices take their samples for: it is what they were judged by, and asking for it
changes nothing else."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blobs import Blobs, on_blobs
from conftest import MakeExperiment, UseCard
from running import execute, in_pieces
from tiny import ON_TABLE, make_table
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import runner
from tinymetafed.experiments.experiment import Experiment
from tinymetafed.federation.client import Client
from tinymetafed.federation.engines import Engine, HostEngine, LinkEngine
from tinymetafed.federation.federation import Federation
from tinymetafed.nodes.host import open_host
from tinymetafed.nodes.node import Node
from tinymetafed.results.store import ClassCount, DeviceEvaluation, Store


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    """Small ones with classes: adaptation diverges in some, samples take several frames in
    others."""
    ways = draw(st.integers(2, 6))
    binary = ways == 2 and draw(st.booleans())
    rate, scale = draw(st.sampled_from(((0.05, 1.0), (1.0, 1.0), (1.0, 1e18))))
    fedavg = {"name": "fedavg", "query": 6, "batch": 3, "epochs": 2, "rate": rate}
    tinymetafed = {"name": "tinymetafed", "support": 6, "query": 6}
    tinymetafed |= {"local_rate": rate, "global_rate": rate}
    last = {"units": 1 if binary else ways, "local": draw(st.booleans())}
    return on_blobs(
        Blobs(ways=ways, width=draw(st.sampled_from((1, 3, 700))), scale=scale),
        {
            "strategy": draw(st.sampled_from((fedavg, tinymetafed))),
            "model.loss": "binary_cross_entropy" if binary else "softmax_cross_entropy",
            "model.layers": [{"units": 4, "activation": "relu"}, last],
            "evaluation.query": draw(st.sampled_from((1, 20, 60))),
            "evaluation.steps": draw(st.sampled_from((0, 5))),
            "seed": draw(st.integers(0, 1000)),
        },
    )


def links(experiment: Experiment) -> LinkEngine:
    """Nodes in this process, over the frames of a link."""
    nodes = [Node(f"node-{i}", open_host) for i in range(experiment.nodes.count)]
    return LinkEngine(Client(experiment), nodes)


def native(experiment: Experiment) -> HostEngine:
    """The shared library."""
    return HostEngine(Client(experiment), 1)


ENGINES: dict[str, Callable[[Experiment], Engine]] = {"links": links, "native": native}


async def _session(experiment: Experiment, engine: Engine) -> tuple[list[DeviceEvaluation], Any]:
    """The unseen devices after a round; and what a round after them comes to."""
    federation = Federation(experiment, engine)
    try:
        state = (await federation.round(await federation.start())).state
        judged = await federation.evaluate(state, experiment.devices_of("unseen"))
        after = await federation.round(state)
        return judged, (after.state.theta.tobytes(), after.rows)
    finally:
        await federation.close()


@given(experiments())
@settings(max_examples=40)
def test_it_is_what_they_were_judged_by_whoever_plays_them(experiment: Experiment):
    found = {
        name: asyncio.run(_session(experiment, make(experiment))) for name, make in ENGINES.items()
    }
    task, judged = experiment.task, experiment.evaluation
    for row in found["links"][0]:
        if row.loss_after is None:
            assert row.classes == ()
            continue
        _, query = task.device(experiment.seed, row.device, judged.support, judged.query)
        names = [f"{row.device}-{label}" for label in query.targets]
        actual: Counter[str] = Counter()
        for one in row.classes:
            actual[one.actual] += one.samples
        assert actual == Counter(names)
        right = sum(one.samples for one in row.classes if one.actual == one.predicted)
        assert right / judged.query == row.accuracy_after
    # A loss may be rounded in another way, since the frames of a program are others.
    one, other = ([replace(row, loss_before=None, loss_after=None) for row in rows]
                  for rows, _ in found.values())  # fmt: skip
    assert one == other
    assert found["links"][1] == found["native"][1]


@given(experiments(), st.sampled_from(sorted(ENGINES)))
@settings(max_examples=40)
def test_asking_for_it_changes_nothing_else(experiment: Experiment, engine: str):
    """No bit of a loss, no byte of the next round."""
    make = ENGINES[engine]
    asked, after = asyncio.run(_session(experiment, make(experiment)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "tells_classes", lambda *_: False)
        not_asked, expected = asyncio.run(_session(experiment, make(experiment)))
    assert [replace(row, classes=()) for row in asked] == not_asked
    assert after == expected


def _judged(experiment: Experiment, theta: Sequence[float]) -> list[DeviceEvaluation]:
    """The unseen devices by these weights as they are."""

    async def session() -> list[DeviceEvaluation]:
        federation = Federation(experiment, native(experiment))
        try:
            await federation.start()
            state = federation.state_of(np.array(theta, np.float32))
            return await federation.evaluate(state, experiment.devices_of("unseen"))
        finally:
            await federation.close()

    return asyncio.run(session())


@pytest.mark.parametrize(
    ("loss", "theta"),
    [
        ("softmax_cross_entropy", [0, 0, 1, 0]), ("softmax_cross_entropy", [0, 0, 0, 0]),
        ("binary_cross_entropy", [0, -1]), ("binary_cross_entropy", [0, 0]),
    ],
)  # fmt: skip
def test_a_network_that_always_says_0(loss: str, theta: list[float]):
    """Also where the outputs are alike: the first class is taken. theta: weights, then biases."""
    model = {"loss": loss, "layers": [{"units": len(theta) // 2}]}
    evaluation = {"devices": 5, "steps": 0, "support": 6, "query": 30}
    experiment = on_blobs(Blobs(ways=2, width=1), {"model": model, "evaluation": evaluation})
    for row in _judged(experiment, theta):
        _, query = experiment.task.device(experiment.seed, row.device, 6, 30)
        zeros = int((query.targets == 0).sum())
        zero, one = (f"{row.device}-{i}" for i in range(2))
        assert row.classes == (ClassCount(zero, zero, zeros), ClassCount(one, zero, 30 - zeros))
        assert row.accuracy_after == zeros / 30


def test_only_unseen_devices_are_asked_and_only_where_there_are_classes(
    tmp_path: Path, experiment: MakeExperiment
):
    store, run = execute(on_blobs(Blobs()), tmp_path / "blobs")
    rows = store.evaluations(run.id)
    assert {(row.round, row.part) for row in rows if row.classes} == {(4, "unseen")}
    assert all(row.classes for row in rows if row.part == "unseen")
    store, run = execute(experiment(), tmp_path / "sine")
    assert not any(row.classes for row in store.evaluations(run.id))
    assert store.class_counts(run.id, run.done) == []


def test_a_run_that_stopped_comes_to_the_same(tmp_path: Path):
    settings = on_blobs(Blobs())
    whole, one = execute(settings, tmp_path / "whole")
    pieces, other = in_pieces(settings, tmp_path / "pieces")
    assert whole.evaluations(one.id) == pieces.evaluations(other.id)


def test_a_run_with_more_rounds_has_them_of_both_ends(tmp_path: Path):
    store, run = execute(on_blobs(Blobs()), tmp_path)
    before = store.class_counts(run.id, 4)
    longer = on_blobs(Blobs(), {"rounds": 6})
    run, _ = runner.execute(longer, store, run, lambda done, doing: None)
    whole, other = execute(longer, tmp_path / "whole")
    assert store.class_counts(run.id, 4) == before
    assert store.class_counts(run.id, 6) == whole.class_counts(other.id, 6) != before
    assert {row.round for row in store.evaluations(run.id) if row.classes} == {4, 6}
    store.delete([run.id])
    assert store.class_counts(run.id, 6) == []


def test_emulated_nodes_take_samples_for_the_same(
    tmp_path: Path, data: Path, use_card: UseCard, experiment: MakeExperiment
):
    use_card(make_table(data)[0])
    on_qemu, on_host = (
        execute(experiment(*ON_TABLE, "nodes.count=2", "rounds=2", f"nodes.backend={backend}"),
                tmp_path / backend)
        for backend in ("qemu", "host")
    )  # fmt: skip
    [row] = [one for one in on_qemu[0].evaluations(on_qemu[1].id) if one.part == "unseen"]
    assert row in on_host[0].evaluations(on_host[1].id)
    assert sum(one.samples for one in row.classes) == 5
    assert {one.actual for one in row.classes} <= {"setosa", "versicolor", "virginica"}
    right = sum(one.samples for one in row.classes if one.actual == one.predicted)
    assert right / 5 == row.accuracy_after


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a", "b"], r"class_names\(\) returned 2 names of 3 classes"),
        (["a", "b", "a"], r"class_names\(\) returned 'a' twice"),
        ([1, 2, 3], r"class_names\(\) returned list \[1, 2, 3\], no list of texts"),
        (None, r"class_names\(\) returned None, no list of texts"),
        (["a", "b", "\ud800"], r"class_names\(\) returned '\\ud800', which is no text"),
    ],
)
def test_names_that_are_none_are_told_before_the_training(tmp_path: Path, names: Any, says: str):
    class Wrong(Blobs):
        def class_names(self, *_: Any, **__: Any) -> Any:
            return names

    with pytest.raises(TinyMetaFedError, match=f"^task blobs.py:Blobs, device 1005: {says}$"):
        execute(on_blobs(Wrong()), tmp_path)
    assert Store(tmp_path).runs() == []


def test_classes_are_numbers_where_a_task_has_no_names(tmp_path: Path):
    class Nameless(Blobs):
        class_names = Blobs.__mro__[1].class_names  # pyright: ignore[reportAssignmentType]

    store, run = execute(on_blobs(Nameless()), tmp_path)
    assert {one.actual for one in store.class_counts(run.id, 4)} == {"0", "1", "2"}
