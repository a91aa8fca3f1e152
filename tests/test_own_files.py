"""Devices, radios and timing tables of a user's own, by their paths."""

import json
import re
from pathlib import Path

import pytest

from calling import call
from conftest import SMALL
from running import execute, ledger
from tinymetafed.energy import power, timing
from tinymetafed.energy.timing import Timing
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import Experiment, parse

ON_QEMU = ("nodes={backend='qemu', count=1}", "rounds=1", "evaluation.devices=1")

SMALL_CORE = str(timing.FOLDER / "cortex-m0plus.toml")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """board.toml is an nRF52840 of twice the current with a core of its own, core.toml, that has
    the cycles of a Cortex-M4; radio.toml sends at half the power of BLE."""
    (tmp_path / "small.toml").write_text(SMALL)
    board = (power.FOLDER / "nrf52840.toml").read_text()
    board = re.sub(r'name = ".*"', 'name = "My board"', board, count=1)
    board = re.sub(r'core = ".*"', 'core = "./core.toml"', board, count=1)
    current = power.device("nrf52840").run_current_ma.value
    board = re.sub(
        r"(\[run_current_ma\]\nvalue = ).*", lambda found: f"{found[1]}{2 * current}", board
    )
    (tmp_path / "board.toml").write_text(board)
    table = (timing.FOLDER / "cortex-m4.toml").read_text()
    (tmp_path / "core.toml").write_text(table.replace('core = "', 'core = "My ', 1))
    radio = (power.FOLDER / "radios/ble1m.toml").read_text()
    (tmp_path / "radio.toml").write_text(re.sub(r'name = ".*"', 'name = "Mine"', radio, count=1))
    return tmp_path


def read(folder: Path, *changes: str) -> Experiment:
    return parse(SMALL, "f.toml", (*ON_QEMU, *changes), folder)


def test_a_run_is_priced_by_a_device_and_a_core_of_the_users_own(own: Path):
    experiment = read(own, "energy.device='./board.toml'", "energy.radio='radio.toml'")
    again = Experiment.model_validate_json(experiment.model_dump_json())
    assert again == experiment
    mine = ledger(*execute(experiment, own / "a"))
    usual = ledger(*execute(read(own), own / "b"))
    assert [(one.account, one.seconds) for one in mine] == [
        (one.account, one.seconds) for one in usual
    ]
    joules = {one.account: one.joules for one in usual}
    for one in mine:
        computing = one.account in ("receive", "learn", "reconstruct", "select", "send")
        times = 2 if computing else 1
        if computing or one.account.startswith("radio"):
            assert one.joules == pytest.approx(times * joules[one.account])


def test_all_of_it_is_in_the_run_and_the_files_are_not_needed_any_more(own: Path):
    given = ("--set", "energy.device='./board.toml'", "--set", "energy.radio='./radio.toml'")
    changes = [part for change in ON_QEMU for part in ("--set", change)]
    assert call(own, "run", "small.toml", *changes, *given).returncode == 0
    for name in ("board", "core", "radio"):
        (own / f"{name}.toml").unlink()
    priced = call(own, "energy", "1")
    assert "Energy of all nodes: My board, Mine" in priced.stdout
    assert call(own, "show", "1").returncode == 0


def test_a_run_is_priced_anew_for_a_file(own: Path):
    changes = [part for change in ON_QEMU for part in ("--set", change)]
    assert call(own, "run", "small.toml", *changes).returncode == 0
    board = (own / "board.toml").read_text()
    (own / "board.toml").write_text(board.replace("./core.toml", "cortex-m4"))
    assert "My board" in call(own, "energy", "1", "--device", "./board.toml").stdout
    (own / "board.toml").write_text(board)  # with a core that the run has no cycles of
    ended = call(own, "energy", "1", "--device", "./board.toml")
    assert ended.stderr.startswith("error: My board: the run has no cycles of its core, core-")


def test_a_timing_table_by_its_path(own: Path):
    mine, usual = Timing.load(str(own / "core.toml")), Timing.load("cortex-m4")
    assert (mine.name, mine.table.core) == ("core", "My " + usual.table.core)
    assert mine.table.classes == usual.table.classes


def test_the_same_core_has_the_same_name_and_another_has_another(own: Path):
    names = [power.read_device(own / "board.toml").core for _ in range(2)]
    core = (own / "core.toml").read_text()
    (own / "core.toml").write_text(core.replace("cycles = 1\n", "cycles = 2\n", 1))
    names.append(power.read_device(own / "board.toml").core)
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    ("change", "file", "old", "new", "says"),
    [
        ("energy.device='./no.toml'", "", "", "", "{0}/no.toml: cannot be read: No such file"),
        ("energy.device='mine'", "", "", "",
         "f.toml: energy.device: 'mine' is not allowed; use nrf52840, "),
        ("energy.radio='./board.toml'", "", "", "", "{0}/board.toml: modulation: missing"),
        ("energy.device='./board.toml'", "board.toml", "clock_mhz", "clock_hz",
         "{0}/board.toml: clock_mhz: missing"),
        ("energy.device='./board.toml'", "board.toml", "./core.toml", "./none.toml",
         "{0}/none.toml: cannot be read"),
        ("energy.device='./board.toml'", "board.toml", "./core.toml", "cortex-m5",
         "{0}/board.toml: core: no timing table 'cortex-m5' of a core that executes the nodes' "
         "firmware; use cortex-m33, cortex-m4, or"),
        ("energy.device='./board.toml'", "board.toml", "./core.toml", "cortex-m0plus",
         "{0}/board.toml: core: no timing table 'cortex-m0plus' of a core that executes the "),
        ("energy.device='./board.toml'", "board.toml", "./core.toml",
         SMALL_CORE,
         "{0}/board.toml: core: " + SMALL_CORE + ": architecture: a core for Armv6-M "
         "does not execute the nodes' firmware, which is for Armv7E-M"),
        ("energy.device='./board.toml'", "core.toml", "cycles = 1\n", "cycles = -1\n",
         "{0}/core.toml: classes."),
        ("nodes={backend='host', groups=[{count=1, device='./no.toml'}]}", "", "", "",
         "{0}/no.toml: cannot be read"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(
    own: Path, change: str, file: str, old: str, new: str, says: str
):
    if file:
        text = (own / file).read_text()
        assert old in text
        (own / file).write_text(text.replace(old, new, 1))
    with pytest.raises(TinyMetaFedError) as caught:
        read(own, change)
    assert str(caught.value).startswith(says.format(own))


def test_a_fleet_with_a_device_by_its_path(own: Path):
    groups = "nodes={groups=[{count=1, device='./board.toml'}, {count=2, backend='host'}]}"
    experiment = parse(SMALL, "f.toml", (groups,), own)
    assert experiment.nodes.count == 3
    [(_, priced)] = experiment.priced
    assert str(priced.device) == "My board"
    assert json.loads(experiment.model_dump_json())["nodes"]["groups"][0]["device"]["name"] == (
        "My board"
    )
