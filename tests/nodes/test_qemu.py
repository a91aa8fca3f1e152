"""Nodes on QEMU: bit-exact with the host, and what happens when one is lost."""

import asyncio
import dataclasses
import os
import select
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import MakeExperiment
from running import STRATEGIES, came_to, execute
from tinymetafed.energy.profile import FIRST_PHASE, BlockCounts, Pricing
from tinymetafed.energy.program import Program
from tinymetafed.energy.timing import Timing
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import read
from tinymetafed.federation.client import Client
from tinymetafed.federation.engines import LinkEngine
from tinymetafed.federation.federation import Federation
from tinymetafed.link import Connection, Fault, Hello
from tinymetafed.nodes import window
from tinymetafed.nodes.backends import make_nodes, private_directory
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.qemu import QemuTransport
from tinymetafed.nodes.transport import NodeLost
from tinymetafed.places import MPS2_IMAGE, PROJECT, zephyr_image

ZEPHYR_IMAGE = zephyr_image("mps2_an386")
DEMO = PROJECT / "experiments/demo.toml"


@pytest.mark.parametrize(("link", "rounds"), [("dma", 50), ("uart", 5)])
def test_weights_are_those_of_the_host_bit_for_bit(tmp_path: Path, link: str, rounds: int):
    changes = (f"rounds={rounds}", "nodes.count=2", "evaluation.devices=4", "evaluation.every=50")
    on_qemu, on_host = (
        execute(read(DEMO, (*changes, *more)), tmp_path / more[0])
        for more in ((f"nodes.link={link}",), ("nodes.backend=host",))
    )
    assert on_qemu[1].theta == on_host[1].theta
    stores = [store.evaluations(run.id) for store, run in (on_qemu, on_host)]
    assert stores[0] == stores[1]
    rows = [store.node_rounds(run.id) for store, run in (on_qemu, on_host)]
    bytes_moved = [[(r.bytes_down, r.bytes_up, r.bytes_sensor) for r in some] for some in rows]
    assert bytes_moved[0] == bytes_moved[1]


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_is_bit_exact(tmp_path: Path, experiment: MakeExperiment, name: str):
    """In the weights, in what nodes keep, and in every byte; also in batches, and rounded."""
    changes = ("nodes.count=2", "rounds=2", "evaluation.devices=2", *STRATEGIES[name])
    (on_qemu, emulated), (on_host, whole) = (
        execute(experiment(f"nodes.backend={backend}", *changes), tmp_path / backend)
        for backend in ("qemu", "host")
    )
    assert emulated.theta == whole.theta
    kept, expected = on_qemu.kept(emulated.id), on_host.kept(whole.id)
    assert [(i, r.tobytes()) for i, r in kept.items()] == [
        (i, r.tobytes()) for i, r in expected.items()
    ]
    assert on_qemu.evaluations(emulated.id) == on_host.evaluations(whole.id)
    rows, right = on_qemu.node_rounds(emulated.id), on_host.node_rounds(whole.id)
    assert [dataclasses.replace(row, counted=False) for row in rows] == right


async def _hello(transport: QemuTransport, connection: Connection) -> Hello:
    while True:
        for answers in connection.receive(await transport.read()):
            (hello,) = answers.responses
            assert isinstance(hello, Hello)
            return hello


