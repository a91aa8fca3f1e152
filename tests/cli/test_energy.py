"""Prices of a run's energy and of a program's cycles."""

import csv
import json
from pathlib import Path

import pytest

from assembling import function
from calling import call
from tinymetafed.bench import validation
from tinymetafed.places import PROJECT


def test_the_demo_s_tables_on_qemu_and_another_price(folder: Path):
    ran = call(folder, "run", str(PROJECT / "experiments/smoke.toml"), "--set", "rounds=2")
    assert ran.returncode == 0, ran.stderr
    assert "4 qemu nodes" in ran.stdout
    line = next(line for line in ran.stdout.splitlines() if line.startswith("│ all"))
    down, up, instructions = (int(cell.replace(",", "")) for cell in line.split("│")[2:5])
    for text in ("Energy of all nodes: nRF52840", "reconstruct", "radio transmit"):
        assert text in ran.stdout
    assert 4 * 7_044 < down < 4 * 2 * 8_000  # all weights once, and again at most
    assert 4 * 2 * 4 * 860 < up < 4 * 2 * 4_200  # half of 1,720 entries, four bytes each
    assert instructions > 4 * 2 * 1_000_000
    last = call(folder, "energy", "--csv", "ledger.csv")
    table = ran.stdout.partition("Energy of all nodes")[2].partition("Wall time")[0]
    assert last.stdout.startswith("Energy of all nodes" + table)
    with (folder / "ledger.csv").open() as file:
        joules = sum(float(row["joules"]) for row in csv.DictReader(file))
    line = next(line for line in table.splitlines() if line.startswith("│ all"))
    assert float(line.split("│")[6].replace(",", "")) == pytest.approx(joules * 1e3, abs=1e-3)
    other = call(folder, "energy", "1", "--device", "nrf54l15", "--radio", "lora7")
    assert "Energy of all nodes: nRF54L15, LoRa SF7" in other.stdout
    classes = call(folder, "energy", "--classes").stdout.partition("by class")[2]
    for text in ("FP multiply", "load multiple", "branch not taken", "reconstruct"):
        assert text in classes
    slow = call(folder, "energy", "--interval", "3600")
    assert "28,800,000.0" in slow.stdout  # ms: four nodes, two hours


def test_what_was_not_counted_cannot_be_priced(folder: Path):
    call(folder, "run", "small.toml", "--set", "rounds=1")
    called = call(folder, "energy")
    assert called.returncode == 1
    assert called.stderr == (
        "error: run 1: nothing was counted on its host nodes, so nothing can be priced; "
        "qemu and renode nodes count, and so does a sample of rounds (nodes.emulate)\n"
    )
    assert call(folder, "energy", "--device", "nrf1").stderr.count("\n") == 1


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
    called = call(folder, "cycles", "program.elf", "--functions", "cortex-m4")
    assert called.returncode == 0, called.stderr
    line = next(text for text in called.stdout.splitlines() if "loop" in text and "m4" in text)
    # BX LR and BL of the phases; MOV; 200 SUBS and BNE, all but one of these taken.
    instructions, expected = (int(text.replace(",", "")) for text in line.split("│")[3:5])
    assert instructions == 2 + 1 + 400
    assert expected == (1 + 1) + 1 + 200 + 199 * 2 + 1 + (1 + 1)
    main = [text.split("│") for text in called.stdout.splitlines() if "│ main " in text]
    # In the loop's phase MOV, the loop and a BL; before it PUSH and a BL; then MOVS and POP.
    counts = {row[1].strip(): int(row[3].replace(",", "")) for row in main}
    assert counts == {"start": 2, "loop": 1 + 400 + 1, "end": 2}


def test_a_program_s_cycles_in_files(folder: Path):
    source = folder / "program.S"
    name = "a_function_of_a_name_that_is_longer_than_any_column_of_a_terminal_is_wide_" + 20 * "x"
    phases = (function(f"tmf_phase_{phase}", "bx lr") for phase in ("used", "removed"))
    main = ("push {r4, lr}", "bl tmf_phase_used", f"bl {name}", "movs r0, #0", "pop {r4, pc}")
    source.write_text(
        ".syntax unified\n.thumb\n.text\n"
        + "".join((*phases, function(name, "adds r0, #1", "bx lr"), function("main", *main)))
    )
    validation.build(folder / "program.elf", [str(source)], ["-nostdlib"])
    called = call(
        folder, "cycles", "program.elf", "--core", "cortex-m4", "--functions", "cortex-m4",
        "--csv", "lines.csv", "--json", "lines.json",
    )  # fmt: skip
    assert called.returncode == 0, called.stderr
    assert "program.elf: phase 'removed' is defined and was never entered" in called.stderr
    assert "cortex-m33" not in called.stdout
    found = json.loads((folder / "lines.json").read_text())
    mine = next(line for line in found if line["function"] == name)
    assert mine == {
        "phase": "used", "core": "cortex-m4", "function": name,
        "instructions": 2, "cycles": 3, "shortest": 3, "longest": 4,
    }  # fmt: skip
    with (folder / "lines.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [{k: str(v or "") for k, v in line.items()} for line in found] == rows
    called = call(folder, "cycles", "program.elf", "--core", "cortex-m0plus")
    assert (called.returncode, called.stdout) == (1, "")
    assert called.stderr == (
        "error: program.elf: a program for Armv7E-M, which a Cortex-M0+ does not execute; "
        "compile it for Armv6-M\n"
    )
    validation.build(folder / "small.elf", [str(source)], ["-nostdlib"], "cortex-m0plus")
    called = call(folder, "cycles", "small.elf")
    assert all(f"│ {core} " in called.stdout for core in ("cortex-m0plus", "cortex-m33"))
    called = call(folder, "cycles", "program.elf", "--static")
    assert (called.returncode, called.stderr) == (0, "")
    rows = (text.split("│") for text in called.stdout.splitlines() if "│" in text)
    assert name in "".join(row[1].strip() for row in rows)
    called = call(folder, "cycles", "program.elf", "--static", "--csv", "x.csv")
    assert called.stderr == "error: --static has every function in its table, and writes no file\n"
    # What is not known is said before the program runs.
    for option in ("--core", "--functions"):
        called = call(folder, "cycles", "nowhere.elf", option, "cortex-m5")
        assert "cortex-m5.toml: no such timing table; there are: " in called.stderr
