"""Where the parts of the project lie: in its checkout, or, where the package was installed from a
wheel, in the package, laid out as the checkout is."""

import os
from pathlib import Path

import platformdirs

from .errors import TinyMetaFedError

_CHECKOUT = Path(__file__).resolve().parents[2]

IS_CHECKOUT = (_CHECKOUT / "firmware/CMakeLists.txt").is_file()
"""The firmware can be built."""

PROJECT = _CHECKOUT if IS_CHECKOUT else Path(__file__).resolve().parent / "shipped"
FIRMWARE = PROJECT / "firmware"
EMULATION = PROJECT / "emulation"
BUILD = PROJECT / "build"
DATASETS = PROJECT / "datasets"
EXPERIMENTS = PROJECT / "experiments"
TEMPLATES = Path(__file__).resolve().parent / "templates"

CACHE = DATASETS / "cache" if IS_CHECKOUT else platformdirs.user_cache_path("tinymetafed")
"""Folder of data sets that were downloaded, and of what was made of them."""

WORKSPACE = BUILD / "zephyr-workspace"
RENODE = BUILD / "renode/renode"

HOST_LIBRARY = BUILD / "host/libtinymetafed.so"
MPS2_IMAGE = BUILD / "mps2/tinymetafed.elf"
ZEPHYR_IMAGES = BUILD / "zephyr"

STORE = Path(os.environ.get("TMF_RUNS") or "runs")
"""Folder of the store and of what is drawn from it; private to the user."""

BUILT_BY = "make firmware" if IS_CHECKOUT else "pip install --force-reinstall tinymetafed"
"""The command that brings what is compiled."""


def zephyr_image(board: str) -> Path:
    """The node on Zephyr for this board."""
    return ZEPHYR_IMAGES / board / "zephyr/zephyr.elf"


def qemu_plugin(interface: int) -> Path:
    """What counts in a QEMU whose plugins have this interface."""
    return BUILD / f"qemu/libtmf_count_{interface}.so"


def require_checkout(what: str) -> None:
    """Raises TinyMetaFedError where there are no sources to build from."""
    if not IS_CHECKOUT:
        raise TinyMetaFedError(
            f"{what} needs the firmware's sources, which the installed package does not have; "
            "use a checkout of the project, after 'make setup' in it"
        )
