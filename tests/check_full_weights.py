"""Makes the full runs of the project's experiments again, on host nodes, and says for each whether
it ends in the weights that were recorded, and how many bytes it moved then and now.

Usage: python tests/check_full_weights.py [--jobs N] [NAME…]

NAME is that of an experiment file, or the beginning of a name in recorded_weights.json up to a
slash: demo, paper/sine, "paper/spoken digits/FedAvg/1"; all that are recorded where none is given,
which takes about an hour on one core. The status is 1 where weights are other ones or a run failed.
"""

import argparse
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import recording
from tinymetafed.errors import TinyMetaFedError

FULL = recording.RECORDED["full"]


def check(name: str) -> tuple[bool, str]:
    """Whether the weights are those recorded, and what to print."""
    before = FULL[name]
    try:
        with tempfile.TemporaryDirectory() as folder:
            now = recording.play(recording.full(name), Path(folder))
    except TinyMetaFedError as error:
        return False, f"FAILED  {name}: {error}"
    same = now.sha256 == before["sha256"]
    moved = ", ".join(
        f"{way} {before[f'bytes_{way}']:,} → {getattr(now, f'bytes_{way}'):,}"
        for way in ("down", "up")
    )
    return same, f"{'same' if same else 'OTHER':7} {name}: bytes {moved}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="all where none is given")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    given = parser.parse_args()
    for wanted in given.names:
        if not any(_is_in(name, wanted) for name in FULL):
            parser.error(f"{wanted}: nothing of that name is recorded")
    names = [name for name in FULL if not given.names or any(_is_in(name, w) for w in given.names)]
    recording.find_data()
    right = 0
    with ProcessPoolExecutor(given.jobs) as pool:
        for same, line in pool.map(check, names):
            print(line, flush=True)
            right += same
    print(f"{right} of {len(names)} end in the weights that were recorded")
    return int(right < len(names))


def _is_in(name: str, wanted: str) -> bool:
    return f"{name}/".startswith(f"{wanted.rstrip('/')}/")


if __name__ == "__main__":
    sys.exit(main())
