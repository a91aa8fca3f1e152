"""Functions without running them, beside what they execute."""

from pathlib import Path

import pytest

from assembling import MakeProgram
from tinymetafed.energy.program import Program
from tinymetafed.energy.static import Function, functions
from tinymetafed.energy.timing import Timing
from tinymetafed.nodes import standalone

M4 = Timing.load("cortex-m4")


def _function(image: Path, name: str = "work") -> Function:
    return next(one for one in functions(Program.read(image), M4) if one.name == name)


def _with(body: str) -> str:
    return (
        ".type work, %function\nwork: " + body + "\n.global main\n.type main, %function\n"
        "main: push {r4, lr}\nmovs r3, #7\nbl work\nmovs r0, #0\npop {r4, pc}"
    )


@pytest.mark.parametrize(
    ("body", "turns"),
    [
        ("movs r0, #200; 1: subs r0, #1; bne 1b; bx lr", [200]),
        ("movs r0, #200; 1: subs r0, #8; bne 1b; bx lr", [25]),
        ("mov.w r0, #3; 1: add.w r0, r0, #2; cmp r0, #99; bne.w 1b; bx lr", [48]),
        ("movs r1, #5; 2: movs r0, #9; 1: subs r0, #1; bne 1b; subs r1, #1; bne 2b; bx lr", [5, 9]),
        ("movs r0, #4; 1: cmp r3, #8; beq 2f; nop; nop; 2: subs r0, #1; bne 1b; bx lr", [4]),
    ],
)
def test_a_loop_that_counts_turns_as_often_as_it_is_executed(
    program: MakeProgram, body: str, turns: list[int]
):
    image = program(_with(body.replace(";", "\n")))
    found = _function(image)
    assert [loop.turns for loop in found.loops] == turns
    profile = standalone.run(image, trusted=True).functions([M4])["work"]
    cycles = int(profile.cycles["cortex-m4"][0][1])
    # The way taken is the longest; what is behind a branch not taken is priced as if led to.
    assert cycles <= found.cycles <= cycles * 1.15


@pytest.mark.parametrize(
    "body",
    [
        "1: subs r3, #1; bne 1b; bx lr",  # from what it is called with
        "movs r0, #9; 1: subs r0, #1; cmp r0, r3; bne 1b; bx lr",
        "movs r0, #9; 1: cmp r0, #3; sub r0, r0, #1; bne 1b; bx lr",  # compared before
        "movs r0, #9; 1: subs r0, #2; bne 1b; bx lr",  # never 0
        "movs r0, #9; 1: subs r0, #1; subs r0, #1; bne 1b; bx lr",
        "movs r0, #9; cmp r3, #1; it eq; moveq r0, #5; 1: subs r0, #1; bne 1b; bx lr",
        "movs r0, #9; 1: lsls r0, r0, #1; bne 1b; bx lr",
        "movs r0, #9; 1: subs r0, #1; bne 1b; cmp r3, #2; beq 1b; bx lr",  # two ways back
    ],
)
def test_turns_that_are_not_known(program: MakeProgram, body: str):
    found = _function(program(_with(body.replace(";", "\n"))))
    assert [loop.turns for loop in found.loops] == [None]
    assert found.loops[0].cycles >= 3


def test_only_what_can_be_executed_is_looked_at(program: MakeProgram):
    """Not constants in the code, nor what is called."""
    body = "ldr r0, =0xE7FEE7FE; bl other; cmp r0, #1; it eq; bxeq lr; bx lr; .ltorg"
    other = ".type other, %function\nother: subs r0, #1\nbne other\nbx lr\n"
    found = _function(program(_with(body.replace(";", "\n")) + "\n" + other))
    assert (found.instructions, found.loops) == (6, ())
    # LDR; BL and its refill; CMP, IT and BXEQ; BX LR and its refill.
    assert found.cycles == 2 + (1 + 1) + (1 + 0 + 1) + (1 + 1)


def test_every_function_is_there(program: MakeProgram):
    image = program(_with("bx lr"))
    found = {one.name: one for one in functions(Program.read(image), M4)}
    assert set(found) == {"reset_handler", "work", "main"}
    assert found["work"].cycles == 2
