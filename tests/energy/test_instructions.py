import tomllib
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from assembling import Assemble
from tinymetafed.energy.decoding import decode
from tinymetafed.energy.instructions import CLASSES, CODE, DATA, Branch, Instruction
from tinymetafed.energy.timing import Timing

CLASSIFY = Timing.load("cortex-m4").classify

OF_CLASS: dict[str, list[str]] = {
    name: table["instructions"]
    for name, table in tomllib.loads(
        (Path(__file__).parent / "instructions.toml").read_text()
    ).items()
}


def _decode(assemble: Assemble, text: str) -> list[Instruction]:
    return decode(assemble(text), 0, CLASSIFY)


def test_every_class_is_tried():
    assert {*OF_CLASS, "IT"} == set(CLASSES)


@pytest.mark.parametrize("name", OF_CLASS)
def test_encodings_are_of_their_class(assemble: Assemble, name: str):
    after = "\nnop.w" * 8 + "\n.balign 4\n4:\nnop"
    for text in OF_CLASS[name]:
        first = _decode(assemble, text + after)[0]
        assert (first.name, text) == (name, text)


def test_an_it_block_decides_its_instructions_alone(assemble: Assemble):
    found = _decode(
        assemble, "itet eq\naddeq r0, r1\nldrne r0, [r1]\nbxeq lr\nadds r0, r1\nbeq 4f\n4: nop"
    )
    assert [one.name for one in found[:4]] == ["IT", "data processing", "load", "branch"]
    assert [one.conditional for one in found] == [False, True, True, True, False, False, False]
    assert [one.branch for one in found[3:6]] == [Branch.MAYBE, Branch.NEVER, Branch.MAYBE]


FLOATING_POINT = {
    "vabs": "FP move", "vadd": "FP add", "vcmp": "FP compare", "vcmpe": "FP compare",
    "vcvt": "FP convert", "vcvtb": "FP convert", "vcvtr": "FP convert", "vcvtt": "FP convert",
    "vdiv": "FP divide or square root", "vfma": "FP multiply-accumulate",
    "vfms": "FP multiply-accumulate", "vfnma": "FP multiply-accumulate",
    "vfnms": "FP multiply-accumulate", "vldmdb": "FP load multiple", "vldmia": "FP load multiple",
    "vldr": "FP load", "vmla": "FP multiply-accumulate", "vmls": "FP multiply-accumulate",
    "vmov": "FP move", "vmrs": "FP move", "vmsr": "FP move", "vmul": "FP multiply",
    "vneg": "FP move", "vnmla": "FP multiply-accumulate", "vnmls": "FP multiply-accumulate",
    "vnmul": "FP multiply", "vpop": "FP load multiple", "vpush": "FP store multiple",
    "vsqrt": "FP divide or square root", "vstmdb": "FP store multiple",
    "vstmia": "FP store multiple", "vstr": "FP store", "vsub": "FP add",
}  # fmt: skip


@given(st.integers(0xEC00, 0xEEFF), st.integers(0, 0xFFFF))
def test_an_fp_instruction_has_its_class_whatever_its_registers(first: int, second: int):
    """All encodings of the single-precision coprocessor that Capstone knows."""
    second = second & 0xF0FF | 0xA00
    (one,) = decode(first.to_bytes(2, "little") + second.to_bytes(2, "little"), 0, CLASSIFY)
    mnemonic = one.text.split()[0].split(".")[0]
    assert one.name == FLOATING_POINT.get(mnemonic, one.name)


