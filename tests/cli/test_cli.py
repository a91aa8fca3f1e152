"""The commands as a user types them."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assembling import function
from conftest import SMALL
from tinymetafed.bench import doctor, validation
from tinymetafed.nodes import backends
from tinymetafed.places import PROJECT
from tinymetafed.results.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an experiment."""
    (tmp_path / "small.toml").write_text(SMALL)
    return tmp_path


def _call(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tinymetafed", *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | {"COLUMNS": "120", "NO_COLOR": "1"} | environment,
    )  # fmt: skip


def test_run_show_and_list(folder: Path):
    ran = _call(folder, "run", "small.toml", "--profile")
    assert ran.returncode == 0, ran.stderr
    for text in ("Mean loss on 5 unseen devices", "after 4 rounds", "bytes up", "Stored in runs/"):
        assert text in ran.stdout
    assert "the orchestrator's own code" in ran.stdout
    assert (folder / "runs/1-test.png").read_bytes().startswith(b"\x89PNG")
    assert "4 of 4 rounds" in _call(folder, "show").stdout
    assert "4/4" in _call(folder, "runs").stdout


def test_the_demo_s_tables_on_qemu_and_another_price(folder: Path):
    ran = _call(folder, "run", str(PROJECT / "experiments/smoke.toml"), "--set", "rounds=2")
    assert ran.returncode == 0, ran.stderr
    assert "4 qemu nodes" in ran.stdout
    line = next(line for line in ran.stdout.splitlines() if line.startswith("│ all"))
    down, up, instructions = (int(cell.replace(",", "")) for cell in line.split("│")[2:5])
    for text in ("Energy of all nodes: nRF52840", "reconstruct", "radio transmit"):
        assert text in ran.stdout
    assert 4 * 7_044 < down < 4 * 2 * 8_000  # all weights once, and again at most
    assert 4 * 2 * 4 * 860 < up < 4 * 2 * 4_200  # half of 1,720 entries, four bytes each
    assert instructions > 4 * 2 * 1_000_000
    last = _call(folder, "energy", "--csv", "ledger.csv")
    table = ran.stdout.partition("Energy of all nodes")[2].partition("Wall time")[0]
    assert last.stdout.startswith("Energy of all nodes" + table)
    with (folder / "ledger.csv").open() as file:
        joules = sum(float(row["joules"]) for row in csv.DictReader(file))
    line = next(line for line in table.splitlines() if line.startswith("│ all"))
    assert float(line.split("│")[6].replace(",", "")) == pytest.approx(joules * 1e3, abs=1e-3)
    other = _call(folder, "energy", "1", "--device", "nrf54l15", "--radio", "lora7")
    assert "Energy of all nodes: nRF54L15, LoRa SF7" in other.stdout
    classes = _call(folder, "energy", "--classes").stdout.partition("by class")[2]
    for text in ("FP multiply", "load multiple", "branch not taken", "reconstruct"):
        assert text in classes
    slow = _call(folder, "energy", "--interval", "3600")
    assert "28,800,000.0" in slow.stdout  # ms: four nodes, two hours


def test_a_plan_before_the_run(folder: Path):
    called = _call(folder, "plan", str(PROJECT / "experiments/smoke.toml"))
    assert called.returncode == 0, called.stderr
    titles = (
        "Layers", "A node's memory", "Devices", "Bytes of a round", "Thousands of cycles",
        "Milliseconds of a later round, BLE 1M", "Millijoules", "Radios",
    )  # fmt: skip
    places = [called.stdout.index(title) for title in titles]
    assert places == sorted(places)
    assert not (folder / "runs").exists()


def test_a_plan_of_a_model_that_does_not_fit(folder: Path):
    called = _call(folder, "plan", "small.toml", "--set", "model.layers=[{units=30000},{units=1}]")
    assert called.returncode == 1
    assert called.stderr == (
        "error: small.toml: model.layers: the model and its training need 960016 bytes of a node's "
        "RAM, 221184 are available, so no round can be played\n"
    )
    for text in ("dense", "90,001", "bytes of RAM too few", "weights being trained"):
        assert text in called.stdout
    assert "Bytes of a round" not in called.stdout


def test_a_report_on_runs_by_name_and_number(folder: Path, compared: Store):
    place = str(compared.folder)
    called = _call(folder, "report", "reptile", "2", "7", "--figures", "figures", TMF_RUNS=place)
    assert called.returncode == 0, called.stderr
    files = list((folder / "figures").iterdir())
    assert called.stdout == f"Page report.html\n{len(files)} files in figures\n"
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")
    with (folder / "figures/runs.csv").open() as file:
        assert [row["run"] for row in csv.DictReader(file)] == ["2", "6", "7"]
    for arguments, says in (
        (("8",), f"error: {place}/runs.sqlite: no run '8'; there are: 1, 2, 3, 4, 5, 6, 7\n"),
        (("1", "-o", "no/page.html"), "error: no/page.html: cannot be written: No such file"),
    ):
        called = _call(folder, "report", *arguments, TMF_RUNS=place)
        assert called.returncode == 1
        assert called.stderr.startswith(says)
        assert len(called.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "nowhere.toml"), "error: nowhere.toml: cannot be read"),
        (("run", "small.toml", "--set", "seed=-1"), "error: small.toml: seed: -1 is not allowed"),
        (("show", "3"), "error: runs/runs.sqlite: no run '3'; there is none yet"),
        (("run", "--resume", "3"), "error: runs/runs.sqlite: no run '3'"),
        (
            ("run", "small.toml", "--set", "model.layers=[{units=30000},{units=1}]"),
            "error: node-",
        ),
        (("energy",), "error: runs/runs.sqlite: no run 'last'; there is none yet"),
        (("report", "demo"), "error: runs/runs.sqlite: no run 'demo'; there is none yet"),
        (
            ("run", "small.toml", "--set", "energy.device=nrf1"),
            "error: small.toml: energy.device: 'nrf1' is not allowed; use nrf52840, ",
        ),
        (("cycles", "small.toml"), "error: small.toml: not an ELF file"),
        (("validate", "--coremark", "."), "error: .: no CoreMark: core_list_join.c is missing"),
    ],
)
def test_an_error_is_one_line_and_status_1(folder: Path, arguments: tuple[str, ...], says: str):
    called = _call(folder, *arguments)
    assert called.returncode == 1
    assert called.stderr.startswith(says)
    assert len(called.stderr.splitlines()) == 1


