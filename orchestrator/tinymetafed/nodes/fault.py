"""What a node's fault was, in words: by Arm's fault registers (Arm DDI 0403E, B3.2.15), and by the
source that the image was built from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..link import Fault
from .debug_info import debug_info
from .events import Kind, NodeEvent

EXCEPTIONS = {
    2: "NMI", 3: "HardFault", 4: "MemManage fault", 5: "BusFault", 6: "UsageFault",
}  # fmt: skip
REASONS = {
    1: "unexpected interrupt", 2: "stack overflow", 3: "kernel oops", 4: "kernel panic",
}  # fmt: skip
"""Of Zephyr's fatal errors (include/zephyr/fatal_types.h) those that the registers do not tell."""

_CFSR = {
    0: "instruction access violation", 1: "data access violation", 3: "unstacking failed",
    4: "stacking failed", 5: "saving of floating-point registers failed",
    8: "instruction bus error", 9: "data bus error", 10: "data bus error of an earlier store",
    11: "unstacking failed", 12: "stacking failed",
    13: "saving of floating-point registers failed",
    16: "undefined instruction", 17: "invalid state", 18: "invalid return from an exception",
    19: "no coprocessor", 24: "unaligned access", 25: "division by zero",
}  # fmt: skip
_STACKING = 1 << 4 | 1 << 12
_MMARVALID, _BFARVALID = 1 << 7, 1 << 15
_HFSR = {1: "vector table cannot be read", 31: "breakpoint"}
_EXC_RETURN = 0xFFFF_FF00
"""A return address from there on ends an exception's handler."""

_QEMU_REGISTER = re.compile(r"\b(R\d\d|XPSR)=([0-9a-f]{8})")
_QEMU_NAMES = {
    "R00": "r0", "R01": "r1", "R02": "r2", "R03": "r3", "R12": "r12", "R13": "sp", "R14": "lr",
    "R15": "pc", "XPSR": "xpsr",
}  # fmt: skip


@dataclass(frozen=True)
class Stand:
    """Where a processor stands: its registers by name, pc at least."""

    registers: Mapping[str, int]


def of_message(fault: Fault, image: Path | None) -> NodeEvent:
    """What a node's message says of its fault. image: what it runs, where that is known."""
    registers = fault.by_name
    if fault.exception:
        title = EXCEPTIONS.get(fault.exception, f"exception {fault.exception}")
    else:
        title = REASONS.get(fault.reason, f"fatal error {fault.reason}")
    causes = _causes(registers)
    if fault.exception and (fault.reason == 2 or _stack_ran_over(registers, image)):
        causes = ["stack overflow", *(one for one in causes if one != "stacking failed")]
    if (address := _address(registers)) is not None:
        causes.append(f"at address {address:#010x}")
    more = {"exception": fault.exception, "reason": fault.reason}
    return _event("fault", title, " ".join(causes), registers, image, more)


def of_lockup(said: str, image: Path | None) -> NodeEvent | None:
    """What QEMU says when it gives a processor up, which faulted while it handled a fault; None
    where it says something else."""
    if "Lockup" not in said:
        return None
    cause = "a fault in the handler of a fault"
    return _event("fault", "lockup", cause, qemu_registers(said), image, {})


def of_hang(seconds: float, limit: str, stand: Stand | None, image: Path | None) -> NodeEvent:
    """A node that has computed for so many seconds of its own time. limit: what that exceeds."""
    registers = stand.registers if stand is not None else {}
    cause = f"it has computed for {seconds:,.1f} s of its own time {limit}"
    return _event("hang", "endless loop", cause, registers, image, {"seconds": seconds})


def qemu_registers(said: str) -> dict[str, int]:
    """By name, of QEMU's last list of them."""
    found = {name: int(value, 16) for name, value in _QEMU_REGISTER.findall(said)}
    return {ours: found[theirs] for theirs, ours in _QEMU_NAMES.items() if theirs in found}


def _event(
    kind: Kind, title: str, cause: str, registers: Mapping[str, int],
    image: Path | None, more: dict[str, Any],
) -> NodeEvent:  # fmt: skip
    """title, cause: what happened. The places are those of pc and lr."""
    more = dict(more)
    text = title
    for register, before in (("pc", " in "), ("lr", ", called from ")):
        address = registers.get(register, 0)
        if address == 0 or (register == "lr" and address >= _EXC_RETURN):
            continue
        # A return address is behind the call; its lowest bit says Thumb.
        instruction = address & ~1 if register == "pc" else (address & ~1) - 2
        place = debug_info(image).place(instruction) if image is not None else None
        if place is not None:
            text += f"{before}{place}"
            more[register] = {
                "function": place.function, "file": place.file, "line": place.line
            }  # fmt: skip
        elif register == "pc":
            text += f" at {address:#010x}, which is in no function"
    if cause:
        text += f": {cause}"
    more["registers"] = {name: f"{value:#010x}" for name, value in registers.items()}
    return NodeEvent(kind, text, more)


def _causes(registers: Mapping[str, int]) -> list[str]:
    found = [text for bit, text in _CFSR.items() if registers["cfsr"] >> bit & 1]
    found += [text for bit, text in _HFSR.items() if registers["hfsr"] >> bit & 1]
    return list(dict.fromkeys(found))


def _address(registers: Mapping[str, int]) -> int | None:
    if registers["cfsr"] & _BFARVALID:
        return registers["bfar"]
    return registers["mmfar"] if registers["cfsr"] & _MMARVALID else None


def _stack_ran_over(registers: Mapping[str, int], image: Path | None) -> bool:
    """The processor could not save its registers on the stack, or accessed what is below it."""
    if registers["cfsr"] & _STACKING:
        return True
    bottom = debug_info(image).symbols.get("stack_bottom") if image is not None else None
    address = _address(registers)
    return bottom is not None and address is not None and bottom - 0x2000 <= address < bottom
