"""Follows a page of the documentation: writes the files that it has, types its commands, and looks
for what it says that they print."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tinymetafed.places import PROJECT

TUTORIAL = PROJECT / "docs/tutorial.md"
START = PROJECT / "docs/start.md"
LONGEST = 400  # seconds for a block of commands
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def follow(
    folder: Path, environment: Mapping[str, str] = os.environ, page: Path = TUTORIAL
) -> list[str]:
    """In `folder`. The first block of commands, which installs, is the caller's. Returns the names
    of the files. Raises AssertionError where a command fails or prints something else."""
    blocks = [(found[1], found[2]) for found in FENCE.finditer(page.read_text())]
    (kind, install), *rest = blocks
    assert kind == "sh"
    assert "pip install" in install
    names: list[str] = []
    printed = ""
    for kind, text in rest:
        if kind == "sh":
            printed = _typed(folder, text, environment)
        elif kind == "text":
            missing = [line for line in text.splitlines() if line not in printed]
            assert not missing, f"{missing}\nis not in\n{printed}"
        else:
            first, _, content = text.partition("\n")
            names.append(first.removeprefix("# "))
            (folder / names[-1]).write_text(content)
    return names


def _typed(folder: Path, commands: str, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        ["/bin/bash", "-e", "-c", commands], cwd=folder, check=False, timeout=LONGEST,
        env={**environment, "COLUMNS": "80", "NO_COLOR": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}{done.stdout}{done.stderr}"
    return done.stdout
