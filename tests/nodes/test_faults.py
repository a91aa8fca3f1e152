"""Firmware with mistakes planted in it: what is said of each, and what a run comes to."""

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from conftest import MakeExperiment
from planting import BOOT, IMAGE, line, plant
from running import came_to, execute
from tinymetafed.errors import FirmwareFault, TinyMetaFedError
from tinymetafed.experiments import runner
from tinymetafed.experiments.experiment import Experiment
from tinymetafed.federation import client
from tinymetafed.federation.client import Client
from tinymetafed.federation.engines import LinkEngine
from tinymetafed.federation.federation import Federation
from tinymetafed.link import Fault, messages
from tinymetafed.nodes import backends, fault
from tinymetafed.nodes.backends import make_nodes, private_directory
from tinymetafed.nodes.debug_info import DebugInfo, Place, debug_info
from tinymetafed.places import MPS2_IMAGE
from tinymetafed.results.store import Event, Store

EMULATED = (
    "nodes={backend='qemu', count=1, timeout=1, patience=0.2}", "evaluation.devices=1", "rounds=3",
)  # fmt: skip


def _detail(event: Event) -> dict[str, Any]:
    return json.loads(event.detail)


def _disturbed(
    experiment: Experiment, image: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[FirmwareFault, list[Event]]:
    """A round of one node that is not started again: what ends it, and what is noted of it."""
    monkeypatch.setattr(backends, "MPS2_IMAGE", image)
    monkeypatch.setattr(client, "RESTARTS", 0)

    async def play() -> tuple[FirmwareFault, list[Event]]:
        with private_directory() as directory:
            nodes = make_nodes(experiment.nodes, directory)
            federation = Federation(experiment, LinkEngine(Client(experiment), nodes))
            try:
                with pytest.raises(FirmwareFault) as error:
                    await federation.round(await federation.start())
                return error.value, federation.take_events()
            finally:
                await federation.close()

    return asyncio.run(play())


IN = "in {0}, planted_faults.c:{line}, called from "


@pytest.mark.parametrize(
    ("mistake", "begins", "ends"),
    [
        ("bad_write", f"HardFault {IN}", ": data access violation at address 0x60000000"),
        ("bad_read", f"HardFault {IN}", ": data access violation at address 0x60000000"),
        ("write_to_null", f"HardFault {IN}", ": data access violation at address 0x00000000"),
        ("undefined", f"HardFault {IN}", ": undefined instruction"),
        ("division", f"HardFault {IN}", ": division by zero"),
        ("unaligned", f"HardFault {IN}", ": unaligned access"),
        (
            "bad_jump",
            "HardFault at 0x60000000, which is in no function, called from "
            "bad_jump, planted_faults.c:{line}",
            ": instruction access violation",
        ),
        ("no_thumb", "HardFault in bad_write, ", ": invalid state"),
        (
            "deep",
            "HardFault, called from deep, planted_faults.c:{line}: stack overflow",
            "data access violation at address 0x1ffffff4",
        ),
        ("locked_up", f"lockup {IN}", ": a fault in the handler of a fault"),
        ("endless", f"endless loop {IN}", "or have the node do less"),
    ],
)
def test_a_mistake_is_said_with_its_place(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch,
    mistake: str, begins: str, ends: str,
):  # fmt: skip
    image = plant(mistake, tmp_path, 1)
    error, events = _disturbed(experiment(*EMULATED), image, monkeypatch)
    (event,) = events
    text, place = _detail(event)["text"], line(f"line: {mistake}")
    assert event.kind == ("hang" if mistake == "endless" else "fault")
    assert (event.round, event.node) == (1, 0)
    assert event.device is not None
    assert text.startswith(begins.format(mistake, line=place))
    if mistake == "deep":  # where the stack ends depends on the frames before
        ends = "data access violation at address 0x1ffff"
        assert ends in text
    else:
        assert text.endswith(ends)
    assert "planted_faults.c" in text
    assert str(error) == f"node-0: {text}"
    registers = _detail(event)["registers"]
    assert {"pc", "lr", "sp", "r0"} <= set(registers)
    if begins.startswith(f"HardFault {IN}"):
        assert debug_info(IMAGE).place(int(registers["pc"], 16)) == Place(
            mistake, "planted_faults.c", place
        )


@pytest.mark.parametrize(
    ("mistake", "begins"),
    [
        ("bad_write", "node-0: HardFault in bad_write, planted_faults.c:"),
        ("locked_up", "node-0: lockup in locked_up, planted_faults.c:"),
        ("endless", "node-0: endless loop in endless, planted_faults.c:"),
    ],
)
def test_a_mistake_before_the_hello(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch,
    mistake: str, begins: str,
):  # fmt: skip
    image = plant(mistake, tmp_path, BOOT)
    error, (event,) = _disturbed(experiment(*EMULATED), image, monkeypatch)
    assert str(error).startswith(begins)
    assert (event.round, event.device) == (None, None)


def _run(
    experiment: Experiment, image: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, object], list[Event]]:
    monkeypatch.setattr(backends, "MPS2_IMAGE", image)
    store, run = execute(experiment, folder)
    return came_to(store, run), store.events(run.id)