def test_a_node_says_who_it_is():
    program = Program.read(MPS2_IMAGE)

    async def boot() -> tuple[Hello, BlockCounts | None]:
        with private_directory() as directory:
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
            transport = await QemuTransport.open(directory, "node-0", program=program)
            hello = await _hello(transport, Connection())
            counts = transport.counts()
            await transport.close()
        return hello, counts

    hello, counts = asyncio.run(boot())
    notes = subprocess.run(
        ["arm-none-eabi-readelf", "-n", MPS2_IMAGE], capture_output=True, text=True, check=True
    ).stdout
    assert hello.build.hex() in notes
    assert hello.memory == 216 * 1024
    assert counts is not None
    profile = Pricing(program, Timing.all()).profile(counts)
    assert profile.instructions[profile.phases.index(FIRST_PHASE)] > 10_000  # clears the RAM


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(MPS2_IMAGE, id="bare"),
        pytest.param(
            ZEPHYR_IMAGE,
            id="zephyr",
            marks=[
                pytest.mark.zephyr,
                pytest.mark.skipif(not ZEPHYR_IMAGE.is_file(), reason="'make zephyr' builds it"),
            ],
        ),
    ],
)
def test_a_fault_is_reported_with_its_place_and_the_node_starts_again(tmp_path: Path, image: Path):
    """The debugger's stub sends the processor to an instruction that is none."""
    somewhere = Program.read(image).functions["tmf_select"]  # which no boot needs
    undefined = 0xDE00

    def packet(text: str) -> bytes:
        return f"${text}#{sum(text.encode()) % 256:02x}".encode()

    async def check() -> None:
        stub = tmp_path / "gdb"
        extra = ("-chardev", f"socket,id=gdb,path={stub},server=on,wait=off", "-gdb", "chardev:gdb")
        with private_directory() as directory:
            transport = await QemuTransport.open(
                directory, "node-0", image=image, place=window.find(image), extra=extra
            )
            try:
                connection = Connection()
                await _hello(transport, connection)
                with socket.socket(socket.AF_UNIX) as debugger:
                    debugger.connect(str(stub))
                    debugger.settimeout(10)
                    # Registers can be written once their description has been asked for.
                    describe = packet("qXfer:features:read:target.xml:0,ffb")
                    set_pc = packet(f"Pf={somewhere.to_bytes(4, 'little').hex()}")
                    write = packet(f"M{somewhere:x},2:{undefined.to_bytes(2, 'little').hex()}")
                    for command in (packet("?"), describe, write, set_pc):
                        debugger.sendall(command)
                        while b"#" not in debugger.recv(4096):
                            pass
                        debugger.sendall(b"+")
                    debugger.sendall(packet("c"))
                    await transport.write(b"\0")  # wakes it
                    events: list[object] = []
                    async with asyncio.timeout(20):
                        while len(events) < 2:
                            for answers in connection.receive(await transport.read()):
                                events += answers.responses
            finally:
                await transport.close()
        fault, hello = events
        assert isinstance(fault, Fault)
        assert fault.by_name["pc"] == somewhere
        assert fault.by_name["cfsr"] == 1 << 16  # UNDEFINSTR
        assert fault.exception in (3, 6)  # HardFault, or Zephyr's UsageFault
        assert isinstance(hello, Hello)

    asyncio.run(check())


def test_a_node_that_is_killed_is_started_again_and_changes_nothing(tmp_path: Path):
    async def check() -> None:
        experiment = read(DEMO, ("nodes.count=2", "rounds=3"))
        undisturbed = read(DEMO, ("nodes.count=2", "rounds=3", "nodes.backend=host"))
        results: list[bytes] = []
        for settings in (experiment, undisturbed):
            with private_directory() as directory:
                nodes = make_nodes(settings.nodes, directory)
                federation = Federation(settings, LinkEngine(Client(settings), nodes))
                state = await federation.start()
                for _ in range(3):
                    state = (await federation.round(state)).state
                    transport = nodes[1].transport
                    if isinstance(transport, QemuTransport):
                        transport.process.kill()
                await federation.close()
                results.append(state.theta.tobytes())
        assert results[0] == results[1]

    asyncio.run(check())


