"""What is installed, what is missing, how to get it."""

import asyncio
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..energy.profile import Profile
from ..errors import TinyMetaFedError
from ..nodes import renode_console
from ..nodes.backends import make_nodes, private_directory
from ..nodes.settings import NodeSettings
from ..places import BUILT_BY, IS_CHECKOUT, STORE, WORKSPACE


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: bool
    detail: str  # the version, or how to get it
    needed: bool = True  # all else works without it where not


# Program, what it is for, Debian's package.
QEMU = ("qemu-system-arm", "runs the nodes", "qemu-system-arm")
COMPILERS = (
    ("arm-none-eabi-gcc", "builds their firmware", "gcc-arm-none-eabi libnewlib-arm-none-eabi"),
    ("cc", "builds the host backend and the counting plugin", "gcc"),
    ("cmake", "builds the firmware", "cmake"),
    ("ninja", "builds the firmware", "ninja-build"),
)


def examine() -> Iterator[Finding]:
    """Looks at everything that a run needs; boots a node of every backend."""
    python = platform.python_version()
    yield Finding("Python", sys.version_info >= (3, 11), f"{python}; 3.11 or newer is needed")
    for package in ("numpy", "pydantic", "cbor2", "cobs", "cffi", "zcbor", "matplotlib"):
        try:
            yield Finding(package, True, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(package, False, f"pip install {package}")
    # What is installed from a wheel brings what they build.
    for program, purpose, package in (QEMU, *(COMPILERS if IS_CHECKOUT else ())):
        path = shutil.which(program)
        detail = _version(path) if path else f"{purpose}; apt-get install {package}"
        yield Finding(program, path is not None, detail)
    if IS_CHECKOUT:
        yield _zephyr()
    yield _renode()
    yield from asyncio.run(_boot())
    yield _store(STORE)


def _zephyr() -> Finding:
    base = Path(os.environ.get("ZEPHYR_BASE") or WORKSPACE / "zephyr")
    if not (base / "VERSION").is_file():
        return Finding("Zephyr", False, "builds nodes on Zephyr; make zephyr", needed=False)
    lines = (line.split("=") for line in (base / "VERSION").read_text().splitlines() if "=" in line)
    version = {key.strip(): value.strip() for key, value in lines}
    number = ".".join(version[key] for key in ("VERSION_MAJOR", "VERSION_MINOR", "PATCHLEVEL"))
    return Finding("Zephyr", True, f"{number} in {base}", needed=False)


def _renode() -> Finding:
    path = renode_console.program()
    if path is None:
        return Finding(
            "Renode", False, "runs nodes, if on the PATH or named in TMF_RENODE", needed=False
        )
    return Finding("Renode", True, path, needed=False)


def _version(program: str) -> str:
    result = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return (result.stdout or result.stderr).partition("\n")[0]


async def _boot() -> list[Finding]:
    findings: list[Finding] = []
    with private_directory() as directory:
        every = [NodeSettings(backend="host", count=1), NodeSettings(backend="qemu", count=1)]
        if renode_console.program() is not None:
            every.append(NodeSettings(backend="renode", count=1))
        for settings in every:
            backend = settings.backend
            what, needed = f"a {backend} node boots", backend != "renode"
            try:
                (node,) = make_nodes(settings, directory)
                try:
                    hello = await node.start()
                    if backend == "renode":  # a frame that is traced, which takes a disassembler
                        await node.greet()
                    counting = _counting(node.take_usage().profile) if backend != "host" else ""
                finally:
                    await node.close()
                detail = f"firmware {hello.version}, build {hello.build.hex()[:12]}{counting}"
                findings.append(Finding(what, True, detail, needed))
            except TinyMetaFedError as error:
                findings.append(Finding(what, False, str(error), needed))
    return findings


def _counting(profile: Profile | None) -> str:
    if profile is None:
        return f"; instructions are not counted: run '{BUILT_BY}'"
    return f", {profile.instructions.sum():,} instructions until its hello"


def _store(folder: Path) -> Finding:
    there = folder if folder.exists() else folder.absolute().parent
    writable = os.access(there, os.W_OK | os.X_OK)
    hint = "" if writable else ": not writable; set TMF_RUNS to a folder that is"
    return Finding("folder for runs", writable, f"{folder}{hint}")
