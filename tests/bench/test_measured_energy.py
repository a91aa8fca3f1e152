import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from tinymetafed.bench import measured_energy, validation
from tinymetafed.bench.measured_energy import Measurement, add, price, published
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.report import validation as tables

LOOP = """
    .syntax unified
    .thumb
    .text
    .balign 4
    .type tmf_phase_keygen, %function
tmf_phase_keygen: bx lr
    .balign 4
    .type tmf_phase_end, %function
tmf_phase_end: bx lr
    .global main
    .type main, %function
main:
    push {r4, lr}
    bl tmf_phase_keygen
    mov r4, #1000
    .balign 4
1:  subs r4, r4, #1
    bne 1b
    bl tmf_phase_end
    movs r0, #0
    pop {r4, pc}
"""
"""Passes of 3 cycles: SUBS 1, BNE 1 and 1 for the branch taken (TRM 3.3.1; M3 15.3)."""


def one(workload: str) -> Measurement:
    return next(m for m in published().measurements if m.workload == workload)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    (folder / "loop.S").write_text(LOOP)
    validation.build(folder / "kyber512.elf", [str(folder / "loop.S")], ["-nostdlib"])
    return folder


def test_by_hand():
    (priced,) = price([one("Kyber512, key pair")])
    # 516,384 cycles at 100 MHz and no wait state; 3.6 V and 11.6 mA are 41.76 mW.
    assert priced.joules == pytest.approx(516_384 / 100e6 * 41.76e-3, rel=1e-12)
    assert priced.joules == pytest.approx(215.642e-6, abs=1e-9)
    assert priced.error == pytest.approx(215.642 / 413.565 - 1, abs=1e-5)
    assert priced.cycles_error is None


def test_processor_and_radio_by_hand():
    sending, receiving = add(published().together)
    assert sending.milliamperes == pytest.approx(3.3 + 6.4)
    assert sending.error == pytest.approx(9.7 / 8.1 - 1)
    assert receiving.milliamperes == pytest.approx(3.3 + 6.26)


def test_published_figures_agree_with_each_other():
    """Cycles at the board's 96 MHz by its milliwatts, which the file has as text only."""
    for measurement in published().measurements:
        (milliwatts,) = re.findall(r"([0-9.]+) mW", measurement.source)
        microjoules = measurement.cycles / 96e6 * float(milliwatts) * 1e3
        assert measurement.microjoules == pytest.approx(microjoules, rel=2e-3)


def test_a_program_is_counted(programs: Path):
    key_pair, another = one("Kyber512, key pair"), one("Saber, key pair")
    counted, by_the_board = price([key_pair, another], programs)
    assert counted.cycles is not None
    assert 3000 <= counted.cycles <= 3020
    assert counted.cycles_error == pytest.approx(counted.cycles / 516_384 - 1)
    assert counted.joules == pytest.approx(counted.cycles / 100e6 * 41.76e-3)
    assert counted.low <= counted.joules <= counted.high
    assert by_the_board.cycles is None
    assert by_the_board.joules == price([another])[0].joules


def test_a_program_without_the_phase(programs: Path):
    with pytest.raises(TinyMetaFedError, match=r"kyber512.elf: never enters the phase encaps"):
        price([one("Kyber512, encapsulation")], programs)


def test_a_folder_without_programs(tmp_path: Path):
    with pytest.raises(TinyMetaFedError, match=r"no program there; NAME.elf is one of .*kyber512"):
        price(published().measurements, tmp_path)


def test_a_figure_that_is_not_positive(tmp_path: Path):
    text = (validation.FOLDER / "energy.toml").read_text()
    (tmp_path / "energy.toml").write_text(text.replace("microjoules = 34_424", "microjoules = 0"))
    with pytest.raises(TinyMetaFedError, match=r"measurements.0.microjoules: 0 is not allowed"):
        measured_energy.published(tmp_path / "energy.toml")


def test_tables(programs: Path):
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(tables.of_energy(price([one("Kyber512, key pair")])))
    console.print(tables.of_energy(price([one("Kyber512, key pair")], programs)))
    console.print(tables.of_currents(add(published().together)))
    text = console.export_text()
    assert re.search(r"Kyber512, key pair .* 516,384 │ +414 │ +216 │ -47.9", text)
    assert re.search(r"Kyber512, key pair .* 516,384 │ +3,0[0-9]{2} │ -99.4 ", text)
    assert re.search(r"CoreMark, receiving .* 8.6 │ +9.56 │ \+11.2", text)
