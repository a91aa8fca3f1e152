"""Programs that are counted on QEMU, against what they were written to execute."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assembling import MakeProgram, function
from tinymetafed.energy.decoding import decode
from tinymetafed.energy.profile import COUNTED, WAYS, BlockCounts, Pricing, Profile, total
from tinymetafed.energy.program import Program
from tinymetafed.energy.timing import Timing
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.nodes import standalone as runner
from tinymetafed.nodes.qemu import QEMU
from tinymetafed.nodes.standalone import Ended
from tinymetafed.places import MPS2_IMAGE

TIMINGS = Timing.all()

PHASES = "\n".join(function(f"tmf_phase_{name}", "bx lr") for name in ("measured", "end"))


def _main(*body: str) -> str:
    return PHASES + function(
        "main", "push {r4, lr}", "bl tmf_phase_measured", *body, "bl tmf_phase_end",
        "movs r0, #0", "pop {r4, pc}",
    )  # fmt: skip


def _counts(profile: Profile, phase: str = "measured") -> dict[str, int]:
    row = profile.counts[profile.phases.index(phase)].tolist()
    return {name: count for name, count in zip(COUNTED, row, strict=True) if count}


def test_taken_branches_are_told_from_those_that_are_not(program: MakeProgram):
    """Of 30 turns, every third skips an instruction; the phases' BX LR and the BL that ends are
    taken."""
    image = program(
        _main(
            "movs r0, #30",
            "movs r1, #0",
            "1: adds r1, #1",
            "cmp r1, #3",
            "bne 2f",
            "movs r1, #0",
            "2: subs r0, #1",
            "bne 1b",
        )
    )
    counts = _counts(runner.run(image).profile(TIMINGS))
    assert counts == {
        "data processing": 2 + 30 * 3 + 10,
        "branch taken": 20 + 29 + 2,
        "branch not taken": 10 + 1,
    }


def test_conditional_instructions_calls_and_tables(program: MakeProgram):
    image = program(
        function("callee", "it eq", "bxeq lr", "bx lr")
        + _main(
            "movs r0, #0", "ite eq", "moveq r1, #1", "ldrne r1, [r0]",
            "cmp r0, #0", "bl callee", "cmp r0, #1", "bl callee", "cbz r0, 1f", "nop", "1:",
            "tbb [pc, r0]", "2: .byte (3f - 2b) / 2, 0", "3: ldr r2, =0x12345678",
        )
        + ".ltorg\n",
    )  # fmt: skip
    assert _counts(runner.run(image).profile(TIMINGS)) == {
        "data processing": 3,
        "IT": 3,
        "conditional": 4,  # BXEQ twice, once as a branch
        "branch taken": 2 + 1 + 1 + 2,  # BL, BX LR, CBZ, and the phases'
        "table branch": 1,
        "load": 1,
    }


def test_exceptions_are_counted_and_calls_of_handlers_are_not(program: MakeProgram):
    """PendSV's handler runs five times as one, and is called once."""
    pend = ("str r1, [r0]", "dsb", "isb")
    source = function("PendSV_Handler", "movs r2, #7", "bx lr") + _main(
        "ldr r0, =0xE000ED04", "mov r1, #0x10000000", *pend * 5, "bl PendSV_Handler"
    )
    image = program(source + ".ltorg\n")
    counts = _counts(runner.run(image).profile(TIMINGS))
    assert counts["exception"] == 5
    assert counts["data processing"] == 1 + 6


def test_code_over_the_ends_of_pages_is_counted_once(program: MakeProgram):
    """QEMU ends a block at a page's end, whatever instruction lies across it."""
    for first in ("", "nop\n"):
        body = "adds r0, #1\nadd.w r1, r1, #1\n" * 1000
        profile = runner.run(program(_main(first + body))).profile(TIMINGS)
        counts = _counts(profile)
        assert counts["data processing"] == 2000
        assert counts["branch taken"] == 2
        shortest, expected, _ = profile.cycles["cortex-m4"][profile.phases.index("measured")]
        overhead = len(first.split())
        assert (shortest, expected) == (2000 + overhead + 4, 2000 + overhead + 4)