@pytest.mark.parametrize(
    ("text", "addressing", "results", "written", "indexed", "transfers"),
    [
        ("ldr r0, [r1]", "r1", "r0", "r0", False, 0),
        ("ldr r0, [r0]", "r0", "r0", "r0", False, 0),
        ("ldr r0, [r1], #4", "r1", "r0", "r0 r1", False, 0),
        ("str r0, [r1, #4]!", "r1", "", "r1", False, 0),
        ("str r0, [r1, r2]", "r1 r2", "", "", True, 0),
        ("ldm r0!, {r1, r2}", "r0", "r1 r2", "r0 r1 r2", False, 2),
        ("ldm r0, {r0, r2}", "r0", "r0 r2", "r0 r2", False, 2),
        ("push {r4, lr}", "sp", "sp", "sp", False, 2),
        ("pop {r4, r5, r6}", "sp", "r4 r5 r6 sp", "r4 r5 r6 sp", False, 3),
        ("vldm r0!, {d1-d2}", "r0", "s2 s3 s4 s5", "r0 s2 s3 s4 s5", False, 4),
        ("vldr d1, [r2]", "r2", "s2 s3", "s2 s3", False, 2),
        ("vmov s2, s3, r4, r5", "", "s2 s3", "s2 s3", False, 2),
        ("vmov r6, r10, s30, s31", "", "r6 sl", "r6 sl", False, 2),
        ("vmov r6, s30", "", "r6", "r6", False, 1),
        ("vmov.f32 s1, s30", "", "s1", "s1", False, 1),
        ("vstr s1, [r2]", "r2", "", "", False, 1),
        ("vpush {s16-s18}", "sp", "sp", "sp", False, 3),
    ],
)
def test_what_loads_and_stores_use(
    assemble: Assemble,
    text: str,
    addressing: str,
    results: str,
    written: str,
    indexed: bool,
    transfers: int,
):
    (found,) = _decode(assemble, text)
    assert found.addressing == set(addressing.split())
    assert found.results >= set(results.split()) - {"sp"}
    assert found.writes == set(written.split())
    assert (found.indexed, found.transfers) == (indexed, transfers)


def test_addends_and_targets(assemble: Assemble):
    mla, vfma, bl, literal = _decode(
        assemble, "mla r0, r1, r2, r3\nvfma.f32 s0, s1, s2\nbl 4f\nldr r0, 4f\n4: nop"
    )[:4]
    assert (mla.addend, vfma.addend) == ({"r3"}, {"s0"})
    assert (bl.target, bl.branch, bl.text[:2]) == (16, Branch.ALWAYS, "bl")
    assert literal.from_literal_pool
    assert literal.memories == CODE


def test_where_an_access_goes_is_what_was_seen(assemble: Assemble):
    code = assemble("ldr r0, [r1]\nldr r0, [r2]")
    assert [one.memories for one in decode(code, 0, CLASSIFY, {2: CODE})] == [DATA, CODE]


@given(st.binary(max_size=64), st.integers(0, 2**20).map(lambda n: 2 * n))
def test_any_bytes_are_cut_into_instructions(code: bytes, address: int):
    found = decode(code, address, CLASSIFY)
    place = address
    for one in found:
        assert one.address == place
        first = int.from_bytes(code[place - address : place - address + 2], "little")
        assert one.size == (4 if first >> 11 in (0b11101, 0b11110, 0b11111) else 2)
        place += one.size
    assert 0 <= len(code) - (place - address) < 4


@pytest.mark.parametrize(
    ("text", "early"),
    [
        ("b 4f", True), ("b.w 4f", True), ("beq 4f", True), ("beq.w 4f", True), ("bl 4f", True),
        ("bx lr", True), ("blx lr", True), ("mov pc, lr", True),
        ("bx r3", False), ("blx r3", False), ("mov pc, r3", False), ("cbz r0, 4f", False),
        ("pop {pc}", False), ("ldr pc, [r0]", False), ("tbb [pc, r0]", False),
        ("mov r0, lr", False), ("add r0, r1, #4", False),
    ],
)  # fmt: skip
def test_branches_that_are_fetched_for_when_they_are_decoded(
    assemble: Assemble, text: str, early: bool
):
    """Cortex-M3 Technical Reference Manual, DDI 0337G, table 15-3."""
    assert _decode(assemble, text + "\nnop.w\nnop.w\n4: nop")[0].early == early