def test_a_run_with_faults_has_them_in_the_store_and_comes_to_the_same(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    """The node faults in its second round after each boot, again and again. A healthy one, of the
    same image but for the mistake, has no events."""
    settings = experiment(*EMULATED)
    healthy, none = _run(settings, plant("none", tmp_path), tmp_path / "healthy", monkeypatch)
    assert none == []
    faulty, events = _run(settings, plant("bad_write", tmp_path), tmp_path / "f", monkeypatch)
    assert [(one.round, one.node, one.kind) for one in events] == [
        (2, 0, "fault"), (2, 0, "restart"), (3, 0, "fault"), (3, 0, "restart"),
    ]  # fmt: skip
    assert len({one.device for one in events}) == 2
    for what in ("theta", "evaluations", "kept"):
        assert faulty[what] == healthy[what]


def test_a_reset_and_a_node_that_sleeps_for_ever(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    """The first is the firmware's fault; the second is not known to be."""
    settings = experiment(*EMULATED, "nodes.timeout=0.3", rounds=2)
    _, events = _run(settings, plant("reset", tmp_path), tmp_path / "reset", monkeypatch)
    assert [one.kind for one in events] == ["reset", "restart"]
    _, events = _run(settings, plant("asleep", tmp_path), tmp_path / "asleep", monkeypatch)
    retries = ["timeout", "repetition"] * 2 + ["timeout"]
    assert [one.kind for one in events] == [*retries, "lost", "restart"]
    assert {one.round for one in events} == {2}


def test_a_run_that_goes_on_has_each_event_once(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    """Its node boots when the run goes on, so that it faults one round later."""
    monkeypatch.setattr(backends, "MPS2_IMAGE", plant("bad_write", tmp_path))
    settings = experiment(*EMULATED, rounds=4)
    store = Store(tmp_path)

    class Stopped(Exception):
        pass

    def stop(done: int, doing: str) -> None:
        if (done, doing) == (2, "training"):
            raise Stopped

    with pytest.raises(Stopped):
        runner.execute(settings, store, None, stop)
    run, _ = runner.execute(settings, store, store.run("last"), lambda done, doing: None)
    found = [(one.round, one.kind) for one in store.events(run.id)]
    assert found == [(2, "fault"), (2, "restart"), (4, "fault"), (4, "restart")]


@pytest.mark.parametrize("tolerate", [False, True])
def test_a_run_that_cannot_go_on_has_its_events(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch, tolerate: bool
):
    monkeypatch.setattr(backends, "MPS2_IMAGE", plant("undefined", tmp_path, 2))
    monkeypatch.setattr(client, "RESTARTS", 0)
    settings = experiment(*EMULATED, f"faults.tolerate={str(tolerate).lower()}")
    store = Store(tmp_path)
    with pytest.raises(TinyMetaFedError, match="HardFault in undefined") as error:
        runner.execute(settings, store, None, lambda done, doing: None)
    assert isinstance(error.value, FirmwareFault) == (not tolerate)
    (run,) = store.runs()
    assert [(one.round, one.kind) for one in store.events(run.id)] == [(2, "fault")]


def test_a_slow_bench_makes_no_events(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    """However short the timeout is: the emulator is at work whenever it is looked at."""
    settings = experiment(*EMULATED, "nodes.timeout=0.002", "nodes.patience=1000")
    monkeypatch.setattr(backends.QemuTransport, "computing", _always)
    _, run = execute(settings, tmp_path)
    assert Store(tmp_path).events(run.id) == []


async def _always(self: object) -> bool:
    return True


def _message(exception: int, reason: int, **registers: int) -> Fault:
    names = messages.REGISTERS
    words = [registers.get(name, 0) for name in names]
    return Fault(exception, reason, b"".join(word.to_bytes(4, "little") for word in words))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (_message(0, 4, pc=2, lr=5), "kernel panic at 0x00000002, which is in no function"),
        (_message(4, 2, cfsr=0x92, mmfar=0x2000_1000),
         "MemManage fault: stack overflow data access violation at address 0x20001000"),
        (_message(3, 0, hfsr=2), "HardFault: vector table cannot be read"),
        (_message(5, 0, cfsr=1 << 10), "BusFault: data bus error of an earlier store"),
        (_message(16, 9), "exception 16"),
        (_message(0, 25), "fatal error 25"),
    ],
)  # fmt: skip
def test_what_registers_say(message: Fault, says: str):
    assert fault.of_message(message, None).text == says


def test_an_image_without_debug_information_says_addresses(tmp_path: Path):
    broken = tmp_path / "broken.elf"
    broken.write_bytes(MPS2_IMAGE.read_bytes()[:200])
    text = fault.of_message(_message(3, 0, pc=0x100), broken).text
    assert text == "HardFault at 0x00000100, which is in no function"


def test_every_function_of_the_image_has_a_line():
    """But for what the compiler's libraries bring along."""
    info = DebugInfo(MPS2_IMAGE)
    ours = {name: at for name, at in info.symbols.items() if name.startswith(("tmf_", "uart_"))}
    places = {name: info.place(at & ~1) for name, at in ours.items() if at < 0x10_0000}
    assert len(places) > 50
    unknown = {name for name, place in places.items() if place is None or place.line is None}
    assert unknown <= {name for name, at in ours.items() if not at & 1}  # no code
    place = info.place(info.symbols["tmf_relu"] & ~1)
    assert place is None  # a table


def test_an_event_keeps_its_device():
    event = fault.of_hang(1.5, "", fault.Stand({"pc": 4}), None)
    assert dataclasses.replace(event, device=7).detail == (
        '{"text":"endless loop at 0x00000004, which is in no function: it has computed for 1.5 s '
        'of its own time ","seconds":1.5,"registers":{"pc":"0x00000004"}}'
    )
