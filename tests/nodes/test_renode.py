"""Nodes on Renode, where it is installed; and what a user is told where it is not, or fails."""

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import MakeExperiment
from running import execute, weights
from tinymetafed.energy.decoding import decode
from tinymetafed.energy.opcodes import OpcodeCounts, Opcodes
from tinymetafed.energy.profile import COUNTED, BlockCounts, Counts, Profile
from tinymetafed.energy.program import Program
from tinymetafed.energy.timing import Timing
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import read
from tinymetafed.federation.client import Client
from tinymetafed.federation.engines import LinkEngine
from tinymetafed.federation.federation import Federation
from tinymetafed.nodes import backends, renode, renode_console, window
from tinymetafed.nodes.backends import make_nodes, private_directory
from tinymetafed.nodes.broadcast import Broadcast
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.program import Select, Send, Store, Train
from tinymetafed.nodes.renode import Renode, RenodeTransport
from tinymetafed.nodes.transport import NodeLost
from tinymetafed.places import MPS2_IMAGE, PROJECT, zephyr_image
from tinymetafed.report import described
from tinymetafed.report.energy import of_measured
from tinymetafed.results import store as results

DEMO = PROJECT / "experiments/demo.toml"
PLATFORM = renode.PLATFORMS["mps2_an386"]

installed = pytest.mark.skipif(
    renode_console.program() is None, reason="no Renode on the PATH, nor in TMF_RENODE"
)


def _image(firmware: str, board: str) -> Any:
    """A parameter, left out where there is no such image."""
    if firmware == "bare":
        return pytest.param(firmware, board)
    there = zephyr_image(board).is_file()
    missing = pytest.mark.skipif(not there, reason="'make zephyr' builds it")
    return pytest.param(firmware, board, marks=[pytest.mark.zephyr, missing])


IMAGES = [
    _image("bare", "mps2_an386"),
    _image("zephyr", "mps2_an386"),
    _image("zephyr", "nrf52840dk"),
    _image("zephyr", "arduino_nano_33_ble"),
]


@pytest.mark.renode
@installed
@pytest.mark.parametrize(
    ("firmware", "board", "link"),
    [pytest.param(*one.values, "dma", marks=one.marks) for one in IMAGES]
    + [pytest.param("bare", "mps2_an386", "uart")],
)
def test_weights_are_those_of_the_host_bit_for_bit(
    tmp_path: Path, firmware: str, board: str, link: str
):
    changes = ("rounds=3", "nodes.count=2", "evaluation.devices=2")
    emulated = (
        f"nodes.firmware={firmware}", f"nodes.board={board}", f"nodes.link={link}",
        "nodes.backend=renode",
    )  # fmt: skip
    on_renode = read(DEMO, (*changes, *emulated))
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
    assert [replace(row, counted=False) for row in one] == other
    (one, other) = [store.evaluations(run.id) for store, run in stores]
    assert one == other


async def _kill(node: Node) -> None:
    transport = node.transport
    if isinstance(transport, RenodeTransport):
        assert transport.process is not None
        os.killpg(transport.process.pid, signal.SIGKILL)


@pytest.mark.renode
@installed
@pytest.mark.parametrize(
    ("disturb", "uncounted"), [(_kill, [2, 3]), (Node.close, [3])], ids=["killed", "reset"]
)
def test_what_is_started_again_changes_nothing(
    disturb: Callable[[Node], Awaitable[None]], uncounted: list[int]
):
    """All of Renode, or one machine of it, after the first of three rounds with two nodes."""

    async def play(*changes: str) -> tuple[bytes, list[bool]]:
        settings = read(DEMO, ("nodes.count=2", "rounds=3", *changes))
        with private_directory() as directory:
            nodes = make_nodes(settings.nodes, directory)
            federation = Federation(settings, LinkEngine(Client(settings), nodes))
            state = await federation.start()
            counted: list[bool] = []
            for turn in range(3):
                result = await federation.round(state)
                state = result.state
                counted += [row.counted for row in result.rows]
                if turn == 0:
                    await disturb(nodes[1])
            await federation.close()
        return state.theta.tobytes(), counted

    theta, counted = asyncio.run(play("nodes.backend=renode"))
    assert theta == asyncio.run(play("nodes.backend=host"))[0]
    assert [i for i, one in enumerate(counted) if not one] == uncounted


