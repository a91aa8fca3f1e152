import tomllib
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from assembling import Assemble
from tinymetafed.energy.decoding import decode
from tinymetafed.energy.instructions import CODE, DATA
from tinymetafed.energy.timing import FOLDER, Timing
from tinymetafed.errors import TinyMetaFedError

TIMINGS = Timing.all(executes="Armv6-M")
M0PLUS = next(timing for timing in TIMINGS if timing.name == "cortex-m0plus")
M4 = next(timing for timing in TIMINGS if timing.name == "cortex-m4")
M33 = next(timing for timing in TIMINGS if timing.name == "cortex-m33")


def _cycles(timing: Timing, code: bytes, **memories: int) -> int:
    where = {int(address[1:], 16): memory for address, memory in memories.items()}
    return int(timing.cycles(decode(code, 0, timing.classify, where))[1])


@pytest.mark.parametrize(
    ("text", "m4", "m33"),
    [
        # What emulation/validation/kernels has is not repeated here.
        ("ldr r0, [r1], #4; ldr r2, [r1], #4", 4, 2),  # the base is just written
        ("ldr r0, [r1], #4; ldr r2, [r3], #4", 3, 2),
        ("str r0, [r1]; ldr r2, [r3]", 4, 2),
        ("ldr r0, [r1]; adds r2, r0, r3", 3, 3),
        ("ldr r0, [r1]; adds r2, r3, r4", 3, 2),
        ("mul r0, r1, r2; add r3, r0, r1", 2, 3),
        ("mul r0, r1, r2; mla r3, r4, r5, r0", 2, 2),  # as an addend it is in time
        ("ldm r0, {r1-r4}; adds r5, #1", 6, 5),
        ("vldm r0!, {s0}; adds r5, #1", 3, 2),  # no faster than VLDR
        ("vldm r0!, {s0-s3}; adds r5, #1", 5, 5),
        ("vmul.f32 s0, s1, s2; vfma.f32 s0, s3, s4", 4, 4),
        ("vfma.f32 s0, s1, s2; adds r0, #1; adds r1, #1; adds r2, #1", 6, 4),
        # Three 32-bit instructions beside a word's border, after a load.
        ("adds r0, #1; ldr.w r1, [r2]; eor.w r3, r3, r4; eor.w r3, r3, r4; eor.w r3, r3, r4", 7, 5),
        ("adds r0, #1; adds r0, #1; ldr.w r1, [r2]; eor r3, r3, r4; eor r3, r3, r4; eor r3, r3, r4",
         7, 6),
        ("adds r0, #1; add.w r1, r2, #0; eor.w r3, r3, r4; eor.w r3, r3, r4", 4, 4),
    ],
)  # fmt: skip
def test_sequences(assemble: Assemble, text: str, m4: int, m33: int):
    code = assemble(text.replace(";", "\n"))
    assert (_cycles(M4, code), _cycles(M33, code)) == (m4, m33)


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("adds r0, #1; b 4f", 1),
        ("adds r0, #1; bl 4f", 1),
        ("adds r0, #1; bx lr", 1),
        ("mov lr, r0; bx lr", 2),  # LR is not there when BX is decoded
        ("ldr lr, [sp]; bx lr", 2),
        ("mov lr, r0; adds r0, #1; bx lr", 1),
        ("adds r0, #1; cbz r0, 4f", 2),
        ("adds r0, #1; blx r0", 2),
        ("adds r0, #1; mov pc, r1", 2),
        ("adds r0, #1; ldr pc, [r1]", 3),
        ("adds r0, #1; pop {r0, pc}", 3),
        ("adds r0, #1; tbb [r1, r0]", 3),
    ],
)
def test_what_a_taken_branch_costs_more(assemble: Assemble, text: str, more: int):
    code = assemble(text.replace(";", "\n") + "\nnop.w\n4: nop")
    block = decode(code, 0, M4.classify)[: text.count(";") + 1]
    assert M4.taken(block)[1] == more


