"""The command line as a user calls it."""

import os
import subprocess
import sys
from pathlib import Path


def call(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `tinymetafed` with these arguments in `folder`, and with these environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "tinymetafed", *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | {"COLUMNS": "120", "NO_COLOR": "1"} | environment,
    )  # fmt: skip