async def _round(backend: str, firmware: str) -> list[tuple[Counts, Profile]]:
    """Counts and profile of the one node in two rounds, and the pricing of all."""
    changes = (f"nodes.backend={backend}", f"nodes.firmware={firmware}", "nodes.count=1")
    settings = read(DEMO, changes)
    found: list[tuple[Counts, Profile]] = []
    with private_directory() as directory:
        (node,) = make_nodes(settings.nodes, directory)
        federation = Federation(settings, LinkEngine(Client(settings), [node]))
        state = await federation.start()
        before = None
        for _ in range(2):
            state = (await federation.round(state)).state
            assert node.transport is not None
            assert node.pricing is not None
            counts = node.transport.counts()
            assert counts is not None
            delta = counts if before is None else counts.since(before)
            assert delta is not None
            [profile] = node.pricing.profiles([delta])
            assert profile is not None
            found.append((delta, profile))
            before = counts
        await federation.close()
    return found


def _by_group(counts: BlockCounts, image: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64 [phases, groups] each: instructions that no IT block decides, and those that one does,
    by what their first halfword tells."""
    program, (timing, *_) = Program.read(image), Timing.all()
    opcodes = Opcodes.of(timing.encodings)
    found = np.zeros((2, len(counts.left), len(opcodes.groups)), np.int64)
    for start, end, left in zip(
        counts.starts.tolist(), counts.ends.tolist(), counts.left.sum(axis=2).T, strict=True
    ):
        for one in decode(program.code(start, end), start, timing.classify):
            first = int.from_bytes(program.code(one.address, one.address + 2), "little")
            found[int(one.conditional), :, opcodes.find(first)] += left
    return found[0], found[1]


@pytest.mark.renode
@installed
@pytest.mark.parametrize(("firmware", "board"), IMAGES[:2])
def test_counts_by_class_are_those_of_qemu(firmware: str, board: str):
    qemu, on_renode = (asyncio.run(_round(name, firmware)) for name in ("qemu", "renode"))
    profile = qemu[0][1]
    phases = [profile.phases.index(name) for name in ("reconstruct", "learn", "select")]
    # The first round's requests were traced.
    columns = [i for i, name in enumerate(COUNTED) if name != "conditional"]
    traced = on_renode[0][1]
    assert profile.counts[phases][:, columns].min() >= 0
    assert np.array_equal(traced.counts[phases][:, columns], profile.counts[phases][:, columns])
    for core, cycles in profile.cycles.items():
        # QEMU also ends a block where a page of 1 KiB does, and then what comes before the page
        # and what lies behind the next branch do not know of each other.
        assert traced.cycles[core][phases] == pytest.approx(cycles[phases], rel=5e-4)
    # The second round's were counted.
    image = MPS2_IMAGE if firmware == "bare" else zephyr_image(board)
    blocks, opcodes = qemu[1][0], on_renode[1][0]
    assert isinstance(blocks, BlockCounts)
    assert isinstance(opcodes, OpcodeCounts)
    surely, conditional = (found[phases] for found in _by_group(blocks, image))
    counted = opcodes.counts[phases]
    assert np.array_equal(counted[conditional == 0], surely[conditional == 0])
    assert np.all((surely <= counted) & (counted <= surely + conditional))
    for core, cycles in qemu[1][1].cycles.items():
        assert on_renode[1][1].cycles[core][phases] == pytest.approx(cycles[phases], rel=0.03)


@pytest.mark.renode
@installed
def test_who_is_late_on_renode_is_late_on_qemu(tmp_path: Path):
    late: list[list[tuple[int, int]]] = []
    slow = "participation={deadline=0.5, slow={share=0.5, factor=100}}"
    for backend in ("qemu", "renode"):
        changes = (f"nodes.backend={backend}", "nodes.count=2", slow, "evaluation.devices=1")
        settings = read(DEMO, (*changes, "rounds=2"))
        store, run = execute(settings, tmp_path / backend)
        rows = store.node_rounds(run.id)
        late.append([(row.round, row.node) for row in rows if row.late])
    assert late[0] == late[1]
    assert len(late[0]) == 2  # the slow one, in both rounds


@pytest.mark.renode
@installed
def test_a_platform_that_does_not_load_is_said_in_renode_s_words(tmp_path: Path):
    platform = tmp_path / "bad.repl"
    platform.write_text("cpu: CPU.NoSuchProcessor @ sysbus\n")
    process = asyncio.run(_fails(tmp_path, "Renode cannot do 'include.*NoSuch", platform))
    assert process is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(process, 0)


@pytest.mark.renode
@installed
@pytest.mark.zephyr
def test_an_image_for_another_board(monkeypatch: pytest.MonkeyPatch):
    """It says nothing; where Renode's words are is said, and they are there."""
    image = zephyr_image("nrf52840dk")
    if not image.is_file():
        pytest.skip("'make zephyr' builds it")
    monkeypatch.setattr(backends, "emulated_image", lambda settings: (image, ""))
    settings = read(DEMO, ("nodes.backend=renode", "nodes.count=1", "nodes.timeout=0.5"))

    async def start() -> None:
        with private_directory() as directory:
            nodes = make_nodes(settings.nodes, directory)
            federation = Federation(settings, LinkEngine(Client(settings), nodes))
            try:
                await federation.start()
            finally:
                await federation.close()

    with pytest.raises(
        NodeLost, match=r"node-0 did not answer 'hello'.*; it said: .*\((.*renode.log)\)$"
    ) as error:
        asyncio.run(start())
    log = Path(str(error.value).rpartition("(")[2][:-1])
    assert "Renode, version" in log.read_text()
    assert not re.search(r"said: tinymetafed-\d+;", str(error.value))  # which the bench has it say
    assert [path.name for path in log.parent.iterdir()] == ["renode.log"]
    shutil.rmtree(log.parent)


async def _fails(folder: Path, says: str, platform: Path = PLATFORM) -> int | None:
    """Returns the number of the process that was started, if one was."""
    started: list[int] = []
    start = asyncio.create_subprocess_exec

    async def noted(*arguments: Any, **settings: Any) -> asyncio.subprocess.Process:
        process = await start(*arguments, **settings)
        started.append(process.pid)
        return process

    machines = Renode(folder, MPS2_IMAGE, platform)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "create_subprocess_exec", noted)
        with pytest.raises(TinyMetaFedError, match=says):
            await RenodeTransport.open(machines, "node-0")
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
    monkeypatch.setattr(renode_console, "START_TIMEOUT", 0.5)
    process = asyncio.run(_fails(tmp_path, says))
    assert process is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(process, 0)


