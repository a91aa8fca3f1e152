"""Emulators live no longer than who started them, whatever number it has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import namespaces
from tinymetafed.nodes import process
from tinymetafed.nodes.process import dies_with_this_process, last_words


def test_a_child_whose_parent_has_ended_does_not_start(monkeypatch: pytest.MonkeyPatch):
    ended: list[int] = []
    monkeypatch.setattr(process, "kill_with_parent", lambda: None)
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(os, "getpid", lambda: 1)  # a container's first process
    bind = dies_with_this_process()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    bind()
    assert not ended
    monkeypatch.setattr(os, "getppid", lambda: 0)
    bind()
    assert ended == [1]


FIRST = """
import asyncio, os, sys
from pathlib import Path
from tinymetafed.nodes.backends import private_directory
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.qemu import QemuTransport

async def main():
    with private_directory() as directory:
        node = Node("node-0", lambda: QemuTransport.open(directory, "node-0"))
        hello = await node.start()
        print(os.getpid(), hello.version)
        await node.close()

asyncio.run(main())
"""


@pytest.mark.skipif(not namespaces.there(), reason="no namespaces here")
def test_nodes_boot_where_the_orchestrator_is_process_1():
    command = [*namespaces.FIRST, sys.executable, "-c", FIRST]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("1 ")


DOTNET = """\
Renode, version 1.16.1
Unhandled exception. System.IO.IOException: No space left on device : '/tmp/1.trace'
   at System.IO.RandomAccess.WriteAtOffset(SafeFileHandle handle, ReadOnlySpan`1 buffer)
   at System.IO.Strategies.BufferedFileStreamStrategy.Dispose(Boolean disposing)
--- End of stack trace from previous location ---
   at System.Threading.Thread.StartCallback()
"""
MONO = """\
Fatal error:
Could not find libllvm-disas. Please check in current output directory.
  at Antmicro.LLVMDisasWrapper..ctor (System.String cpu) [0x00021] in <fae8fa84452c>:0

[ERROR] FATAL UNHANDLED EXCEPTION: Antmicro.RecoverableException: Could not find libllvm-disas.
  at Antmicro.LLVMDisasWrapper..ctor (System.String cpu) [0x00021] in <fae8fa84452c>:0
  at System.Threading.ThreadHelper.ThreadStart () [0x0000b] in <12b418a7818c>:0
"""
NETWORK = "qemu-system-arm: warning: nic lan9118.0 has no peer\n"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (DOTNET, "No space left on device : '/tmp/1.trace'"),
        (MONO, "FATAL UNHANDLED EXCEPTION: Antmicro.RecoverableException: Could not find libllvm"),
        (f"no kernel at 0\n{NETWORK}", "it said: no kernel at 0"),
        (NETWORK, "it said nothing"),
        ("", "it said nothing"),
    ],
    ids=["dotnet", "mono", "qemu", "of no interest", "nothing"],
)
def test_last_words_are_the_exception_and_not_its_trace(tmp_path: Path, log: str, said: str):
    file = tmp_path / "emulator.log"
    file.write_text(log)
    assert said in last_words(file)
