"""Builds the wheel and the sdist into dist/, and proves them: from each the same image, and a wheel
that runs where there is neither a checkout nor a compiler. For every Python given (this one):

    python tests/distributing.py python3.12 python3.13
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from elftools.elf.sections import NoteSection

from following import START, follow
from tinymetafed.energy.program import open_elf
from tinymetafed.places import HOST_LIBRARY, MPS2_IMAGE, PROJECT

DIST = PROJECT / "dist"
IMAGE = "tinymetafed/shipped/build/mps2/tinymetafed.elf"
COMPILERS = ("cc", "gcc", "clang", "cmake", "ninja", "make", "arm-none-eabi-gcc")
LONGEST = 300  # seconds for a command


def main(pythons: list[str]) -> None:
    """Raises CalledProcessError, or AssertionError that says what is wrong."""
    shutil.rmtree(DIST, ignore_errors=True)
    say("building wheel and sdist")
    quiet(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel", str(PROJECT))
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    with TemporaryDirectory(prefix="tinymetafed-dist-") as name:
        folder = Path(name)
        say("building the sdist as a stranger does")
        quiet(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(folder), str(sdist))
        (again,) = folder.glob("*.whl")
        same_images(wheel, again, folder)
        for python in pythons:
            prove(wheel, python, folder)
    for path in (wheel, sdist):
        say(f"{path.relative_to(PROJECT)}, {path.stat().st_size / 1e6:.1f} MB")


def same_images(wheel: Path, again: Path, folder: Path) -> None:
    """The image and the host library of both wheels, and of the checkout, to the byte."""
    built = {IMAGE: MPS2_IMAGE, "tinymetafed/shipped/build/host/libtinymetafed.so": HOST_LIBRARY}
    for name, path in built.items():
        found = {path.read_bytes()}
        for archive in (wheel, again):
            with zipfile.ZipFile(archive) as file:
                found.add(file.read(name))
        assert len(found) == 1, f"{name} is not the same in checkout, wheel and sdist"
    with open_elf(MPS2_IMAGE) as elf:
        section = elf.get_section_by_name(".note.gnu.build-id")
        assert isinstance(section, NoteSection)
        (note,) = section.iter_notes()
    say(f"the same image from checkout, wheel and sdist: build-id {note['n_desc']}")


def prove(wheel: Path, python: str, folder: Path) -> None:
    """A fresh environment of this Python, an empty folder, nothing but QEMU on the PATH."""
    version = quiet(python, "-c", "import platform; print(platform.python_version())").strip()
    say(f"installing the wheel for Python {version}")
    place = folder / version
    for part in ("bin", "empty", "home"):
        (place / part).mkdir(parents=True)
    quiet(python, "-m", "venv", str(place / "venv"))
    quiet(
        str(place / "venv/bin/python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        str(wheel),
    )
    qemu = shutil.which("qemu-system-arm")
    assert qemu is not None
    (place / "bin/qemu-system-arm").symlink_to(qemu)
    environment = {"PATH": str(place / "bin"), "HOME": str(place / "home"), "LANG": "C.UTF-8"}
    assert not any(shutil.which(one, path=environment["PATH"]) for one in COMPILERS)

    def tinymetafed(*arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [place / "venv/bin/tinymetafed", *arguments], cwd=place / "empty", env=environment,
            capture_output=True, text=True, timeout=LONGEST, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == status, f"tinymetafed {' '.join(arguments)}: {said}"
        return said

    assert "firmware" in tinymetafed("doctor")
    weights = []
    for backend in ("qemu", "host"):
        say(f"running the demo on {backend}")
        assert "300 of 300 rounds" in tinymetafed(
            "run", "demo", "--set", f"nodes.backend={backend}"
        )
        tinymetafed("export", "last", "-o", f"{backend}.npz")
        with np.load(place / f"empty/{backend}.npz") as arrays:
            weights.append({name: arrays[name].tobytes() for name in arrays if name != "metadata"})
    assert weights[0] == weights[1], "a host node and an emulated one end in other weights"
    tinymetafed("plan", "demo")
    written = tinymetafed("init", "mine")
    assert "mine/.github/workflows/ci.yml" in written, written
    assert "60 of 60 rounds" in tinymetafed("run", "mine/pumps.toml")
    assert "pip install 'tinymetafed[report]'" in tinymetafed("report", "demo", status=1)
    quiet(str(place / "venv/bin/python"), "-m", "pip", "install", "--quiet", "vl-convert-python")
    tinymetafed("report", "demo")
    say("following the start and the tutorial")
    quiet(str(place / "venv/bin/python"), "-m", "pip", "install", "--quiet", "scikit-learn")
    for tool in ("head", "tail", "wc"):
        (place / "bin" / tool).symlink_to(shutil.which(tool) or "/nowhere")
    for page in ("start", "tutorial"):
        (place / page).mkdir()
    path = f"{place}/venv/bin:{environment['PATH']}"
    follow(place / "start", environment | {"PATH": path}, START)
    follow(place / "tutorial", environment | {"PATH": path})
    said = tinymetafed("firmware", "build", "--model", "last", status=1)
    assert said.count("\n") == 1, said
    assert "checkout" in said, said


def quiet(*command: str) -> str:
    """What the command prints, which is shown only if it fails."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}")
    return done.stdout


def say(text: str) -> None:
    """A line at once, however long the next step takes."""
    print(text, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or [sys.executable])