@pytest.mark.parametrize("line", ["{said}{log}", "{log}{said}"])
def test_what_a_renode_logs_on_the_line_of_an_answer_s_end_is_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
):
    log = "09:55:01.0671 [INFO] Created new disassembler"
    script = f"""while read -r l; do
        echo "(monitor) $l"
        case $l in
            echo*) said=$(eval "$l"); echo "{line.format(said="${said}", log=log)}";;
            *) echo "Renode, version 1.14.0";;
        esac
    done"""
    monkeypatch.setenv("TMF_RENODE", _pretend(tmp_path, script))
    monkeypatch.setattr(renode_console, "START_TIMEOUT", 5)
    asyncio.run(_fails(tmp_path, "Renode 1.15.3 or later is needed"))


CONSOLE = """while read -r l; do
    echo "(node-0) $l"
    case $l in
        echo*) eval "$l";;
        version) echo "Renode, version 1.16.1";;
        *ExecutedInstructions) n=$((n + {instructions})); printf '0x%016X\\n' $n;;
        *ElapsedVirtualTime) t=$((t + {time}))
            printf '[Domain = Elapsed Virtual Time: 00:01:%02d.%06d000\\n' \\
                $((t / 1000000)) $((t % 1000000))
            echo 'Quantum: 00:00:00.000100000, TimeElapsed = 00:01:03.000000000]';;
    esac
done"""


