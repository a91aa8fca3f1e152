"""The C core under libFuzzer, with AddressSanitizer and UndefinedBehaviorSanitizer.

`python tests/fuzzing.py --minutes 5` fuzzes both harnesses and prints which lines of the core they
reached. What they find is left in build/fuzz/found/: an input that is a finding, whose name is
printed, and inputs that reach more than the corpus, from which the next run goes on.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tinymetafed.places import BUILD, PROJECT

HARNESSES = ("raw", "requests")
FOLDER = BUILD / "fuzz"
FOUND = FOLDER / "found"  # a longer run goes on from there
CORPUS = PROJECT / "tests/firmware/fuzz/corpus"


class Finding(Exception):
    """What the sanitizers, or a harness, said."""


@dataclass(frozen=True)
class Fuzzed:
    """runs: inputs that were executed. profile: which lines were."""

    runs: int
    profile: Path


def missing() -> str | None:
    """What fuzzing needs and is not there."""
    if shutil.which("clang") is None:
        return "clang is not installed: apt-get install clang llvm"
    probe = ["clang", "-fsanitize=fuzzer,address", "-xc", "-", "-o", os.devnull]
    harness = (
        "#include <stddef.h>\nint LLVMFuzzerTestOneInput(const char *p, size_t n) { return 0; }"
    )
    if subprocess.run(probe, input=harness, text=True, capture_output=True).returncode != 0:
        return "clang has no libFuzzer: apt-get install libclang-rt-14-dev, or of its version"
    return None


def build() -> None:
    """Builds the harnesses, where they are older than their sources."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # for zcbor
    }
    configure = ["cmake", "-G", "Ninja", "-S", PROJECT / "firmware", "-B", FOLDER]
    configure += ["-DTMF_PORT=host", "-DTMF_FUZZ=ON", "-DCMAKE_C_COMPILER=clang"]
    for command in (configure, ["cmake", "--build", FOLDER]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise Finding(done.stdout + done.stderr)


def fuzz(harness: str, *limits: str, seed: int, folder: Path) -> Fuzzed:
    """Fuzzes from the corpus on until the limits are reached, as libFuzzer's options have them.
    folder: for new inputs, for one that is a finding, and for the profile. Raises Finding."""
    found, profile = folder / harness, folder / f"{harness}.profraw"
    found.mkdir(exist_ok=True)
    options = ["-max_len=4096", "-detect_leaks=0", "-timeout=30", "-print_final_stats=1"]
    done = subprocess.run(
        [
            FOLDER / f"fuzz_{harness}", f"-seed={seed}", f"-artifact_prefix={folder}/", *options,
            *limits, found, CORPUS / harness,
        ],
        env=os.environ | {"LLVM_PROFILE_FILE": str(profile)},
        capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode != 0:
        raise Finding(f"fuzz_{harness}: {_said(done.stderr)}")
    runs = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    assert runs is not None
    return Fuzzed(int(runs[1]), profile)


def _said(log: str) -> str:
    """Without the map of memory."""
    return "\n".join([line for line in log.splitlines() if "\t" not in line][-50:])


def coverage(fuzzed: Sequence[Fuzzed]) -> dict[str, tuple[int, int]]:
    """Of each file of the core: lines that were reached, and lines."""

    def tool(name: str) -> str:
        path = ["clang", f"-print-prog-name={name}"]
        return subprocess.run(path, capture_output=True, text=True, check=True).stdout.strip()

    merged = fuzzed[0].profile.with_name("merged.profdata")
    profiles = [one.profile for one in fuzzed]
    subprocess.run([tool("llvm-profdata"), "merge", "-sparse", *profiles, "-o", merged], check=True)
    first, *others = [FOLDER / f"fuzz_{name}" for name in HARNESSES]
    objects = [part for other in others for part in ("-object", other)]
    export = [tool("llvm-cov"), "export", "-summary-only", first, *objects]
    output = subprocess.run(
        [*export, f"-instr-profile={merged}"], capture_output=True, text=True, check=True
    ).stdout
    files = {
        one["filename"]: one["summary"]["lines"] for one in json.loads(output)["data"][0]["files"]
    }
    return {
        Path(name).name: (lines["covered"], lines["count"])
        for name, lines in sorted(files.items())
        if "/core/tmf_" in name and lines["count"]
    }


def coverage_table(files: dict[str, tuple[int, int]]) -> Table:
    """For people."""
    table = Table("file", title="Lines of firmware/core that the harnesses reach")
    for head in ("reached", "of", "%"):
        table.add_column(head, justify="right")
    total = tuple(map(sum, zip(*files.values(), strict=True)))
    for name, (reached, lines) in (*files.items(), ("all", total)):
        table.add_row(name, str(reached), str(lines), f"{100 * reached / lines:.1f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if (reason := missing()) is not None:
        sys.exit(f"error: {reason}")
    console = Console()
    limit = f"-max_total_time={max(1, round(60 * arguments.minutes / len(HARNESSES)))}"
    try:
        build()
        FOUND.mkdir(exist_ok=True)
        fuzzed = [fuzz(name, limit, seed=arguments.seed, folder=FOUND) for name in HARNESSES]
    except Finding as finding:
        sys.exit(f"error: {finding}")
    console.print(coverage_table(coverage(fuzzed)))
    for name, one in zip(HARNESSES, fuzzed, strict=True):
        console.print(f"{name}: {one.runs:,} inputs, no finding")


if __name__ == "__main__":
    main()