def test_data_that_is_wrong_is_said_before_anything_starts(folder: Path):
    experiment = str(PROJECT / "experiments/iris.toml")
    (folder / "iris.csv").write_text("5.1,3.5,1.4,0.2,0\n")
    for place, says in (
        ("nowhere", "error: TMF_DATA: nowhere is no folder\n"),
        (".", "error: iris.csv: truncated or altered: its SHA-256 is "),
    ):
        called = _call(folder, "run", experiment, TMF_DATA=place)
        assert called.returncode == 1
        assert called.stderr.startswith(says)
        assert len(called.stderr.splitlines()) == 1
        assert called.stdout == ""


def test_what_was_not_counted_cannot_be_priced(folder: Path):
    _call(folder, "run", "small.toml", "--set", "rounds=1")
    called = _call(folder, "energy")
    assert called.returncode == 1
    assert called.stderr == (
        "error: run 1: nothing was counted on its host nodes, so nothing can be priced; "
        "qemu and renode nodes count\n"
    )
    assert _call(folder, "energy", "--device", "nrf1").stderr.count("\n") == 1


def test_a_program_s_cycles(folder: Path):
    program = folder / "program.S"
    program.write_text(
        ".syntax unified\n.thumb\n.text\n"
        + function("tmf_phase_loop", "bx lr")
        + function("tmf_phase_end", "bx lr")
        + function(
            "main", "push {r4, lr}", "bl tmf_phase_loop", "movs r0, #200", "1: subs r0, #1",
            "bne 1b", "bl tmf_phase_end", "movs r0, #0", "pop {r4, pc}",
        )
    )  # fmt: skip
    validation.build(folder / "program.elf", [str(program)], ["-nostdlib"])
    called = _call(folder, "cycles", "program.elf", "--functions", "cortex-m4")
    assert called.returncode == 0, called.stderr
    line = next(text for text in called.stdout.splitlines() if "loop" in text and "m4" in text)
    # BX LR and BL of the phases; MOV; 200 SUBS and BNE, all but one of these taken.
    instructions, expected = (int(text.replace(",", "")) for text in line.split("│")[3:5])
    assert instructions == 2 + 1 + 400
    assert expected == (1 + 2) + 1 + 200 + 199 * 2 + 1 + (1 + 2)
    main = next(text for text in called.stdout.splitlines() if text.startswith("│ main"))
    # PUSH, two BL, MOV, the loop, MOVS and POP. Its last block ends the program in its caller.
    assert int(main.split("│")[2].replace(",", "")) == 1 + 2 + 1 + 400 + 2


def test_a_model_that_does_not_fit_says_the_bytes(folder: Path):
    called = _call(folder, "run", "small.toml", "--set", "model.layers=[{units=30000},{units=1}]")
    assert "bytes needed, 221184 available" in called.stderr


def test_arguments_that_do_not_go_together(folder: Path):
    for arguments in (("run",), ("run", "small.toml", "--resume", "1")):
        called = _call(folder, *arguments)
        assert called.returncode == 2
        assert "either an experiment file or --resume" in called.stderr


def test_a_folder_that_cannot_be_written(folder: Path):
    called = _call(folder, "runs", TMF_RUNS="/proc/nowhere")
    assert called.returncode == 1
    assert "/proc/nowhere" in called.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_where_it_was(folder: Path, how: signal.Signals):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(int(how))],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "Interrupted. 'tinymetafed run --resume 1' goes on where it was.\n"
    assert "2/4" in _call(folder, "runs").stdout
    gone_on = _call(folder, "run", "--resume", "last")
    assert "4 of 4 rounds" in gone_on.stdout


# The command line, sent a signal by itself when two rounds are in the store.
INTERRUPTED = """
import os, signal, sys
from tinymetafed import cli
from tinymetafed.results import store


commit = store.Store.commit

def commit_and_signal(self, run, done, *arguments, **others):
    commit(self, run, done, *arguments, **others)
    if done == 2:
        os.kill(os.getpid(), how)

how = int(sys.argv[1])
# A background job of a shell is begun with SIGINT ignored; SIGTERM has to end it all the same.
ignored = how == signal.SIGTERM
signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
store.Store.commit = commit_and_signal
sys.argv[1:] = ["run", "small.toml"]
cli.main()
"""


def test_doctor_finds_everything(folder: Path):
    called = _call(folder, "doctor")
    assert called.returncode == 0, called.stdout
    assert "missing" not in called.stdout
    assert "a qemu node boots" in called.stdout


def test_doctor_reports_an_image_that_was_not_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(backends, "MPS2_IMAGE", tmp_path / "no.elf")
    (finding,) = (one for one in doctor.examine() if one.what == "a qemu node boots")
    assert not finding.found
    assert finding.detail.endswith("no.elf: no firmware image; run 'make firmware'")


def test_doctor_says_what_is_missing_and_how_to_get_it(folder: Path):
    called = _call(folder, "doctor", PATH=str(folder))
    assert called.returncode == 1
    assert "apt-get install qemu-system-arm" in called.stdout
