"""What ends the command line from outside, from its first moment on, and as process number 1."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import namespaces

# The command line, sent a signal by itself while it imports NumPy, where an exception may be lost.
IMPORTING = """
import builtins, os, signal, sys
from tinymetafed import __main__

find = builtins.__import__

def signal_once(name, *arguments, **others):
    if name == "numpy":
        builtins.__import__ = find
        os.kill(os.getpid(), int(sys.argv[1]))
    return find(name, *arguments, **others)

builtins.__import__ = signal_once
try:
    __main__.main()
finally:
    print("an exception")
"""

# The same while it looks for runs.
LISTING = """
import os, signal, sys, time
from tinymetafed import __main__
from tinymetafed.results.store import Store

def runs(self):
    os.kill(os.getpid(), how)
    time.sleep(60)

how = int(sys.argv[1])
Store.runs = runs
sys.argv[1:] = ["runs"]
__main__.main()
"""

# The same while a node of the doctor's boots.
BOOTING = """
import os, signal, sys
from tinymetafed import __main__
from tinymetafed.nodes.qemu import QemuTransport

async def read(self):
    os.kill(os.getpid(), how)
    await asyncio.sleep(60)

import asyncio
how = int(sys.argv[1])
QemuTransport.read = read
sys.argv[1:] = ["doctor"]
__main__.main()
"""


def _as_a_shell_s() -> None:
    """Tests in the background, or under nohup, are begun with signals ignored; this is not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _interrupt(script: str, how: int, folder: Path, *before: str) -> tuple[int, str]:
    """Exit status, and what it said on standard error."""
    done = subprocess.run(
        [*before, sys.executable, "-c", script, str(int(how))],
        cwd=folder, env=os.environ | {"TMPDIR": str(folder)}, timeout=60, check=False,
        capture_output=True, text=True,
        preexec_fn=_as_a_shell_s,
    )  # fmt: skip
    assert "an exception" not in done.stdout
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("script", "how"),
    [(IMPORTING, signal.SIGINT), (LISTING, signal.SIGTERM), (BOOTING, signal.SIGHUP)],
    ids=["importing", "listing", "booting"],
)
def test_an_interruption_is_one_line(tmp_path: Path, script: str, how: signal.Signals):
    assert _interrupt(script, how, tmp_path) == (130, "Interrupted.\n")
    assert not list(tmp_path.glob("tinymetafed-*"))


@pytest.mark.skipif(not namespaces.there(), reason="no namespaces here")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_so_it_is_as_process_1(tmp_path: Path, how: signal.Signals):
    script = LISTING.replace("os.getpid()", "1")
    assert _interrupt(script, how, tmp_path, *namespaces.FIRST) == (130, "Interrupted.\n")


FIRST = """
import os, sys, time
from tinymetafed.signals import serve_as_first_process

serve_as_first_process()
assert os.getppid() == 1
read, write = os.pipe()
if os.fork() == 0:
    if (orphan := os.fork()) != 0:
        os.write(write, str(orphan).encode())
    os._exit(0)
os.wait()
orphan = os.read(read, 16).decode()
for _ in range(1000):  # left to number 1, it is gone as soon as that has taken note of it
    if not os.path.exists(f"/proc/{orphan}"):
        print("gone", flush=True)
        break
    time.sleep(0.01)
how = int(sys.argv[1])
if how:
    os.kill(os.getpid(), how)
sys.exit(7)
"""


@pytest.mark.skipif(not namespaces.there(), reason="no namespaces here")
@pytest.mark.parametrize(("how", "status"), [(0, 7), (9, 137)])
def test_process_1_takes_note_of_whoever_ends_and_passes_the_status_on(how: int, status: int):
    done = subprocess.run(
        [*namespaces.FIRST, sys.executable, "-c", FIRST, str(how)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert done.stdout == "gone\n"
