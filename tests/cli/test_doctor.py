"""What the doctor finds and misses."""

import re
from pathlib import Path

import pytest

from calling import call
from tinymetafed.bench import doctor
from tinymetafed.nodes import backends, renode, renode_console


def test_doctor_finds_everything(folder: Path):
    called = call(folder, "doctor")
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
    called = call(folder, "doctor", PATH=str(folder))
    assert called.returncode == 1
    assert "apt-get install qemu-system-arm" in called.stdout


@pytest.mark.renode
@pytest.mark.skipif(
    renode_console.program() is None, reason="no Renode on the PATH, nor in TMF_RENODE"
)
def test_doctor_has_renode_count_a_request():
    (finding,) = (one for one in doctor.examine() if one.what == "a renode node boots")
    assert finding.found, finding.detail
    assert re.search(r"[1-9][\d,]* instructions", finding.detail)


@pytest.mark.renode
@pytest.mark.skipif(
    renode_console.program() is None, reason="no Renode on the PATH, nor in TMF_RENODE"
)
def test_doctor_misses_what_renode_counts_with(monkeypatch: pytest.MonkeyPatch):
    """Renode ends without its disassembler, when the first frame is traced."""
    original = renode.Renode._at

    async def at(self: renode.Renode, name: str, *commands: str) -> None:
        if any("CreateExecutionTracing" in command for command in commands):
            assert self.process is not None
            self.process.kill()
        await original(self, name, *commands)

    monkeypatch.setattr(renode.Renode, "_at", at)
    (finding,) = (one for one in doctor.examine() if one.what == "a renode node boots")
    assert not finding.found
    assert "Renode ended" in finding.detail
