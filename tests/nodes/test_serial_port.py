"""Nodes on boards at serial ports; QEMU behind a pseudo-terminal stands for a board."""

import asyncio
import errno
import grp
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import serial
import typer

from calling import call
from conftest import MakeExperiment
from desk import Board
from running import came_to, execute
from tinymetafed.cli import boards as board_commands
from tinymetafed.cli.boards import boards as list_boards
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import Experiment, read
from tinymetafed.federation.client import Client
from tinymetafed.federation.engines import LinkEngine
from tinymetafed.federation.federation import Federation
from tinymetafed.nodes import boards, serial_port
from tinymetafed.nodes.backends import make_nodes
from tinymetafed.places import MPS2_IMAGE, PROJECT, zephyr_image

DEMO = PROJECT / "experiments/demo.toml"
ROUNDS = ("rounds=2", "evaluation.devices=2", "evaluation.every=2")
MakeBoard = Callable[..., Board]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[MakeBoard]:
    """Plugs in boards, which are unplugged when the test ends."""
    with ExitStack() as stack:

        def make(name: str = "board-a", **settings: object) -> Board:
            return stack.enter_context(Board(tmp_path / name, **settings))  # pyright: ignore

        yield make


def _ports(*those: Board) -> tuple[str, ...]:
    names = ", ".join(f"'{one.path}'" for one in those)
    return "nodes.backend=serial", f"nodes.ports=[{names}]", f"nodes.count={len(those)}"


def _on_host(count: int, *changes: str) -> Experiment:
    return read(DEMO, ("nodes.backend=host", f"nodes.count={count}", *changes))


@pytest.mark.parametrize("baud", [115_200, 460_800, 1_000_000])
def test_weights_are_those_of_the_host_bit_for_bit(tmp_path: Path, board: MakeBoard, baud: int):
    """And every byte on the links."""
    those = [board("board-a"), board("board-b")]
    changes = (*_ports(*those), f"nodes.baud={baud}", *ROUNDS)
    found = came_to(*execute(read(DEMO, changes), tmp_path / "boards"))
    assert found == came_to(*execute(_on_host(2, *ROUNDS), tmp_path / "host"))


@pytest.mark.parametrize(
    "how",
    [
        {"resets": True},
        {"loses": 3},
        {"loses": 15},  # more than one question
        {"says": b"*** Booting ***\r\n\0\x55\xaa\0\0half a frame"},
        {"resets": True, "loses": 40, "says": b"\xff\xfe\0"},
    ],
)
def test_what_happens_when_a_port_is_opened_is_coped_with(
    tmp_path: Path, board: MakeBoard, how: dict[str, object]
):
    one = board(**how)
    store, run = execute(read(DEMO, (*_ports(one), *ROUNDS)), tmp_path / "boards")
    assert one.openings == 1
    assert store.events(run.id) == []
    expected = came_to(*execute(_on_host(1, *ROUNDS), tmp_path / "host"))
    assert came_to(store, run) == expected


def test_a_board_is_unplugged_and_comes_back(
    tmp_path: Path, board: MakeBoard, monkeypatch: pytest.MonkeyPatch
):
    """In the middle of a run, at another name of the kernel's; the run ends in the same weights."""
    one, other = board("board-a"), board("board-b")
    opened, looks = serial_port.open_port, 0

    def opening(port: str, baud: int) -> serial.Serial:
        nonlocal looks
        if port == str(one.path) and not one.path.exists():
            looks += 1
            if looks == 2:
                one.plug_in()
        return opened(port, baud)

    monkeypatch.setattr(serial_port, "open_port", opening)
    monkeypatch.setattr(serial_port, "LOOK_TIME", 0)
    experiment = read(DEMO, (*_ports(one, other), *ROUNDS))

    async def play(experiment: Experiment, *, unplugs: bool) -> tuple[bytes, list[str]]:
        nodes = make_nodes(experiment.nodes, tmp_path)
        federation = Federation(experiment, LinkEngine(Client(experiment), nodes))
        state = await federation.start()
        events: list[str] = []
        for number in range(2):
            if unplugs and number == 1:
                one.unplug()
            result = await federation.round(state)
            state = result.state
            events += [event.kind for event in result.events]
        await federation.close()
        return state.theta.tobytes(), events

    theta, events = asyncio.run(play(experiment, unplugs=True))
    assert (looks, events) == (2, ["lost", "restart"])
    assert theta == asyncio.run(play(_on_host(2, *ROUNDS), unplugs=False))[0]


