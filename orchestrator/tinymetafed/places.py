"""Where the parts of the project lie. The package runs from the project's folder (an editable
install), because what it drives is built there."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FIRMWARE = PROJECT / "firmware"
EMULATION = PROJECT / "emulation"
BUILD = PROJECT / "build"
DATASETS = PROJECT / "datasets"

WORKSPACE = BUILD / "zephyr-workspace"
RENODE = BUILD / "renode/renode"

HOST_LIBRARY = BUILD / "host/libtinymetafed.so"
MPS2_IMAGE = BUILD / "mps2/tinymetafed.elf"
ZEPHYR_IMAGES = BUILD / "zephyr"
QEMU_PLUGIN = BUILD / "qemu/libtmf_count.so"

STORE = Path(os.environ.get("TMF_RUNS") or "runs")
"""Folder of the store and of what is drawn from it; private to the user."""


def zephyr_image(board: str) -> Path:
    """The node on Zephyr for this board."""
    return ZEPHYR_IMAGES / board / "zephyr/zephyr.elf"