def _singly(image: Path, tmp_path: Path) -> Ended:
    """As runner.run, with each instruction a block of its own."""
    version = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True).stdout
    old = int(version.split()[3].split(".")[0]) < 9
    wrapper = tmp_path / "qemu"
    how = "-singlestep" if old else "-accel tcg,one-insn-per-tb=on"
    wrapper.write_text(f'#!/bin/sh\nexec {QEMU} {how} "$@"\n')
    wrapper.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "QEMU", str(wrapper))
        return runner.run(image, trusted=True)


def _without_waiting(timing: Timing) -> Timing:
    """The same core with a fetch unit that is never full. What a queue holds depends on more
    instructions than a block's end looks at."""
    fetch = timing.table.fetch.model_copy(update={"words": 64, "restart": (0, 0, 0)})
    return replace(timing, table=timing.table.model_copy(update={"fetch": fetch}))


def test_blocks_come_to_what_single_instructions_come_to(program: MakeProgram, tmp_path: Path):
    """Whatever is executed at a time, counts are the same, and cycles too: what a block's end does
    to the next is priced."""
    image = program(
        function("callee", "push {r4, lr}", "ldr r0, [r4]", "ldr r1, [r4, #4]", "pop {r4, pc}")
        + _main(
            "ldr r4, =0x20001000", "movs r6, #20", "1: bl callee", "str r6, [r4]",
            "ldr r0, [r4]", "ldrb r1, [r4, #1]", "ldr r2, [r4], #4", "ldr r3, [r4], #-4",
            "vldr s0, [r4]", "vadd.f32 s1, s0, s0", "vmul.f32 s2, s1, s1", "vcvt.s32.f32 s3, s2",
            "ands r0, r6, #3", "itt eq", "addeq r1, r2", "ldreq r1, [r4]",
            "subs r6, #1", "bne.w 1b",
        )
        + ".ltorg\n"
    )  # fmt: skip
    timings = [_without_waiting(timing) for timing in TIMINGS]
    blocks = runner.run(image).profile(timings)
    singly = _singly(image, tmp_path).profile(timings)
    phase = blocks.phases.index("measured")
    assert np.array_equal(blocks.counts[phase], singly.counts[phase])
    for name in blocks.cycles:
        assert np.array_equal(blocks.cycles[name][phase], singly.cycles[name][phase])


def test_an_unaligned_load_costs_what_the_manual_says(program: MakeProgram):
    loads = "ldr r0, [r4]", "ldr r0, [r4, #2]", "ldr r0, [r4, #1]", "ldrh r0, [r4, #1]"
    ended = runner.run(program(_main("ldr r4, =0x20001000", *loads) + ".ltorg\n"))
    assert ended.counts.unaligned[1 + list(ended.program.phases).index("measured")] == 1 + 2 + 1


def test_where_loads_went_is_seen(program: MakeProgram):
    """The first two loads are of the code and of the RAM, so they do not pipeline."""
    texts = [f"movw r4, #64\nmovt r4, #{top}\nldr r5, [r4]\nldr r6, [r7]" for top in (0, 0x2000)]
    cycles = [
        runner.run(program(_main("ldr r7, =0x20001000", text) + ".ltorg\n"))
        .profile(TIMINGS)
        .cycles["cortex-m4"][:, 1]
        .sum()
        for text in texts
    ]
    assert cycles[0] == cycles[1] + 1


def _made(left: list[int], lost: int = 0) -> BlockCounts:
    counts = np.zeros((1, len(left), 3), np.int64)
    counts[0, :, 0] = left
    starts = np.arange(len(left), dtype=np.uint32) * 4
    return BlockCounts.of(starts, starts + 4, counts, np.zeros(1, np.int64), lost)


def test_the_difference_of_counts():
    since = _made([3, 4, 5]).since(_made([3, 1]))
    assert since is not None
    assert since.left[0, :, 0].tolist() == [0, 3, 5]
    assert since.moved
    still = _made([3, 4]).since(_made([3, 4]))
    assert still is not None
    assert not still.moved
    assert _made([3, 4]).since(_made([3, 5])) is None
    assert _made([3]).since(_made([3, 4])) is None
    assert _made([3]).since(_made([3], lost=1)) is None


def test_the_difference_has_what_was_not_executed_before():
    since = _made([3, 4, 5, 1]).since(_made([0, 4, 2]))
    assert since is not None
    assert since.left[0, :, 0].tolist() == [3, 0, 3, 1]


