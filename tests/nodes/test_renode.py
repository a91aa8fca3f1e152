"""Nodes on Renode, where it is installed; and what a user is told where it is not, or fails."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from running import execute, weights
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiment import read
from tinymetafed.federation import Federation, ServerState
from tinymetafed.nodes import renode
from tinymetafed.nodes.backends import make_nodes, private_directory
from tinymetafed.nodes.renode import Renode, RenodeTransport
from tinymetafed.places import MPS2_IMAGE, PROJECT, ZEPHYR_IMAGE

DEMO = PROJECT / "experiments/demo.toml"

installed = pytest.mark.skipif(
    renode.program() is None, reason="no Renode on the PATH, nor in TMF_RENODE"
)
on_zephyr = pytest.mark.skipif(not ZEPHYR_IMAGE.is_file(), reason="'make zephyr' builds it")


@pytest.mark.renode
@installed
@pytest.mark.parametrize(
    "firmware", ["bare", pytest.param("zephyr", marks=[pytest.mark.zephyr, on_zephyr])]
)
def test_weights_are_those_of_the_host_bit_for_bit(tmp_path: Path, firmware: str):
    changes = ("rounds=3", "nodes.count=2", "evaluation.devices=2")
    on_renode = read(DEMO, (*changes, "nodes.backend=renode", f"nodes.firmware={firmware}"))
    on_host = read(DEMO, (*changes, "nodes.backend=host"))
    assert np.array_equal(
        weights(on_renode, tmp_path / "renode"), weights(on_host, tmp_path / "host")
    )


@pytest.mark.renode
@installed
def test_bytes_and_evaluations_are_those_of_the_host(tmp_path: Path):
    changes = ("rounds=2", "nodes.count=2", "evaluation.devices=2")
    stores = [
        execute(read(DEMO, (*changes, f"nodes.backend={name}")), tmp_path / name)
        for name in ("renode", "host")
    ]
    assert json.loads(stores[0][1].versions)["renode"]
    (one, other) = [store.node_rounds(run.id) for store, run in stores]
    assert one == other
    (one, other) = [store.evaluations(run.id) for store, run in stores]
    assert one == other


@pytest.mark.renode
@installed
def test_a_renode_that_is_killed_is_started_again_and_changes_nothing():
    async def play(*changes: str) -> bytes:
        settings = read(DEMO, ("nodes.count=2", "rounds=3", *changes))
        with private_directory() as directory:
            federation = Federation(settings, make_nodes(settings.nodes, directory))
            await federation.start()
            state = ServerState.start(federation.model.initial(settings.seed))
            for turn in range(2):
                state, *_ = await federation.round(state)
                transport = federation.nodes[1].transport
                if turn == 0 and isinstance(transport, RenodeTransport):
                    process = transport.process
                    assert process is not None
                    os.killpg(process.pid, signal.SIGKILL)
            await federation.close()
        return state.theta.tobytes()

    assert asyncio.run(play("nodes.backend=renode")) == asyncio.run(play("nodes.backend=host"))


@pytest.mark.renode
@installed
def test_a_platform_that_does_not_load_is_said_in_renode_s_words(tmp_path: Path):
    platform = tmp_path / "bad.repl"
    platform.write_text("cpu: CPU.NoSuchProcessor @ sysbus\n")
    process = asyncio.run(
        _fails(tmp_path, platform, "Renode cannot do 'machine LoadPlatform.*NoSuch")
    )
    assert process is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(process, 0)


async def _fails(folder: Path, platform: Path, says: str) -> int | None:
    """Returns the number of the process that was started, if one was."""
    started: list[int] = []
    start = asyncio.create_subprocess_exec

    async def noted(*arguments: Any, **settings: Any) -> asyncio.subprocess.Process:
        process = await start(*arguments, **settings)
        started.append(process.pid)
        return process

    machines = Renode(folder, platform)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "create_subprocess_exec", noted)
        with pytest.raises(TinyMetaFedError, match=says):
            await RenodeTransport.open(machines, "node-0", MPS2_IMAGE)
    assert not machines.running
    return next(iter(started), None)


def _pretend(folder: Path, script: str) -> str:
    program = folder / "renode"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo no display; exit 3", r"Renode ended at 'version'; it said: no display"),
        ("exec sleep 60", r"Renode did not do 'version' in 0.5 s; it said nothing"),
        ("while read -r l; do echo 'Renode, version 1.14.0'; eval $l; done",
         r"Renode 1.15.3 or later is needed; it said: "),
    ],
)  # fmt: skip
def test_a_renode_that_does_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
):
    monkeypatch.setenv("TMF_RENODE", _pretend(tmp_path, script))
    monkeypatch.setattr(renode, "START_TIMEOUT", 0.5)
    process = asyncio.run(_fails(tmp_path, renode.PLATFORM, says))
    assert process is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(process, 0)


def test_no_renode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TMF_RENODE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    asyncio.run(_fails(tmp_path, renode.PLATFORM, "Renode is not installed; put `renode`"))
    monkeypatch.setenv("TMF_RENODE", str(tmp_path / "nowhere"))
    asyncio.run(_fails(tmp_path, renode.PLATFORM, "nowhere: cannot be started: No such file"))
