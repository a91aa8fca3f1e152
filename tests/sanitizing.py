"""Runs the tests that the arguments name with the sanitizers' build of the shared library, in a
process whose LD_PRELOAD has their runtime."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def check(file: str, names: str) -> None:
    """That the tests of the file pass whose names match, in such a process."""
    runtimes = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    done = subprocess.run(
        [sys.executable, __file__, file, "-k", names],
        env=os.environ
        | {
            "LD_PRELOAD": " ".join(runtimes),
            "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        },
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def main() -> int:
    os.__dict__["RTLD_DEEPBIND"] = 0  # capstone asks for it, and the runtime takes it from nobody
    from tinymetafed import places

    places.HOST_LIBRARY = places.BUILD / "sanitize/libtinymetafed.so"
    code = pytest.main([*sys.argv[1:], "-p", "no:cacheprovider"])
    assert str(places.HOST_LIBRARY) in Path("/proc/self/maps").read_text()
    return code


if __name__ == "__main__":
    sys.exit(main())
