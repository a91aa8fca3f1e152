"""What a program that is run by itself can do to the machine that runs it."""

from pathlib import Path

import pytest

from assembling import MakeProgram, function
from calling import call
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.nodes import sandbox, standalone

OPEN, REMOVE, RENAME, SYSTEM = 0x01, 0x0E, 0x0F, 0x12  # semihosting, Arm IHI 0100
FOR_WRITING, APPENDING = 4, 8

needs_landlock = pytest.mark.skipif(not sandbox.is_there(), reason="the kernel has no Landlock")


@pytest.fixture
def hostile(program: MakeProgram, tmp_path: Path) -> Path:
    """A program that tries to run a command and to make, empty, lengthen, rename and remove files;
    it ends well, whatever came of it."""
    made, there, renamed = (str(tmp_path / name) for name in ("made", "there", "renamed"))
    Path(there).write_text("as it was")
    command = f"touch {tmp_path}/command"
    texts = {"made": made, "there": there, "renamed": renamed, "command": command}
    calls = (
        (SYSTEM, f"command, {len(command)}"),
        (OPEN, f"made, {FOR_WRITING}, {len(made)}"),
        (OPEN, f"there, {FOR_WRITING}, {len(there)}"),
        (OPEN, f"there, {APPENDING}, {len(there)}"),
        (RENAME, f"there, {len(there)}, renamed, {len(renamed)}"),
        (REMOVE, f"renamed, {len(renamed)}"),
    )
    body = [line for i, (number, _) in enumerate(calls)
            for line in (f"movs r0, #{number}", f"ldr r1, =block{i}", "bkpt 0xAB")]  # fmt: skip
    end = ("movs r0, #0", "pop {r4, pc}")
    data = [f"block{i}: .word {words}" for i, (_, words) in enumerate(calls)]
    data += [f'{name}: .asciz "{text}"' for name, text in texts.items()]
    return program(
        function("main", "push {r4, lr}", *body, *end, ".ltorg", ".balign 4", *data, ".balign 2")
    )


@needs_landlock
def test_a_program_changes_nothing_and_runs_nothing(hostile: Path, tmp_path: Path):
    before = {file.name for file in tmp_path.iterdir()}
    standalone.run(hostile)
    assert (tmp_path / "there").read_text() == "as it was"
    assert {file.name for file in tmp_path.iterdir()} == before


def test_a_program_that_is_trusted_may_do_so(hostile: Path, tmp_path: Path):
    """So the test before this one tries what would take effect."""
    called = call(tmp_path, "cycles", str(hostile), "--trust")
    assert called.returncode == 0, called.stderr
    assert {file.name for file in tmp_path.iterdir()} >= {"command", "made"}
    assert not (tmp_path / "there").exists()


def test_a_kernel_that_cannot_prevent_it(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sandbox, "_version", lambda: -1)
    with pytest.raises(TinyMetaFedError, match="no Landlock to prevent it; use --trust"):
        standalone.run(hostile)
    assert not (tmp_path / "command").exists()