@pytest.mark.parametrize(
    ("text", "cycles"),
    [
        ("movs r0, #1; it ne; addne r1, r2", 2),
        ("mov.w r0, #1; it ne; addne r1, r2", 3),
        ("it ne; addne r1, r2", 2),  # branched to: there is nothing that it could fold onto
    ],
)
def test_it_folds_onto_16_bit_instructions(assemble: Assemble, text: str, cycles: int):
    assert _cycles(M4, assemble(text.replace(";", "\n"))) == cycles


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("cmp r0, #1; beq 4f", 1 + 1),  # what sets the flags cannot go with who needs them
        ("movs r0, #1; b 4f", 1 + 1),
        ("mov r0, r1; beq 4f", 1),
        ("mov r0, r1; bx lr", 1),
        ("add.w r0, r1, r2; beq 4f", 1),
        ("cmp r0, #1; beq.w 4f", 1),
        ("beq 4f", 1),
    ],
)
def test_what_a_taken_branch_costs_more_where_it_pairs(assemble: Assemble, text: str, more: int):
    code = assemble(text.replace(";", "\n") + "\nnop.w\n4: nop")
    block = decode(code, 0, M33.classify)[: text.count(";") + 1]
    assert M33.taken(block)[1] == more


def test_a_pair_is_of_two(assemble: Assemble):
    """The second NOP goes with nothing: the one before it went with ADD."""
    assert _cycles(M33, assemble("add r0, r1\nnop")) == 1
    assert _cycles(M33, assemble("add r0, r1\nnop\nnop")) == 2
    assert _cycles(M33, assemble("add r0, r1\nnop\nnop\nnop")) == 2
    assert _cycles(M33, assemble("add.w r0, r1\nnop")) == 2


@pytest.mark.parametrize(
    ("text", "cycles"),
    [
        ("add.w r0, r1, r2, lsl #1; mov.w r3, r4; add.w r5, r0, r1", 3),
        ("add.w r0, r1, r2, lsl #1; mov.w r0, r4; add.w r5, r0, r1", 3),  # written again
        ("add.w r0, r1, r2, lsl #1; mla r0, r3, r4, r0", 2),
        ("add.w r0, r1, r2, lsl #1; mla r0, r3, r0, r0", 3),  # a factor besides
        ("lsl.w r0, r1, #3; add.w r5, r0, r1", 2),
        ("mov.w r0, #0x1fc0; add.w r5, r0, r1", 2),
        ("and r0, r1, #0xff; add.w r5, r0, r1", 2),
        ("cmp.w r1, #0x1fc0; add.w r5, r0, r1", 3),
        ("vfma.f32 s0, s1, s2; mov.w r0, r1; vadd.f32 s3, s0, s4", 5),
    ],
)
def test_results_that_come_later(assemble: Assemble, text: str, cycles: int):
    assert _cycles(M33, assemble(text.replace(";", "\n"))) == cycles


def test_a_core_without_these_instructions_prices_data_behind_code(assemble: Assemble):
    """A block's price looks behind it, where constants may be."""
    assert _cycles(M0PLUS, assemble("vadd.f32 s0, s1, s2\nudiv r0, r1, r2")) == 2


def test_cores_by_the_architecture_that_they_execute():
    names = [[t.name for t in Timing.all(executes=a)] for a in ("Armv6-M", "Armv7E-M", "Armv8-M")]
    assert names == [
        ["cortex-m0plus", "cortex-m33", "cortex-m4"], ["cortex-m33", "cortex-m4"], ["cortex-m33"],
    ]  # fmt: skip
    assert [timing.name for timing in Timing.all()] == names[1]


def test_a_load_waits_for_a_store_to_its_memory(assemble: Assemble):
    code = assemble("str r0, [r1]\nldr r2, [r3]\nadds r4, #1")
    assert _cycles(M4, code, x0=DATA, x2=DATA) == 5
    assert _cycles(M4, code, x0=DATA, x2=CODE) == 4


def test_loads_of_different_memories_do_not_pipeline(assemble: Assemble):
    code = assemble("ldr r0, [r1]\nldr r2, [r3]\nadds r4, #1")
    assert _cycles(M4, code, x0=DATA, x2=DATA) == 4
    assert _cycles(M4, code, x0=CODE, x2=CODE) == 4
    assert _cycles(M4, code, x0=CODE, x2=DATA) == 5


