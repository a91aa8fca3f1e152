"""Instructions counted by their first halfwords, and what a trace makes of them."""

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assembling import MakeProgram, function
from tinymetafed.energy.decoding import decode
from tinymetafed.energy.instructions import Branch
from tinymetafed.energy.opcodes import OpcodeCounts, Opcodes, TracedPricing, traced_blocks
from tinymetafed.energy.profile import COUNTED, Pricing, Profile
from tinymetafed.energy.program import Program
from tinymetafed.energy.timing import Timing
from tinymetafed.nodes import standalone as runner
from tinymetafed.places import MPS2_IMAGE

TIMING = Timing.load("cortex-m4")
OPCODES = Opcodes.of(TIMING.encodings)
NODE = Program.read(MPS2_IMAGE)
HALFWORD = st.integers(0, 0xFFFF)


@given(HALFWORD, HALFWORD)
def test_an_instruction_is_counted_where_its_class_is(first: int, second: int):
    assert TIMING.classify(first, second) in OPCODES.groups[OPCODES.find(first)]


def test_most_classes_are_told_by_the_first_halfword():
    alone = {name for group in OPCODES.groups if len(group) == 1 for name in group}
    assert alone >= {
        "IT", "branch", "data processing", "load", "load double", "load multiple", "long multiply",
        "multiply", "store", "store double", "store multiple",
    }  # fmt: skip


@pytest.fixture
def traced(program: MakeProgram) -> tuple[Profile, TracedPricing, np.ndarray, OpcodeCounts]:
    """A program as QEMU has counted it; its pricing and trace; and its counts by first halfword.

    Of 30 turns, every third executes all seven instructions of the loop; an IT block decides one
    of them, and the last of ten turns does what it decides.
    """
    image = program(
        function("tmf_phase_end", "bx lr")
        + function("tmf_phase_measured", "bx lr")
        + function(
            "main", "push {r4, lr}", "bl tmf_phase_measured", "movs r0, #30", "movs r1, #0",
            "1: adds r1, #1", "cmp r1, #3", "bne 2f", "movs r1, #0",
            "2: cmp r0, #20", "it gt", "addgt r2, r0, #1", "subs r0, #1", "bne 1b",
            "bl tmf_phase_end", "movs r0, #0", "pop {r4, pc}",
        )
    )  # fmt: skip
    ended = runner.run(image)
    pricing = Pricing(ended.program, [TIMING])
    main, begin, end = (
        ended.program.functions[name] for name in ("main", "tmf_phase_measured", "tmf_phase_end")
    )
    code = decode(ended.program.code(main, main + 60), main, TIMING.classify)
    at = [one.address for one in code]
    turns: list[int] = []
    for turn in range(1, 31):
        turns += [*at[4:7], *(at[7:8] if turn % 3 == 0 else []), *at[8:13]]
    trace = [*at[:2], begin, *at[2:4], *turns, at[13], end, *at[14:16]]

    counts = np.zeros((len(pricing.phases), len(OPCODES.groups)), np.int64)
    phase, skipped = pricing.phases.index("start"), 20  # ADDGT, of 30
    for address in trace:
        phase = {begin: pricing.phases.index("measured"), end: pricing.phases.index("end")}.get(
            address, phase
        )
        first = int.from_bytes(ended.program.code(address, address + 2), "little")
        counts[phase, OPCODES.find(first)] += 1
    add = int.from_bytes(ended.program.code(at[10], at[10] + 2), "little")
    counts[pricing.phases.index("measured"), OPCODES.find(add)] -= skipped
    return (
        ended.profile([TIMING]), TracedPricing(pricing), np.array(trace, np.uint32),
        OpcodeCounts(counts),
    )  # fmt: skip


def test_a_trace_comes_to_what_qemu_counts(traced):
    profile, pricing, trace, _ = traced
    found = pricing.pricing.profile(traced_blocks(pricing.pricing, trace, 0))
    for phase in ("measured",):
        i = profile.phases.index(phase)
        assert found.counts[i].tolist() == profile.counts[i].tolist()
        assert found.cycles[TIMING.name][i].tolist() == profile.cycles[TIMING.name][i].tolist()


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_conditional_branches_that_a_trace_leaves_out_are_known(traced, share: float):
    _, pricing, trace, _ = traced
    whole = traced_blocks(pricing.pricing, trace, 0)
    conditional = [
        pricing.pricing.instruction(one).branch == Branch.MAYBE for one in trace.tolist()
    ]
    left_out = conditional & (np.random.default_rng(1).random(len(trace)) < share)
    assert left_out.sum() > 10
    found = traced_blocks(pricing.pricing, trace[~left_out], 0)
    assert all(map(np.array_equal, astuple(found), astuple(whole)))


@pytest.mark.parametrize("times", [1, 2, 7])
def test_counts_are_priced_by_what_was_traced(traced, times: int):
    profile, pricing, trace, counts = traced
    assert pricing.profile(counts) is None
    pricing.add(traced_blocks(pricing.pricing, trace, 0), counts)
    found = pricing.profile(OpcodeCounts(times * counts.counts))
    i = profile.phases.index("measured")
    expected = times * profile.counts[i]
    expected[COUNTED.index("conditional")] = times * 10  # those that were executed
    assert found.counts[i].tolist() == expected.tolist()
    cycles = times * profile.cycles[TIMING.name][i]
    assert found.cycles[TIMING.name][i].tolist() == cycles.tolist()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_a_program_that_was_hardly_traced_loses_no_instruction(seed: int):
    pricing = TracedPricing(Pricing(NODE, [TIMING]))
    shape = len(pricing.pricing.phases), len(OPCODES.groups)
    main = np.array([NODE.functions["main"]], np.uint32)
    traced = OpcodeCounts(np.eye(*shape, dtype=np.int64))
    pricing.add(traced_blocks(pricing.pricing, main, 0), traced)
    counts = np.random.default_rng(seed).integers(0, 10**9, shape)
    found = pricing.profile(OpcodeCounts(counts))
    assert found is not None
    assert found.counts.sum(axis=1).tolist() == counts.sum(axis=1).tolist()
