"""What a program that is run by itself can do to the machine that runs it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from assembling import MakeProgram, function
from calling import call
from tinymetafed.bench import validation
from tinymetafed.bench.validation import FOLDER
from tinymetafed.energy.timing import Timing
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


def test_a_fault_says_what_it_was_and_where(program: MakeProgram):
    bad = function("bad", "mov r0, #0x60000000", "ldr r0, [r0]", "bx lr")
    image = program(bad + function("main", "push {r4, lr}", "bl bad", "pop {r4, pc}"))
    with pytest.raises(TinyMetaFedError) as error:
        standalone.run(image)
    assert str(error.value) == f"{image}: faulted in bad: Invalid read at addr 0x60000000, size 4"


def test_code_where_there_is_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As a board's linker script has it."""
    monkeypatch.setattr(validation, "FOLDER", tmp_path)
    for name in ("start.S", "validation.ld"):
        text = (FOLDER / name).read_text().replace("ORIGIN = 0x00000000", "ORIGIN = 0x08000000")
        (tmp_path / name).write_text(text)
    (tmp_path / "main.S").write_text(".thumb\n.text\n.global main\nmain: bx lr\n")
    image = tmp_path / "program.elf"
    validation.build(image, [str(tmp_path / "main.S")], ["-nostdlib"])
    with pytest.raises(TinyMetaFedError) as error:
        standalone.run(image)
    assert " bytes at 0x08000000, where mps2-an386 has no memory; link its code at 0 " in str(
        error.value
    )


def test_programs_are_priced_in_several_threads(program: MakeProgram):
    """Each as by itself."""
    body = [f"add.w r{i % 7}, r{i % 5}, #{i}\nldr r{i % 7}, [sp]" for i in range(200)]
    ended = standalone.run(program(function("main", *body, "movs r0, #0", "bx lr")))
    timings = Timing.all()
    alone = ended.profile(timings)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: ended.profile(timings), range(16)):
            assert np.array_equal(found.counts, alone.counts)
            assert all(
                np.array_equal(found.cycles[core], alone.cycles[core]) for core in found.cycles
            )
