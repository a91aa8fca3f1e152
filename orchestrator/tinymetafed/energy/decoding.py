"""Thumb code to instructions, by Capstone."""

import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType

import capstone
from capstone import arm

from .instructions import CODE, DATA, Branch, Instruction

_decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
_decoder.detail = True
_one_at_a_time = threading.Lock()  # Capstone's decoder keeps what it has just decoded

_ALWAYS = (arm.ARM_CC_AL, arm.ARM_CC_INVALID)
_BRANCHES = {arm.ARM_INS_B, arm.ARM_INS_BL, arm.ARM_INS_BX, arm.ARM_INS_BLX}
_COMPARE_AND_BRANCH = {arm.ARM_INS_CBZ, arm.ARM_INS_CBNZ}
_ADDENDS: dict[int, tuple[int, ...]] = {
    **dict.fromkeys((
        arm.ARM_INS_MLA, arm.ARM_INS_MLS, arm.ARM_INS_SMLABB, arm.ARM_INS_SMLABT,
        arm.ARM_INS_SMLATB, arm.ARM_INS_SMLATT, arm.ARM_INS_SMLAWB, arm.ARM_INS_SMLAWT,
        arm.ARM_INS_SMLAD, arm.ARM_INS_SMLADX, arm.ARM_INS_SMLSD, arm.ARM_INS_SMLSDX,
        arm.ARM_INS_SMMLA, arm.ARM_INS_SMMLAR, arm.ARM_INS_SMMLS, arm.ARM_INS_SMMLSR,
    ), (3,)),
    **dict.fromkeys((
        arm.ARM_INS_UMLAL, arm.ARM_INS_SMLAL, arm.ARM_INS_UMAAL, arm.ARM_INS_SMLALBB,
        arm.ARM_INS_SMLALBT, arm.ARM_INS_SMLALTB, arm.ARM_INS_SMLALTT, arm.ARM_INS_SMLALD,
        arm.ARM_INS_SMLALDX, arm.ARM_INS_SMLSLD, arm.ARM_INS_SMLSLDX,
    ), (0, 1)),
    **dict.fromkeys((
        arm.ARM_INS_SXTAB, arm.ARM_INS_SXTAH, arm.ARM_INS_SXTAB16, arm.ARM_INS_UXTAB,
        arm.ARM_INS_UXTAH, arm.ARM_INS_UXTAB16,
    ), (1,)),
}  # fmt: skip
"""The operands that are addends, by instruction."""
_NO_REGISTER = arm.ARM_REG_INVALID


def decode(
    code: bytes,
    address: int,
    classify: Callable[[int, int], str],
    memories: Mapping[int, int] = MappingProxyType({}),
) -> list[Instruction]:
    """The instructions of `code`, which follow each other from `address` on.

    classify: the class by the first and the second halfword. What is no instruction is taken as
    one of its length with no operands. memories: where loads and stores were seen to go, by
    address; one that is not there goes to its literal pool in the code, or else to the RAM.
    """
    found: list[Instruction] = []
    place = 0
    while place + 2 <= len(code):
        with _one_at_a_time:
            for one in _decoder.disasm(code[place:], address + place):
                found.append(_instruction(one, classify, memories))
                place += one.size
        if place + 2 <= len(code):  # it stopped at something that it does not know
            first = int.from_bytes(code[place : place + 2], "little")
            size = 4 if first >> 11 in (0b11101, 0b11110, 0b11111) else 2
            if place + size > len(code):
                break
            second = int.from_bytes(code[place + 2 : place + 4], "little") if size == 4 else 0
            nothing: frozenset[str] = frozenset()
            found.append(
                Instruction(
                    address + place, size, first << 16 | second, "?", classify(first, second),
                    False, Branch.NEVER, None, False, nothing, nothing, nothing, nothing, False,
                    False, 0, nothing, False,
                )
            )  # fmt: skip
            place += size
    return found