def test_an_index_register_that_was_just_written_waits(assemble: Assemble):
    assert _cycles(M4, assemble("adds r1, #4\nldr r0, [r2, r1]")) == 4
    assert _cycles(M4, assemble("adds r1, #4\nadds r5, #4\nldr r0, [r2, r1]")) == 4


@given(st.binary(min_size=2, max_size=80))
def test_readings_ascend_whatever_is_executed(code: bytes):
    for timing in TIMINGS:
        shortest, expected, longest = timing.cycles(decode(code, 0, timing.classify)).tolist()
        assert 0 <= shortest <= expected <= longest


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "store double"', 'name = "stone"', "classes.9.name: 'stone' is not allowed; use"),
        ('name = "store double"', 'name = "load"', "classes: 'load' is there 2 times, not once"),
        ("cycles = [2, 7, 12]", "cycles = [2, -7, 12]", "classes.11.cycles.1: -7 is not allowed"),
        ("cycles = [2, 7, 12]", "cycles = [2, 7]", "classes.11.cycles.2: missing"),
        ("cycles = [2, 7, 12]", "cycles = [7, 2, 12]", "classes.11.cycles: [7, 2, 12] is not"),
        ("cycles = [2, 7, 12] ", "# ", "classes.11.cycles: missing"),
        ('"1111 1011 1xxx xxxx"', '"1111 1011 1xxx"', "classes.12.encodings.0: '1111 1011 1xxx'"),
        ("address_wait = { cycles = [0, 1, 1]", "address_wait = { cycles = [-1, 1, 1]",
         "sequence.address_wait.cycles.0: -1 is not allowed; use a whole number at least 0"),
        ("literal_load", "literal_lord", "sequence.literal_load: missing"),
        ('core = "Cortex-M4"', "", "core: missing"),
        ('core = "Cortex-M4"', 'core = "Cortex-M4"\narchitecture = "Armv6-M"',
         "classes: 'long multiply' is there 1 times, not 0 times"),
        ('core = "Cortex-M4"', 'core = "Cortex-M4"\narchitecture = "Armv9"',
         "architecture: 'Armv9' is not allowed; use 'Armv6-M', "),
        ("words = 3", "words = 1", "fetch.words"),
        ("[fetch]", "[[variants]]\nof = 'load'\nencodings = []\ncycles = 1\nsource = 'x'\n[fetch]",
         "variants.0.encodings: "),
        ("occupies = 14", "occupied = 14", "classes.22.occupied: unknown key; known are"),
        ('core = "Cortex-M4"', 'core = "Cortex-M4"\nencodings_from = "cortex-m4"',
         "classes: 'IT' needs encodings of its own, or of the whole file by encodings_from"),
    ],
)  # fmt: skip
def test_a_bad_table_is_an_error_with_file_key_and_reason(
    tmp_path: Path, old: str, new: str, says: str
):
    text = (FOLDER / "cortex-m4.toml").read_text()
    assert text.count(old) >= 1
    (tmp_path / "mine.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(TinyMetaFedError) as error:
        Timing.load("mine", tmp_path)
    assert f"{tmp_path / 'mine.toml'}: {says}" in str(error.value)


def test_a_table_that_is_not_there(tmp_path: Path):
    with pytest.raises(TinyMetaFedError, match=r"no such timing table; there are: cortex-m0plus, "):
        Timing.load("cortex-m5")
    (tmp_path / "a.toml").write_text((FOLDER / "cortex-m33.toml").read_text())
    with pytest.raises(TinyMetaFedError, match=r"cortex-m4.toml: cannot be read"):
        Timing.load("a", tmp_path)


def test_every_figure_has_a_source():
    for path in FOLDER.glob("*.toml"):
        table = tomllib.loads(path.read_text())
        rows = [
            *table["classes"],
            *table.get("variants", ()),
            *(r for r in table["sequence"].values() if isinstance(r, dict)),
        ]
        assert all(len(row["source"]) > 1 for row in rows)
