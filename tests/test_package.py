"""What a wheel carries is complete, and works where there is neither a checkout nor a compiler.
`make dist` does the same with real wheels."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tinymetafed.nodes.library import HEADERS
from tinymetafed.nodes.qemu import INTERFACES
from tinymetafed.places import BUILD, PROJECT

Run = Callable[..., subprocess.CompletedProcess[str]]

NOT_CARRIED = ("emulation/packages.sh", "emulation/qemu/count.c")
"""What only building needs."""


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as a wheel lays it out."""
    folder = tmp_path_factory.mktemp("installed")
    package = folder / "tinymetafed"
    shutil.copytree(
        PROJECT / "orchestrator/tinymetafed", package,
        ignore=shutil.ignore_patterns("__pycache__"),
    )  # fmt: skip
    command = ["cmake", "--install", BUILD, "--component", "shipped"]
    subprocess.run(
        [*command, "--prefix", package / "shipped"], check=True, capture_output=True, text=True
    )
    return folder


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Run:
    """Runs Python with that package, in an empty folder, with nothing but QEMU on the PATH."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "bin/qemu-system-arm").symlink_to(shutil.which("qemu-system-arm") or "/nowhere")
    environment = {
        "PATH": str(tmp_path / "bin"), "PYTHONPATH": str(installed), "HOME": str(tmp_path),
        "COLUMNS": "120",
    }  # fmt: skip

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path / "empty", env=environment, timeout=120,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return call


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_wheel_carries_all_that_is_not_for_building(installed: Path):
    of_the_checkout = {
        str(path.relative_to(PROJECT))
        for part in ("emulation", "experiments")
        for path in (PROJECT / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    of_the_checkout |= {f"datasets/{path.name}" for path in (PROJECT / "datasets").glob("*.toml")}
    of_the_checkout |= {f"firmware/{header}" for header in HEADERS}
    images = [BUILD / "mps2/tinymetafed.elf", *BUILD.glob("zephyr/*/zephyr/zephyr.elf")]
    built = {
        f"build/{image.relative_to(BUILD)}{end}" for image in images for end in ("", ".sha256")
    }
    built |= {f"build/qemu/libtmf_count_{number}.so" for number in INTERFACES.values()}
    built |= {"build/host/libtinymetafed.so"}
    shipped = _files(installed / "tinymetafed/shipped")
    assert shipped == (of_the_checkout - {*NOT_CARRIED}) | built
    for file in shipped:
        assert (installed / "tinymetafed/shipped" / file).read_bytes() == (
            PROJECT / file
        ).read_bytes(), file


def test_an_experiment_by_name_without_checkout_and_compiler(run: Run):
    code = "from tinymetafed import places; print(places.IS_CHECKOUT, places.CACHE)"
    assert run("-c", code).stdout.startswith("False ")
    for backend in ("host", "qemu"):
        changes = ("--set", "rounds=2", "--set", f"nodes.backend={backend}")
        done = run("-m", "tinymetafed", "run", "smoke", *changes)
        assert done.returncode == 0, done.stderr
        assert "2 of 2 rounds" in done.stdout
    assert "not counted" not in done.stdout
    done = run("-m", "tinymetafed", "report", "last")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["firmware build --model last", "flash nrf52840dk"])
def test_what_needs_a_checkout_says_so(run: Run, command: str):
    done = run("-m", "tinymetafed", *command.split())
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "needs the firmware's sources, which the installed package does not have" in done.stderr


def test_a_package_without_images_of_zephyr_says_so(run: Run, installed: Path):
    shutil.rmtree(installed / "tinymetafed/shipped/build/zephyr", ignore_errors=True)
    done = run("-m", "tinymetafed", "run", "smoke", "--set", "nodes.firmware=zephyr")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the installed package has no image of Zephyr for mps2_an386" in done.stderr


def test_what_is_missing_in_a_package_is_installed_anew(run: Run, installed: Path):
    library = installed / "tinymetafed/shipped/build/host/libtinymetafed.so"
    aside = library.rename(library.with_suffix(".aside"))
    try:
        done = run("-m", "tinymetafed", "run", "smoke", "--set", "nodes.backend=host")
    finally:
        aside.rename(library)
    assert done.returncode == 1
    assert done.stderr.endswith("run 'pip install --force-reinstall tinymetafed'\n")
