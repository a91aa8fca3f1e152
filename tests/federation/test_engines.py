"""Engines: whatever has the nodes at work, a run comes to the same."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import dying
from conftest import MakeExperiment
from running import STRATEGIES, execute
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import Experiment
from tinymetafed.federation import engines as engine
from tinymetafed.federation import worker

NODES = ("nodes.count=7", "nodes.per_round=5", "evaluation.devices=9")
NODES += ("participation={leave=0.3, join=0.5}",)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster on this machine, with two processes to work."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'tinymetafed[scale]'")
    port = _free_port()
    # Ray reads them when it is imported.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": 32 * "a5"}
    command = [Path(sys.executable).parent / "ray", "start", "--head", "--block", "--num-cpus=2"]
    command += ["--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false"]
    path = {"PYTHONPATH": str(Path(dying.__file__).parent)}  # for workers
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | engine.RAY_ENVIRONMENT | engine.RAY_ON_LOOPBACK | path,
    ) as head:  # fmt: skip
        assert head.stdout is not None
        said: list[str] = []
        try:
            for line in head.stdout:
                said.append(line)
                if "Ray runtime started" in line:
                    break
            assert head.poll() is None, said
            yield f"127.0.0.1:{port}"
        finally:
            head.terminate()


def _result(settings: Experiment, folder: Path) -> tuple[object, ...]:
    store, run = execute(settings, folder)
    residuals = {node: one.tobytes() for node, one in store.residuals(run.id).items()}
    return run.theta, store.node_rounds(run.id), store.evaluations(run.id), residuals


@pytest.mark.parametrize("strategy", ["tinymetafed", "feedback-int8", "fedavg"])
def test_processes_come_to_the_same(strategy: str, experiment: MakeExperiment, tmp_path: Path):
    changes = (*NODES, *STRATEGIES[strategy])
    local = _result(experiment(*changes), tmp_path / "local")
    spread = ("nodes.engine=processes", "nodes.workers=2")
    assert _result(experiment(*changes, *spread), tmp_path / "spread") == local


def test_a_ray_cluster_comes_to_the_same(experiment: MakeExperiment, tmp_path: Path, cluster: str):
    local = _result(experiment(*NODES), tmp_path / "local")
    spread = ("nodes.engine=ray", f"nodes.address={cluster}")
    assert _result(experiment(*NODES, *spread), tmp_path / "spread") == local


async def _call(workers: engine.Workers, function: Callable[..., int], common: object) -> list[int]:
    taken: list[tuple[int, int]] = []
    await workers.start()
    try:
        await workers.call(function, common, range(5), lambda *one: taken.append(one))
    finally:
        await workers.close()
    assert sorted(i for i, _ in taken) == list(range(5))  # each once
    return [result for _, result in sorted(taken)]


def test_work_of_a_process_that_died_is_done_again(tmp_path: Path):
    found = asyncio.run(_call(engine.Processes(2), dying.double_or_die, tmp_path / "died"))
    assert found == [0, 2, 4, 6, 8]
    assert (tmp_path / "died").exists()


def test_work_of_a_ray_worker_that_died_is_done_again(tmp_path: Path, cluster: str):
    found = asyncio.run(_call(engine.Ray(cluster), dying.double_or_die, tmp_path / "died"))
    assert found == [0, 2, 4, 6, 8]
    assert (tmp_path / "died").exists()


def test_processes_that_die_every_time_end_the_run():
    with pytest.raises(TinyMetaFedError, match="worker processes died 4 times"):
        asyncio.run(_call(engine.Processes(1), dying.always_die, None))


def test_ray_workers_that_die_every_time_end_the_run(cluster: str):
    with pytest.raises(TinyMetaFedError, match=f"the Ray cluster at {cluster}: "):
        asyncio.run(_call(engine.Ray(cluster), dying.always_die, None))


def test_what_fails_on_a_ray_worker_is_said(cluster: str):
    with pytest.raises(TinyMetaFedError, match=r"a worker of .*: ZeroDivisionError: number \d"):
        asyncio.run(_call(engine.Ray(cluster), dying.fail, None))


def test_a_cluster_that_is_not_there_is_an_error():
    address = f"127.0.0.1:{_free_port()}"
    with pytest.raises(
        TinyMetaFedError, match=rf"no Ray cluster to be used at {address}: .*refused"
    ):
        asyncio.run(engine.Ray(address).start())


def test_a_cluster_of_another_version_is_an_error(cluster: str, monkeypatch: pytest.MonkeyPatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "__version__", "1.0.0")
    with pytest.raises(TinyMetaFedError, match=f"at {cluster}: Version mismatch"):
        asyncio.run(engine.Ray(cluster).start())


def test_a_worker_with_another_build_is_an_error(experiment: MakeExperiment):
    job = worker.Job(experiment().model_dump_json(), bytes(20))
    none = np.zeros(0)
    common = worker.Common(job, none.astype(np.float32), none.astype(np.int64), 1)
    with pytest.raises(
        TinyMetaFedError, match="its host build of the firmware is another than here"
    ):
        worker.learn(common, worker.Share([], []))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (("nodes.engine=ray",), "nodes.address: ray has one"),
        (("nodes.address=local",), "nodes.address: ray has one"),
        (("nodes.engine=ray", "nodes.address=here"), "nodes.address"),
        (("nodes.workers=2",), "nodes.workers: only nodes.engine=processes has them"),
        (("nodes.engine=processes", "nodes.backend=qemu"), "nodes.engine: qemu nodes are"),
    ],
)
def test_settings_that_do_not_go_together(
    settings: tuple[str, ...], error: str, experiment: MakeExperiment
):
    with pytest.raises(TinyMetaFedError, match=error):
        experiment(*settings)