@pytest.mark.parametrize(
    ("instructions", "time", "computes"),
    [
        (0, 200_000, False), (300, 200_000, False), (2_000_000, 20_000, True), (20_000, 200, True),
        (0, 0, False),
    ],
    ids=["asleep", "with a timer", "at work", "on a busy bench", "paused"],
)  # fmt: skip
def test_a_processor_at_work_is_told_from_one_that_waits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    instructions: int,
    time: int,
    computes: bool,
):
    """By instructions in a part of the machine's own time, whatever else the console says; these
    and microseconds pass between two questions."""
    script = CONSOLE.format(instructions=instructions, time=time)
    monkeypatch.setenv("TMF_RENODE", _pretend(tmp_path, script))
    monkeypatch.setattr(renode, "LOOK_TIME", 0)

    async def look() -> bool:
        machines = Renode(tmp_path, MPS2_IMAGE, PLATFORM)
        await machines._start()
        try:
            return await machines.executes("node-0")
        finally:
            await machines._end()

    assert asyncio.run(look()) is computes


@pytest.mark.renode
@installed
def test_a_frame_is_repeated_where_it_is_lost_and_not_where_the_node_computes():
    """With a timeout that is far shorter than the training."""
    settings = read(DEMO, ("nodes.backend=renode", "nodes.count=1", "nodes.timeout=30"))
    model, samples = settings.built_model, settings.task.device(1, 1, 32, 0)[0]
    work = (Store("support"), Train("stored", rate=0.01, epochs=20), Select(100), Send())
    sent: list[int] = []

    async def play() -> None:
        with private_directory() as directory:
            (node,) = make_nodes(settings.nodes, directory)
            node.watch = lambda requests: nullcontext()  # a trace of it would be long
            await node.start()
            await node.load(model, model.description(accumulate=False, capacity=32))
            transport, lost = node.transport, [False]
            assert isinstance(transport, RenodeTransport)
            assert not await transport.computing()
            write = transport.write

            async def counted(data: bytes) -> None:
                sent.append(len(data))
                if not lost.pop():
                    await write(data)
                lost.append(False)

            transport.write = counted
            node.timeout = 0.2
            theta = np.zeros(model.parameters, np.float32)
            broadcast = Broadcast(theta, np.ones(len(theta), np.int64), 1)
            await node.run(work, samples, None, broadcast)
            node.timeout = 2  # a busy machine may take longer than the training's for a greeting
            lost[:] = [True]
            await node.greet()
            await node.close()

    asyncio.run(play())
    frame, *greetings = sent
    assert frame > 1000
    assert len(greetings) == 2


@pytest.mark.parametrize("needs", [True, False], ids=["asked for", "by default"])
def test_a_renode_that_shares_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: bool
):
    """It is refused where DMA is asked for, and reached over its UARTs otherwise."""
    script = CONSOLE.replace("1.16.1", "1.15.3").format(instructions=0, time=0)
    monkeypatch.setenv("TMF_RENODE", _pretend(tmp_path, script))
    place = window.find(MPS2_IMAGE)

    async def boot() -> None:
        machines = Renode(tmp_path, MPS2_IMAGE, PLATFORM, place=place, needs_window=needs)
        ours, theirs = os.openpty()
        (tmp_path / "node-0.pty").symlink_to(os.ttyname(theirs))
        try:
            uart, shared = await machines.boot("node-0")
            os.close(uart)
            await machines.leave()
            assert shared is None
        finally:
            os.close(ours)
            os.close(theirs)

    if needs:
        says = "nodes.link: dma takes Renode 1.16.0 or later, and this is 1.15.3; use uart"
        with pytest.raises(TinyMetaFedError, match=says):
            asyncio.run(boot())
    else:
        asyncio.run(boot())


