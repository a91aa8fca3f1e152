"""Engines: whatever has the nodes at work, a run comes to the same."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

import dying
import tinymetafed
from conftest import MakeExperiment
from recorded import recorded, write
from running import STRATEGIES, execute
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import Experiment
from tinymetafed.federation import ray_engine, ray_worker
from tinymetafed.federation.ray_engine import RayCluster
from tinymetafed.federation.settings import FederationSettings
from tinymetafed.models.model import FirstWeights
from tinymetafed.nodes import native
from tinymetafed.nodes.folder import private_directory
from tinymetafed.nodes.library import library_build
from tinymetafed.results.store import Store

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
    # Ray reads them once in a process: another test may have been the first.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", 32 * "a5")
    command = [Path(sys.executable).parent / "ray", "start", "--head", "--block", "--num-cpus=2"]
    command += ["--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false"]
    # Workers find the tests, and the very package that is tested.
    folders = (Path(dying.__file__).parent, Path(tinymetafed.__file__).parents[1])
    path = {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    # What it leaves behind, the address of this cluster for one, nobody else is to find.
    with private_directory(short=True) as folder, subprocess.Popen(
        [*command, f"--temp-dir={folder / 'ray'}"], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
        env=os.environ | ray_engine.ENVIRONMENT | ray_engine.ON_LOOPBACK | path,
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
    kept = {owner: one.tobytes() for owner, one in store.kept(run.id).items()}
    return run.theta, store.node_rounds(run.id), store.evaluations(run.id), kept


@pytest.mark.parametrize("strategy", ["tinymetafed", "feedback-int8", "fedavg"])
def test_threads_come_to_the_same(
    strategy: str, experiment: MakeExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(native, "WORTH_A_THREAD", 0.0)
    changes = (*NODES, *STRATEGIES[strategy])
    one, two = (
        _result(experiment(*changes, f"nodes.threads={count}"), tmp_path / str(count))
        for count in (1, 2)
    )
    assert one == two


@pytest.mark.parametrize("strategy", ["tinymetafed", "feedback-int8", "fedavg"])
def test_a_ray_cluster_comes_to_the_same(
    strategy: str, experiment: MakeExperiment, tmp_path: Path, cluster: str
):
    changes = (*NODES, *STRATEGIES[strategy])
    local = _result(experiment(*changes), tmp_path / "local")
    spread = ("nodes.engine=ray", f"nodes.address={cluster}")
    assert _result(experiment(*changes, *spread), tmp_path / "spread") == local


def test_a_ray_cluster_takes_samples_for_the_same(
    experiment: MakeExperiment, tmp_path: Path, cluster: str
):
    path = write(tmp_path / "t.csv", recorded(users=8).rows())
    changes = (
        f"task={{name='table', path='{path}', target='activity', device_column='user'}}",
        "model={loss='softmax_cross_entropy', layers=[{units=3}]}", "devices.seen=6",
        "strategy={name='fedavg', query=6, batch=3}", "nodes.count=2",
        "evaluation={devices=1, unseen=1, support=5, query=8}",
    )  # fmt: skip
    local = _result(experiment(*changes), tmp_path / "local")
    spread = ("nodes.engine=ray", f"nodes.address={cluster}")
    found = _result(experiment(*changes, *spread), tmp_path / "spread")
    assert found == local
    evaluations = Store(tmp_path / "spread").evaluations(1)
    assert sum(one.samples for row in evaluations for one in row.classes) == 8


def test_the_work_of_a_ray_worker_that_dies_in_a_run_is_done_again(
    experiment: MakeExperiment,
    tmp_path: Path,
    cluster: str,
    monkeypatch: pytest.MonkeyPatch,
):
    """Amid a round and amid an evaluation."""
    died = tmp_path / "died"
    call = RayCluster.call

    async def dying_call(
        self: RayCluster, function: Callable[..., Any], common: Sequence[object], each: Any
    ) -> list[Any]:
        marker = died / function.__name__
        return await call(self, dying.once(function, marker), common, each)

    died.mkdir()
    monkeypatch.setattr(RayCluster, "call", dying_call)
    spread = ("nodes.engine=ray", f"nodes.address={cluster}")
    found = _result(experiment(*NODES, *spread), tmp_path / "spread")
    assert {path.name for path in died.iterdir()} == {"fit", "evaluate"}
    monkeypatch.undo()
    assert found == _result(experiment(*NODES), tmp_path / "local")


async def _call(
    address: str, function: Callable[..., int], common: object, numbers: int = 5
) -> list[int]:
    cluster = await RayCluster.open(address)
    try:
        return await cluster.call(function, (common,), range(numbers))
    finally:
        cluster.close()


def test_work_of_a_ray_worker_that_died_is_done_again(tmp_path: Path, cluster: str):
    found = asyncio.run(_call(cluster, dying.double_or_die, tmp_path / "died"))
    assert found == [0, 2, 4, 6, 8]  # each once, in order
    assert (tmp_path / "died").exists()


def test_ray_workers_that_die_every_time_end_the_run(cluster: str):
    with pytest.raises(TinyMetaFedError, match=f"the Ray cluster at {cluster}: "):
        asyncio.run(_call(cluster, dying.always_die, None, numbers=1))


def test_what_fails_on_a_ray_worker_is_said(cluster: str):
    with pytest.raises(TinyMetaFedError, match=r"a worker of .*: ZeroDivisionError: number \d"):
        asyncio.run(_call(cluster, dying.fail, None))


def test_a_cluster_that_is_not_there_is_an_error():
    address = f"127.0.0.1:{_free_port()}"
    with pytest.raises(
        TinyMetaFedError, match=rf"no Ray cluster to be used at {address}: .*refused"
    ):
        asyncio.run(RayCluster.open(address))


SILENT = """
import asyncio, sys
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.federation import ray_engine