def test_a_board_that_stays_away_ends_the_run(
    tmp_path: Path, board: MakeBoard, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(serial_port, "RETURN_TIME", 0.01)
    one = board()
    experiment = read(DEMO, (*_ports(one), *ROUNDS))

    async def play() -> None:
        (node,) = make_nodes(experiment.nodes, tmp_path)
        await node.start()
        one.unplug()
        try:
            await node.restart()
        finally:
            await node.close()

    with pytest.raises(TinyMetaFedError, match="did not come back within 0.01 s: .*; plug it in"):
        asyncio.run(play())


def _started(ports: Sequence[str], *changes: str) -> None:
    given = ", ".join(f"'{port}'" for port in ports)
    changes = ("nodes.backend=serial", f"nodes.ports=[{given}]", "nodes.count=1", *changes)
    experiment = read(DEMO, changes)

    async def start() -> None:
        nodes = make_nodes(experiment.nodes, Path("unused"))
        try:
            for node in nodes:
                await node.start()
        finally:
            for node in nodes:
                await node.close()

    asyncio.run(start())


def test_a_port_at_which_no_node_answers_says_what_was_heard(board: MakeBoard):
    silent = board("silent", image=None)
    with pytest.raises(TinyMetaFedError) as error:
        _started([str(silent.path)], "nodes.timeout=0.1")
    assert str(error.value) == (
        f"node-0: {silent.path}: no node answers at 115200 baud within 0.1 s; nothing was heard; "
        "check the port, nodes.baud, and that the board has the firmware"
    )
    gps = board("gps", image=None, says=b"$GPGGA,1\x1b[2J\r\n")
    with pytest.raises(TinyMetaFedError, match="14 bytes were heard that are no frame: ") as error:
        _started([str(gps.path)], "nodes.timeout=0.1")
    assert r"'$GPGGA,1\x1b[2J\r\n'" in str(error.value)
    assert str(error.value).isprintable()
    deaf = board("deaf", loses=10**6, resets=True)
    with pytest.raises(TinyMetaFedError, match="says hello but does not hear"):
        _started([str(deaf.path)], "nodes.timeout=5")


def test_a_port_that_another_process_holds(board: MakeBoard):
    one = board()
    with (
        serial.Serial(str(one.path), exclusive=True),
        pytest.raises(TinyMetaFedError, match=f"{one.path}: another process has it open"),
    ):
        _started([str(one.path)])


def test_what_is_no_port(tmp_path: Path):
    with pytest.raises(TinyMetaFedError, match=r"none: No such file.*; plug the board in"):
        _started([str(tmp_path / "none")])
    (tmp_path / "file").write_text("")
    with pytest.raises(TinyMetaFedError, match="file: cannot be opened as a serial port"):
        _started([str(tmp_path / "file")])


def test_permission_denied_says_which_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    port = tmp_path / "port"
    port.write_text("")
    port.chmod(0o660)

    def refused(*_: object, **settings: object) -> None:
        raise serial.SerialException(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(serial, "Serial", refused)
    group = grp.getgrgid(port.stat().st_gid).gr_name
    with pytest.raises(TinyMetaFedError, match=f"denied; it is for the group {group}: 'sudo user"):
        _started([str(port)])
    port.chmod(0o600)
    with pytest.raises(TinyMetaFedError, match="denied; its mode allows no group"):
        _started([str(port)])


def test_auto_takes_the_ports_at_which_a_node_answers(
    tmp_path: Path, board: MakeBoard, monkeypatch: pytest.MonkeyPatch
):
    those = [board("board-a"), board("board-b"), board("silent", image=None)]
    found = {str(one.path): "a bridge" for one in (those[2], *those[:2])}
    monkeypatch.setattr(boards, "ports", lambda: found)
    auto = ("nodes.backend=serial", "nodes.ports=auto", "nodes.timeout=3")
    store, run = execute(read(DEMO, (*auto, "nodes.count=2", *ROUNDS)), tmp_path / "boards")
    assert came_to(store, run) == came_to(*execute(_on_host(2, *ROUNDS), tmp_path / "host"))
    with pytest.raises(TinyMetaFedError, match="3 nodes are wanted, and at 2 of 3 serial ports"):
        execute(read(DEMO, (*auto, "nodes.count=3", *ROUNDS)), tmp_path / "more")


def test_boards_are_listed(
    board: MakeBoard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Those that are found, and those that are named; asked at the same time."""
    one, silent = board("board-a"), board("silent", image=None)
    monkeypatch.setattr(boards, "ports", lambda: {str(one.path): "a bridge"})
    list_boards([str(silent.path), str(one.path)], timeout=3, json=True)
    first, second = json.loads(capsys.readouterr().out)
    assert (first["port"], first["description"]) == (str(one.path), "a bridge")
    assert (first["board"], first["memory"], first["problem"]) == ("mps2_an386", 216 * 1024, None)
    assert boards.image_of(bytes.fromhex(first["build"])) == MPS2_IMAGE
    assert (second["port"], second["firmware"]) == (str(silent.path), None)
    assert "nothing was heard" in second["problem"]


def test_where_no_node_answers_it_is_said(
    board: MakeBoard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    silent = board("silent", image=None, says=b"[bold]\n")
    monkeypatch.setattr(boards, "ports", dict[str, str])
    with pytest.raises(typer.Exit):
        list_boards([str(silent.path)], timeout=0.1)
    assert r"'[bold]\n'" in capsys.readouterr().out.replace("\n", "")
    with pytest.raises(TinyMetaFedError, match="has no serial port"):
        list_boards()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("nodes.backend=serial",), "nodes.ports: serial nodes have some"),
        (("nodes.ports=auto",), "nodes.ports: serial nodes have some, and no others"),
        (("nodes.backend=serial", "nodes.ports=['/a', '/a']"), "nodes.ports: each has to be"),
        (("nodes.backend=serial", "nodes.ports=['/a', 'auto']"), "nodes.ports: each has to be"),
        (("nodes.backend=serial", "nodes.ports=['/a']", "nodes.count=2"), "ports: 1 are too few"),
        (
            ("nodes.backend=serial", "nodes.ports=/a", "nodes.link=dma"),
            "serial nodes have no choice of it",
        ),
        (("nodes.backend=serial", "nodes.ports=/a", "participation.deadline=1"), "not counted"),
    ],
)
def test_settings_that_do_not_fit(
    experiment: MakeExperiment, changes: tuple[str, ...], message: str
):
    with pytest.raises(TinyMetaFedError, match=message):
        experiment("nodes={backend='qemu'}", *changes)


@pytest.mark.parametrize("status", [0, 7])
def test_flashing_is_left_to_west(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], status: int
):
    folder = tmp_path / "some_board"
    folder.mkdir()
    (folder / "build.ninja").touch()
    west = tmp_path / "west"
    west.write_text(f'#!/bin/sh\necho "$@"\nexit {status}\n')
    west.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(board_commands, "ZEPHYR_IMAGES", tmp_path)
    if status:
        with pytest.raises(TinyMetaFedError, match="some_board ended with exit status 7"):
            board_commands.flash("some_board", ["--runner", "pyocd"])
    else:
        board_commands.flash("some_board", ["--runner", "pyocd"])
    assert capfd.readouterr().out == f"flash -d {folder} --runner pyocd\n"
    with pytest.raises(TinyMetaFedError, match="other: it was not built in .* there is some_board"):
        board_commands.flash("other")


def test_boards_are_a_group_of_a_fleet(tmp_path: Path, board: MakeBoard):
    """The weights are those of nodes of one kind, and the table says of which groups they are."""
    groups = (
        f"{{backend='serial', ports='{board().path}'}}, {{backend='host', count=2}}, {{count=1}}"
    )
    changes = (f"nodes={{groups=[{groups}]}}", *ROUNDS)
    _, run = execute(read(DEMO, changes), tmp_path / "runs")
    _, on_host = execute(_on_host(4, *ROUNDS), tmp_path / "host")
    assert run.theta == on_host.theta
    assert run.backend == "serial+host+qemu"
    shown = call(tmp_path, "energy").stdout
    rows = [line.split() for line in shown.splitlines() if "not counted" in line]
    assert [row[1:5] for row in rows] == [["0", "│", "serial", "│"], ["1", "to", "2", "│"]]


def test_a_port_is_in_one_group(experiment: MakeExperiment):
    one = "{backend='serial', ports='auto'}"
    with pytest.raises(TinyMetaFedError, match=r"nodes.ports: each is in one group, and auto too"):
        experiment(f"nodes={{groups=[{one}, {one}]}}")


def test_there_is_a_node_for_each_port(experiment: MakeExperiment):
    nodes = "nodes={backend='serial', ports=['/a', '/b', '/c']}"
    assert experiment(nodes).nodes.count == 3


def test_cycles_that_stand_still_are_not_measured(tmp_path: Path, board: MakeBoard):
    """As QEMU's do. What asks for them is in no byte of the round."""
    changes = (*_ports(board()), *ROUNDS, "nodes.emulate=1")
    store, run = execute(read(DEMO, changes), tmp_path / "runs")
    assert [row.counted for row in store.node_rounds(run.id)] == [False, True]
    assert {one.round for one in store.phases(run.id)} == {2}
    assert store.measured(run.id) == []
    shown = call(tmp_path, "energy")
    assert "Cycles were not measured: the nodes' counter (DWT->CYCCNT) stands" in shown.stdout
    assert "learn" in shown.stdout, shown.stderr


@pytest.mark.zephyr
def test_a_cortex_m33_plays_a_federation(tmp_path: Path, board: MakeBoard):
    """Zephyr on the MPS2's AN521, whose processor has no FPU for it: the same weights."""
    image = zephyr_image("mps2_an521")
    if not image.is_file():
        pytest.skip("no image; run 'make zephyr'")
    machine = ("-machine", "mps2-an521", "-display", "none", "-nic", "none")
    one = board(image=image, machine=machine)
    store, run = execute(read(DEMO, (*_ports(one), *ROUNDS)), tmp_path / "boards")
    assert came_to(store, run) == came_to(*execute(_on_host(1, *ROUNDS), tmp_path / "host"))
    (found,) = asyncio.run(boards.ask([str(one.path)], 115_200, 10))
    assert found.hello is not None
    assert (found.name, found.hello.memory) == ("mps2_an521", 216 * 1024)