def _instruction(
    one: capstone.CsInsn, classify: Callable[[int, int], str], memories: Mapping[int, int]
) -> Instruction:
    first = int.from_bytes(one.bytes[:2], "little")
    second = int.from_bytes(one.bytes[2:4], "little")
    name = classify(first, second)
    operands = one.operands
    reads, writes = (_names(one, numbers) for numbers in one.regs_access())
    memory = next((o.mem for o in operands if o.type == arm.ARM_OP_MEM), None)
    addressing: frozenset[str] = frozenset()
    indexed = literal = False
    if memory is not None:
        parts = [r for r in (memory.base, memory.index) if r != _NO_REGISTER]
        indexed = len(parts) == 2
        literal = memory.base == arm.ARM_REG_PC
        addressing = _names(one, parts)
    transfers = 0
    if name.endswith("multiple"):
        stack = one.id in (
            arm.ARM_INS_PUSH, arm.ARM_INS_POP, arm.ARM_INS_VPUSH, arm.ARM_INS_VPOP,
        )  # fmt: skip
        moved = operands if stack else operands[1:]
        transfers = sum(len(_words(one.reg_name(o.reg))) for o in moved)
        addressing = frozenset({"sp"}) if stack else _names(one, [operands[0].reg])
        registers = _names(one, [o.reg for o in moved])
        if "load" in name:  # capstone says otherwise of some
            reads, writes = addressing, registers | (addressing & writes)
        else:
            reads, writes = registers | addressing, addressing & writes
        if stack:
            writes |= {"sp"}
    elif name in ("FP load", "FP store"):
        transfers = len(_words(one.reg_name(operands[0].reg)))
    elif name == "FP move":
        transfers = 2 if len(operands) > 2 else 1  # two core registers, and one or two others
    addend: frozenset[str] = frozenset()
    if places := _ADDENDS.get(one.id, (0,) if name == "FP multiply-accumulate" else ()):
        factors = [o.reg for i, o in enumerate(operands) if i > 0 and i not in places]
        addend = _names(one, [operands[i].reg for i in places]) - _names(one, factors)
    branch, target = _branch(one, name, writes)
    # B<c> has its condition from its encoding: T1, or T3 of 32 bits.
    own_condition = first >> 12 == 0b1101 or (first >> 11 == 0b11110 and name == "branch")
    return Instruction(
        address=one.address,
        size=one.size,
        encoding=first << 16 | second,
        text=f"{one.mnemonic} {one.op_str}".strip(),
        name=name,
        conditional=name != "IT" and one.cc not in _ALWAYS and not own_condition,
        branch=branch,
        target=target,
        early=branch != Branch.NEVER and _early(one),
        reads=reads,
        writes=writes,
        results=writes - addressing if one.writeback else writes,
        addressing=addressing,
        indexed=indexed,
        from_literal_pool=literal,
        transfers=transfers,
        addend=addend,
        sets_flags=one.update_flags,
        memories=memories.get(one.address, CODE if literal else DATA),
    )


def _branch(one: capstone.CsInsn, name: str, writes: frozenset[str]) -> tuple[Branch, int | None]:
    leaves = name in ("branch", "table branch") or "pc" in writes
    if not leaves:
        return Branch.NEVER, None
    target = None
    if one.id in _BRANCHES | _COMPARE_AND_BRANCH:
        last = one.operands[-1]
        target = last.imm & 0xFFFFFFFF if last.type == arm.ARM_OP_IMM else None
    if one.id in _COMPARE_AND_BRANCH or one.cc not in _ALWAYS:
        return Branch.MAYBE, target
    return Branch.ALWAYS, target


def _early(one: capstone.CsInsn) -> bool:
    """B and BL to an address; BX, BLX and MOV PC to LR."""
    if one.id not in _BRANCHES | {arm.ARM_INS_MOV}:
        return False
    last = one.operands[-1]
    return last.type == arm.ARM_OP_IMM or last.reg == arm.ARM_REG_LR


def _names(one: capstone.CsInsn, numbers: list[int]) -> frozenset[str]:
    return frozenset(word for n in numbers for word in _words(one.reg_name(n)))


def _words(register: str | None) -> tuple[str, ...]:
    assert register is not None  # the decoder knows the names of its numbers
    if register.startswith("d") and register[1:].isdigit():
        first = 2 * int(register[1:])
        return f"s{first}", f"s{first + 1}"
    return (register,)