ray_engine.START_TIMEOUT = 1
try:
    asyncio.run(ray_engine.RayCluster.open(sys.argv[1]))
except TinyMetaFedError as error:
    print(error)
"""


def test_a_cluster_that_does_not_answer_is_an_error():
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", SILENT, address], capture_output=True, text=True, check=False
        )
    expected = f"nodes.address: no Ray cluster to be used at {address}: it does not answer within"
    assert done.stdout == f"{expected} 1 s\n", done.stderr
    assert done.returncode == 0


# A run on a cluster of its own, sent SIGTERM by itself when two rounds are in the store.
LOCAL = """
import os, signal, sys
from tinymetafed import __main__
from tinymetafed.results.store import Store

commit = Store.commit

def commit_and_signal(self, run, done, *arguments, **others):
    commit(self, run, done, *arguments, **others)
    if done == 2:
        os.kill(os.getpid(), signal.SIGTERM)

Store.commit = commit_and_signal
sys.argv[1:] = ["run", "small.toml", "--set", "nodes.engine=ray", "--set", "nodes.address=local"]
__main__.main()
"""


def test_a_cluster_of_one_s_own_is_nobody_else_s_and_ends_with_one_line(folder: Path):
    """Whatever Ray finds in its environment; and it leaves nothing in the temporary folder."""
    pytest.importorskip("ray")
    with TemporaryDirectory(prefix="t", dir="/tmp") as temporary:
        done = subprocess.run(
            [sys.executable, "-c", LOCAL], cwd=folder, capture_output=True, text=True, check=False,
            env=os.environ | {"TMPDIR": temporary, "RAY_ADDRESS": f"127.0.0.1:{_free_port()}"},
        )  # fmt: skip
        assert done.returncode == 130
        assert done.stderr == "Interrupted. 'tinymetafed run --resume 1' goes on where it was.\n"
        assert not list(Path(temporary).iterdir())


def test_a_cluster_of_another_version_is_an_error(cluster: str, monkeypatch: pytest.MonkeyPatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "__version__", "1.0.0")
    with pytest.raises(TinyMetaFedError, match=f"at {cluster}: Version mismatch"):
        asyncio.run(RayCluster.open(cluster))


def test_a_worker_with_another_build_is_an_error(experiment: MakeExperiment):
    setup = ray_worker.Setup(experiment().model_dump_json(), FirstWeights(), bytes(20), 8192, ())
    assert setup.build != library_build()
    none = np.zeros(0)
    weights = ray_worker.Weights(none.astype(np.float32), none.astype(np.int64), 1)
    with pytest.raises(
        TinyMetaFedError, match="its host build of the firmware is another than here"
    ):
        ray_worker.fit(setup, (), weights, ray_worker.Fit([], []))


def test_a_worker_is_told_all_of_a_federation_s_settings(experiment: MakeExperiment):
    settings = experiment(*NODES)
    told = FederationSettings.model_validate_json(ray_worker.Setup.of(settings, 8192).settings)
    for name in FederationSettings.model_fields:
        assert getattr(told, name) == getattr(settings, name)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (("nodes.engine=ray",), "nodes.address: ray has one"),
        (("nodes.address=local",), "nodes.address: ray has one"),
        (("nodes.engine=ray", "nodes.address=here"), "nodes.address"),
        (
            ("nodes.engine=ray", "nodes.address=local", "nodes.threads=2"),
            "nodes.threads: only host",
        ),
        (("nodes.backend=qemu", "nodes.threads=2"), "nodes.threads: only host nodes have them"),
        (("nodes.engine=ray", "nodes.backend=qemu"), "nodes.engine: qemu nodes are"),
    ],
)
def test_settings_that_do_not_go_together(
    settings: tuple[str, ...], error: str, experiment: MakeExperiment
):
    with pytest.raises(TinyMetaFedError, match=error):
        experiment(*settings)
