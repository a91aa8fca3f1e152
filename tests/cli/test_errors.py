"""An error that the user can correct, in any command."""

from pathlib import Path

import pytest

from calling import call


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
        (("validate", "--programs", "."), "error: .: no program there; NAME.elf is one of ecdh"),
    ],
)
def test_an_error_is_one_line_and_status_1(folder: Path, arguments: tuple[str, ...], says: str):
    called = call(folder, *arguments)
    assert called.returncode == 1
    assert called.stderr.startswith(says)
    assert len(called.stderr.splitlines()) == 1
