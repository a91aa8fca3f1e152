"""Prices of a run's energy and of a program's cycles."""

import csv
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
    assert expected == (1 + 2) + 1 + 200 + 199 * 2 + 1 + (1 + 2)
    main = next(text for text in called.stdout.splitlines() if text.startswith("│ main"))
    # PUSH, two BL, MOV, the loop, MOVS and POP. Its last block ends the program in its caller.
    assert int(main.split("│")[2].replace(",", "")) == 1 + 2 + 1 + 400 + 2