ORCHESTRATOR = """
import asyncio, sys
from pathlib import Path
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.qemu import QemuTransport
from tinymetafed.nodes.transport import NodeLost

async def main():
    nodes = [await QemuTransport.open(Path(sys.argv[1]), f"node-{i}") for i in range(2)]
    print(*(node.process.pid for node in nodes), flush=True)
    await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_orchestrator(tmp_path: Path, how: signal.Signals):
    orchestrator = subprocess.Popen(
        [sys.executable, "-c", ORCHESTRATOR, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with orchestrator:
        assert orchestrator.stdout is not None
        handles = [os.pidfd_open(int(pid)) for pid in orchestrator.stdout.readline().split()]
        assert len(handles) == 2
        orchestrator.send_signal(how)
    for handle in handles:
        ended, _, _ = select.select([handle], [], [], 20)
        assert ended
        os.close(handle)


def test_an_emulator_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TinyMetaFedError, match="qemu-system-arm is not installed.*apt-get install"):
        asyncio.run(QemuTransport.open(tmp_path, "node-0"))


def test_an_image_that_is_not_there(tmp_path: Path):
    with pytest.raises(TinyMetaFedError, match=r"missing\.elf: no firmware image; run 'make"):
        asyncio.run(QemuTransport.open(tmp_path, "node-0", image=tmp_path / "missing.elf"))


def test_an_image_that_does_not_run(tmp_path: Path):
    rubbish = tmp_path / "rubbish.elf"
    rubbish.write_bytes(bytes(64))

    async def check() -> None:
        node = Node("node-0", lambda: QemuTransport.open(tmp_path, "node-0", image=rubbish))
        try:
            with pytest.raises(NodeLost, match="node-0: lockup: a fault in the handler of a fault"):
                await node.start()
        finally:
            await node.close()

    asyncio.run(check())


@pytest.mark.parametrize("times", [1, 4])
def test_a_node_that_is_killed_while_it_boots_is_started_again(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch, times: int
):
    """Within the same limit as one that dies later, and the run is the undisturbed one's."""
    settings = experiment("nodes.backend=qemu", "nodes.count=2", "rounds=1", "evaluation.devices=1")
    whole = came_to(*execute(settings, tmp_path / "whole"))
    original, left = QemuTransport.read, [times]

    async def dying(self: QemuTransport) -> bytes:
        if self.log.stem == "node-1" and left[0]:
            left[0] -= 1
            self.process.kill()
            await self.process.wait()
        return await original(self)

    monkeypatch.setattr(QemuTransport, "read", dying)
    if times == 4:
        with pytest.raises(NodeLost, match="node-1: qemu-system-arm ended with status -9"):
            execute(settings, tmp_path / "lost")
    else:
        store, run = execute(settings, tmp_path / "lost")
        assert came_to(store, run) == whole
        assert all(row.counted for row in store.node_rounds(run.id))


def test_a_node_is_connected_to_no_network(tmp_path: Path):
    """Its card has nothing at its other end."""
    monitor = tmp_path / "monitor"
    extra = ("-chardev", f"socket,id=mon,path={monitor},server=on,wait=off", "-mon", "chardev=mon")

    async def ask() -> str:
        transport = await QemuTransport.open(tmp_path, "node-0", extra=extra)
        try:
            await transport.read()  # the monitor is there when the node is
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(20)
                link.connect(str(monitor))
                link.sendall(b"info network\ninfo version\n")
                said = b""
                while b"model=lan9118" not in said or not said.rstrip().endswith(b"(qemu)"):
                    said += link.recv(4096)
        finally:
            await transport.close()
        return said.decode()

    assert "type=user" not in asyncio.run(ask())


def test_folders_with_commas_blanks_and_long_paths(tmp_path: Path):
    """A comma begins an option of QEMU's; the name of a socket has 107 bytes at most."""
    directory = tmp_path / "a, b" / ("long" * 40)
    directory.mkdir(parents=True)
    image = directory / "a,b.elf"
    image.write_bytes(MPS2_IMAGE.read_bytes())

    async def boot() -> None:
        transport = await QemuTransport.open(
            directory, "node-0", image=image, program=Program.read(image), place=window.find(image)
        )
        try:
            assert (await _hello(transport, Connection())).memory == 216 * 1024
            counts = transport.counts()
            assert counts is not None
            assert counts.left.sum() > 0
        finally:
            await transport.close()

    asyncio.run(boot())
