# pyright: reportMissingImports=false
"""Nodes as the clients of a Flower app. Flower's own simulation takes Ray's processes and half a
minute: here its strategy is driven in this process, and a copy of the app through its socket, as
one in another process is."""

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr")

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp.strategy import FedAvg

import tinymetafed as tmf
import tinymetafed.flower as flower
from conftest import SMALL

FEDAVG = {"strategy": {"name": "fedavg", "query": 6, "batch": 3, "epochs": 2}, "rounds": 2}


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later versions of Flower make messages in a task alone."""
    identity = pytest.importorskip("flwr.supercore.task_identity").TaskIdentity
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(identity, name, 1)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def ask(app: Any, kind: str, node: int, number: int, arrays: ArrayRecord) -> Message:
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": number})})
    message = Message(content, dst_node_id=node + 1, message_type=kind)
    context = Context(1, node + 1, {"partition-id": node, "num-partitions": 3}, RecordDict(), {})
    return app(message, context)


def rounds(apps: list[Any], arrays: ArrayRecord, numbers: Iterable[int]) -> ArrayRecord:
    """Flower's FedAvg over all nodes, each asked through another copy of the app."""
    for number in numbers:
        replies = [ask(app, "train", i, number, arrays) for i, app in enumerate(apps)]
        found, _ = FedAvg().aggregate_train(number, replies)
        assert found is not None
        arrays = found
        for i, app in enumerate(apps):
            ask(app, "evaluate", i, number, arrays)
    return arrays


@pytest.mark.parametrize("backend", ["host", "qemu"])
def test_flowers_average_is_the_benchs(small: Path, tmp_path: Path, backend: str):
    experiment = tmf.read_experiment(small, FEDAVG | {"nodes.backend": backend})
    own = tmf.run(experiment, store=tmp_path / "own")
    with flower.client_app(experiment, store=tmp_path / "flower") as app:
        copies = [app, *(pickle.loads(pickle.dumps(app)) for _ in range(2))]
        rounds(copies, flower.initial_arrays(experiment), (1, 2))
        found = app.result
    assert found.done == 2
    assert np.allclose(found.theta, own.theta, rtol=1e-4, atol=1e-6)
    mine, theirs = found.bytes, own.bytes
    assert mine["device"].tolist() == theirs["device"].tolist()
    assert np.allclose(mine["bytes_down"], theirs["bytes_down"], rtol=0.1)
    curve = found.learning_curve
    assert list(curve.index) == [0, 1, 2]  # Flower has asked after each round
    losses = [one["loss_after"].tolist() for one in (curve, own.learning_curve)]
    assert losses[0][-1] == pytest.approx(losses[1][-1], rel=1e-3)
    assert (len(found.energy) > 0) == (backend == "qemu")
    if backend == "qemu":
        joules = [sum(one.energy["joules"].tolist()) for one in (found, own)]
        assert joules[0] == pytest.approx(joules[1], rel=0.05)
    assert "flwr" in found.versions


def test_metrics_are_weighed_by_the_samples(small: Path, tmp_path: Path):
    experiment = tmf.read_experiment(small, FEDAVG)
    arrays = flower.initial_arrays(experiment)
    with flower.client_app(experiment, store=tmp_path) as app:
        trained = ask(app, "train", 1, 1, arrays).content["metrics"]
        assert trained["num-examples"] == 6
        assert trained["bytes-up"] > 0
        judged = ask(app, "evaluate", 1, 1, arrays).content["metrics"]
        assert judged["num-examples"] == 2 * 8  # two of five devices are this node's
        assert judged["loss-after"] > 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"nodes.per_round": 2}, "nodes.per_round: Flower's strategy chooses"),
        ({"participation": {"leave": 0.1}}, "participation: Flower decides"),
        ({"strategy": {"name": "scaffold"}}, "strategy: scaffold has nodes keep something"),
    ],
)
def test_what_flower_decides(small: Path, changes: dict[str, Any], says: str):
    with pytest.raises(tmf.TinyMetaFedError, match=says):
        flower.client_app(tmf.read_experiment(small, changes))


def test_what_flower_may_not_send(small: Path, tmp_path: Path):
    experiment = tmf.read_experiment(small, FEDAVG)
    arrays = flower.initial_arrays(experiment)
    other = ArrayRecord([np.zeros(3, np.float32)])
    short = ArrayRecord({"theta": other["0"]})
    with flower.client_app(experiment, store=tmp_path / "runs") as app:
        for node, number, sent, says in (
            (0, 1, other, "start its strategy with tinymetafed.flower.initial_arrays"),
            (0, 1, short, "weights are not 53 finite numbers"),
            (3, 1, arrays, "has nodes 0 to 2, and Flower a client 3"),
            (0, 2, arrays, "Flower begins with round 2"),
        ):
            with pytest.raises(tmf.TinyMetaFedError, match=says):
                ask(app, "train", node, number, sent)
        ask(app, "train", 0, 1, arrays)
        with pytest.raises(tmf.TinyMetaFedError, match="has been in round 1 already"):
            ask(app, "train", 0, 1, arrays)
    with pytest.raises(tmf.TinyMetaFedError, match="have ended"):
        ask(app, "train", 0, 1, arrays)
    assert app.result.done == 0
