"""A node under GDB: it stands still, is looked at, goes on, and comes to the host's weights."""

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import isinf
from pathlib import Path
from typing import Any

import pytest

from conftest import MakeExperiment
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import debugging
from tinymetafed.nodes import renode_console
from tinymetafed.nodes.backends import private_directory
from tinymetafed.nodes.debugged import DebuggedNode
from tinymetafed.nodes.settings import NodeSettings

GDB = shutil.which("gdb-multiarch")
needs_gdb = pytest.mark.skipif(GDB is None, reason="gdb-multiarch: apt-get install gdb-multiarch")
LISTENING = "0A"  # of /proc/net/tcp


class Session:
    """`tinymetafed debug` that waits for GDB."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            self.said.append(line)
            if line.startswith("  gdb-multiarch "):
                break
        self.command = self.said[-1].strip()

    def gdb(self, *commands: str) -> str:
        """What GDB says to these."""
        words = [word for command in commands for word in ("-ex", command)]
        done = subprocess.run(
            [*shlex.split(self.command), "-batch", "-nx", *words],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        return done.stdout

    def end(self, more: str | None = None) -> tuple[int, str, str]:
        """Exit status, output and errors. more: for its input."""
        stdout, stderr = self.process.communicate(more, timeout=120)
        return self.process.returncode, "".join(self.said) + stdout, stderr


@contextmanager
def debugged(folder: Path, *arguments: str) -> Iterator[Session]:
    (folder / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tinymetafed", "debug", "small.toml", *arguments],
        cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"TMPDIR": str(folder / "tmp"), "NO_COLOR": "1"},
    )  # fmt: skip
    try:
        yield Session(process)
    finally:
        process.kill()
        process.communicate()


def _family(process: int) -> list[int]:
    """The process and all that it has started."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(one for child in children for one in _family(int(child)))]


def _listening(processes: list[int]) -> list[str]:
    """Addresses on which they listen, as /proc/net/tcp has them."""
    sockets: set[str] = set()
    for process in processes:
        for file in Path(f"/proc/{process}/fd").iterdir():
            target = str(file.readlink())
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    found: list[str] = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in sockets:
                found.append(fields[1].partition(":")[0])
    return found


LOOK = ("break tmf_train", "continue", "print count", "print training->rate", "delete", "continue")


@needs_gdb
def test_gdb_looks_at_a_node_and_the_round_ends_in_the_hosts_weights(folder: Path):
    with debugged(folder, "--node", "1", "--round", "3", "--set", "nodes.per_round=3") as session:
        assert "Round 3 of test: node-1 plays device" in session.said[0]
        assert _listening(_family(session.process.pid)) == []  # the network hears nothing
        said = session.gdb(*LOOK)
        assert "Breakpoint 1, tmf_train (model=" in said
        assert "firmware/core/tmf_learn.c" in said
        assert "$1 = 4\n" in said  # samples of the support set
        assert "$2 = 0.00999" in said
        status, output, errors = session.end()
    assert (status, errors) == (0, "")
    assert output.endswith("Round 3 has ended in the host's weights, bit for bit.\n")
    assert list((folder / "tmp").iterdir()) == []


@needs_gdb
def test_what_gdb_changes_is_found(folder: Path):
    with debugged(folder) as session:
        rate = "set var ((struct tmf_training *)training)->rate = 0.125"
        session.gdb("break tmf_train", "continue", rate, "delete", "continue")
        status, _, errors = session.end()
    assert status == 1
    assert "weights of the emulated nodes are not the host's" in errors
    assert len(errors.splitlines()) == 1


@needs_gdb
def test_a_node_that_gdb_kills_is_not_started_again(folder: Path):
    with debugged(folder) as session:
        session.gdb("kill")
        status, _, errors = session.end()
    assert status == 1
    assert errors.startswith("error: node-0: qemu-system-arm ended with status 0")
    assert len(errors.splitlines()) == 1


def test_an_interruption_ends_the_node_that_waits(folder: Path):
    with debugged(folder) as session:
        family = _family(session.process.pid)
        assert len(family) > 1
        session.process.send_signal(signal.SIGINT)
        status, _, errors = session.end()
    assert (status, errors) == (130, "Interrupted.\n")
    assert not any(Path(f"/proc/{process}").exists() for process in family)
    assert list((folder / "tmp").iterdir()) == []


def test_a_node_that_stands_still_is_waited_for():
    async def session() -> None:
        with private_directory(short=True) as directory:
            one = DebuggedNode(NodeSettings(), directory, "node-0")
            await one.node.start()
            try:
                command = await one.halt()
                assert shlex.split(command)[-1] == f"target remote {directory}/gdb"
                asked = asyncio.create_task(one.node.greet())
                for _ in range(20):
                    await asyncio.sleep(0)
                assert not asked.done()
                assert isinf(one.node.timeout)
                assert isinf(one.node.patience)
                transport = one.node.transport
                await transport._monitored(b"cont")  # pyright: ignore
                assert (await asked).protocol
                assert one.node.take_events() == []
            finally:
                await one.node.close()

    asyncio.run(session())


@pytest.mark.parametrize(
    ("changes", "arguments", "says"),
    [
        ((), {"node": 3}, "--node: 3, but nodes.count is 3"),
        ((), {"number": 5}, "--round: 5, but rounds is 4"),
        ((), {"monitor": True}, "--monitor: nodes.backend is host; it is for renode alone"),
        (("nodes.per_round=1",), {"number": 1}, "node-0 takes no part in round 1; leave --round"),
        (("nodes.per_round=1", "rounds=1"), {}, "node-0 is in no round until round 1"),
        (
            ("nodes.backend=qemu", "participation.deadline=1"), {"number": 2},
            "participation.deadline: host nodes play the rounds before",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(
    experiment: MakeExperiment,
    changes: tuple[str, ...],
    arguments: dict[str, Any],
    says: str,
):
    arguments = {"node": 0, "number": None, **arguments}
    with pytest.raises(TinyMetaFedError, match=says):
        debugging.debug(experiment(*changes), say=lambda text: None, **arguments)


@needs_gdb
@pytest.mark.renode
@pytest.mark.skipif(
    renode_console.program() is None, reason="no Renode on the PATH, nor in TMF_RENODE"
)
def test_renode_serves_gdb_on_loopback_and_its_monitor_stays(folder: Path):
    with debugged(folder, "--monitor", "--set", "nodes.backend=renode") as session:
        assert _listening(_family(session.process.pid)) == ["0100007F"]
        said = session.gdb(*LOOK[:-1], "detach")  # the emulation stays
        assert "$1 = 4\n" in said
        for line in iter(session.process.stdout.readline, ""):  # pyright: ignore
            session.said.append(line)
            if line.startswith("The round is done."):
                break
        status, output, errors = session.end("sysbus.cpu PC\nquit\n")
    assert (status, errors) == (0, "")
    assert "0x" in output.partition("The round is done.")[2]
    assert output.endswith("Round 1 has ended in the host's weights, bit for bit.\n")