def test_counts_that_are_priced_together_come_to_what_each_comes_to_alone(program: MakeProgram):
    """Also where they have the blocks in another order, or not all of them."""
    ended = runner.run(program(_main("movs r0, #3", "again:", "subs r0, #1", "bne again")))
    counts, rng = ended.counts, np.random.default_rng(1)
    several: list[BlockCounts] = []
    for size in (len(counts.starts), 3, 0, 5):
        some = rng.permutation(len(counts.starts))[:size]
        left = counts.left[:, some] * rng.integers(0, 2**40)
        several.append(
            BlockCounts.of(counts.starts[some], counts.ends[some], left, counts.unaligned, lost=0)
        )
    together = Pricing(ended.program, TIMINGS).profiles(several * 9)
    for i, profile in enumerate(together):
        alone = Pricing(ended.program, TIMINGS).profile(several[i % 4])
        assert np.array_equal(profile.counts, alone.counts)
        assert profile.cycles.keys() == alone.cycles.keys()
        for core, cycles in alone.cycles.items():
            assert np.array_equal(profile.cycles[core], cycles)
    whole = Pricing(ended.program, TIMINGS).profile(ended.counts)
    parts = total(Pricing(ended.program, TIMINGS).functions(ended.counts).values())
    assert parts is not None
    assert np.array_equal(parts.counts, whole.counts)


def test_blocks_that_overlap_are_priced_as_each_alone():
    """In any order: what was decoded for one is looked up for the next."""
    program = Program.read(MPS2_IMAGE)
    addresses = sorted(program.functions.values())
    rng = np.random.default_rng(1)
    together = Pricing(program, TIMINGS)
    for first in rng.choice(addresses[:-1], 12, replace=False).tolist():
        end = addresses[addresses.index(first) + 1]
        code = decode(program.code(first, end), first, TIMINGS[0].classify)
        # Not amid an IT block: what is there, depends on where the block begins.
        starts = [one.address for one in code if not one.conditional]
        blocks = [(start, starts[min(i + 6, len(starts) - 1)]) for i, start in enumerate(starts)]
        together.executed(first, end, 0)
        for start, last in rng.permutation(blocks)[:20].tolist():
            alone = Pricing(program, TIMINGS)
            for way in range(WAYS):
                assert together.executed(start, last, way) == alone.executed(start, last, way)
            assert np.array_equal(together._price(start, last), alone._price(start, last))


def test_profiles_add_up(program: MakeProgram):
    ended = runner.run(program(_main("movs r0, #1")))
    one = ended.profile(TIMINGS)
    twice = total([one, one])
    assert twice is not None
    assert np.array_equal(twice.counts, 2 * one.counts)
    assert np.array_equal(twice.cycles["cortex-m33"], 2 * one.cycles["cortex-m33"])
    assert total([]) is None
    pricing = Pricing(ended.program, TIMINGS)
    assert np.array_equal(pricing.profile(ended.counts).counts, one.counts)


def test_programs_that_cannot_be_run(program: MakeProgram, tmp_path: Path):
    text = tmp_path / "text.elf"
    text.write_text("no program")
    with pytest.raises(TinyMetaFedError, match=r"text.elf: not an ELF file"):
        runner.run(text)
    with pytest.raises(TinyMetaFedError, match=r"nowhere.elf: cannot be read: No such file"):
        runner.run(tmp_path / "nowhere.elf")
    with pytest.raises(TinyMetaFedError, match=r"true: a program for EM_\w+, not for Arm"):
        runner.run(Path("/usr/bin/true"))
    with pytest.raises(TinyMetaFedError, match="did not end within 0.5 s"):
        runner.run(program(_main("1: b 1b")), timeout=0.5)
    failing = program(PHASES + function("main", "movs r0, #1", "bx lr"))
    with pytest.raises(TinyMetaFedError, match=r"program.elf: ended with 1; it said: nothing"):
        runner.run(failing)
    phases = "".join(function(f"tmf_phase_{i}", "bx lr") for i in range(64))
    many = program(phases + function("main", "bx lr"))
    with pytest.raises(TinyMetaFedError, match="65 phases are too many to count; 64 can be"):
        runner.run(many)
