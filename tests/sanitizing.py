"""Runs the tests that the arguments name with the sanitizers' build of the shared library, in a
process whose LD_PRELOAD has their runtime."""

import os
import sys
from pathlib import Path

import pytest


def main() -> int:
    os.__dict__["RTLD_DEEPBIND"] = 0  # capstone asks for it, and the runtime takes it from nobody
    from tinymetafed import places

    places.HOST_LIBRARY = places.BUILD / "sanitize/libtinymetafed.so"
    code = pytest.main([*sys.argv[1:], "-p", "no:cacheprovider"])
    assert str(places.HOST_LIBRARY) in Path("/proc/self/maps").read_text()
    return code


if __name__ == "__main__":
    sys.exit(main())
