"""What `make robot` says where a part of it cannot be run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinymetafed.places import PROJECT, RENODE


def _program(folder: Path, name: str, script: str = "exit 0") -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("there", "says", "status"),
    [
        ((), "there is no Renode: 'make renode', or name yours in TMF_RENODE", 0),
        (("renode",), "renode has no renode-test beside it, nor is one on the PATH", 0),
        (("renode", "renode-test"), "which would run it: No module named psutil", 1),
    ],
)
def test_why_renode_test_is_left_out(
    tmp_path: Path, there: tuple[str, ...], says: str, status: int
):
    if not there and RENODE.is_file():
        pytest.skip("'make renode' has installed one")
    for name in ("robot", "libdoc", "rebot"):
        _program(tmp_path, name)
    for name in there:
        _program(tmp_path, name)
    _program(tmp_path, "python", f'exec {sys.executable} "$@"')
    _program(tmp_path, "python3", "echo No module named psutil; exit 1")
    done = subprocess.run(
        ["bash", PROJECT / "robot_tests/run.sh"], capture_output=True, text=True, check=False,
        env=os.environ | {
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "TMF_RENODE": str(tmp_path / "renode") if there else "",
        },
    )  # fmt: skip
    assert done.returncode == status
    (line,) = done.stderr.splitlines()
    assert line.startswith("renode-test is left out: ")
    assert says in line