def test_no_renode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TMF_RENODE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(renode_console, "RENODE", tmp_path / "none")
    asyncio.run(_fails(tmp_path, "Renode is not installed; put `renode`"))
    monkeypatch.setenv("TMF_RENODE", str(tmp_path / "nowhere"))
    asyncio.run(_fails(tmp_path, "nowhere: cannot be started: No such file"))


@pytest.mark.renode
@installed
@pytest.mark.parametrize(("firmware", "board"), [IMAGES[0], IMAGES[2]])
def test_a_node_measures_its_cycles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], firmware: str, board: str
):
    """By a counter that goes by the machine's time. So the phases are as long by it as by the
    instructions that are counted, at as many a second as the machine executes; and nothing else of
    the round changes."""
    changes = ("rounds=2", "evaluation.devices=1", "evaluation.every=2", "nodes.count=2")
    nodes = ("nodes.backend=renode", f"nodes.firmware={firmware}", f"nodes.board={board}")
    store, run = execute(
        read(DEMO, (*changes, *nodes, "nodes.measure=true")), tmp_path / "measured"
    )
    other, plain = execute(read(DEMO, (*changes, "nodes.backend=host")), tmp_path / "host")
    assert run.theta == plain.theta
    rows = [(r.bytes_down, r.bytes_up, r.sequence) for r in store.node_rounds(run.id)]
    assert rows == [(r.bytes_down, r.bytes_up, r.sequence) for r in other.node_rounds(plain.id)]
    measured = {(m.round, m.node, m.phase): m.cycles for m in store.measured(run.id)}
    assert {place[:2] for place in measured} == {(1, 0), (1, 1), (2, 0), (2, 1)}
    executed = {(p.round, p.node, p.phase): p.instructions for p in store.phases(run.id)}
    rates = [measured[place] / executed[place] for place in measured if place[2] == "learn"]
    assert max(rates) < 1.5 * min(rates)  # machines wait for each other by the millisecond
    assert min(rates) > 0
    priced = described.settings(run).priced
    table = of_measured(store.measured(run.id), store.phases(run.id), priced)
    assert list(table.columns[0].cells) == ["reconstruct", "learn", "select"]
    assert all(table.columns[3].cells)


@pytest.mark.renode
@installed
def test_some_rounds_are_counted_and_the_others_are_taken_for_their_mean(
    tmp_path: Path,
):
    """Weights and bytes are those of counting all, and so is what a counted round executes."""
    changes = ("rounds=4", "evaluation.devices=1", "evaluation.every=4", "nodes.count=2")
    on_renode = (*changes, "nodes.backend=renode")
    store, all_counted = execute(read(DEMO, on_renode), tmp_path / "all")
    other, some = execute(read(DEMO, (*on_renode, "nodes.counted=2")), tmp_path / "some")
    assert some.theta == all_counted.theta
    rows = store.node_rounds(all_counted.id)
    assert other.node_rounds(some.id) == [replace(row, counted=row.round in (2, 4)) for row in rows]

    def executed(store: results.Store, run: results.Run) -> dict[tuple[int, int, str], int]:
        return {
            (one.round, one.node, one.phase): one.instructions
            for one in store.phases(run.id)
            if one.phase in ("reconstruct", "learn", "select") and one.round in (2, 4)
        }

    assert executed(other, some) == executed(store, all_counted)
    whole, sample = (
        described.describe(one, run).account(one, run).spent()
        for one, run in ((store, all_counted), (other, some))
    )
    assert whole is not None
    assert sample is not None
    assert sample.balance().joules == pytest.approx(whole.balance().joules, rel=0.02)


def test_what_counts_only_some_rounds(experiment: MakeExperiment):
    for settings, message in (
        (("nodes.counted=1",), "nodes.counted: counting costs qemu nodes nothing; leave it out"),
        (("nodes.backend=renode", "nodes.counted=9", "rounds=8"), "nodes.counted: 9 of 8 rounds"),
        (
            ("nodes.backend=renode", "nodes.counted=1", "participation.deadline=1"),
            "nodes.counted: with participation.deadline it has to be known of each round",
        ),
    ):
        with pytest.raises(TinyMetaFedError, match=message):
            experiment("nodes={backend='qemu'}", *settings)
