"""A node's image that has the frozen weights of a model in its flash."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ..errors import TinyMetaFedError
from ..models import c_writer
from ..models.model import Model
from ..nodes.settings import NodeSettings
from ..places import FIRMWARE, STORE, WORKSPACE, require_checkout
from ..results.store import Store
from . import model_source
from .experiment import read

BOARDS = {"mps2_an386": "mps2/an386", "nrf52840dk": "nrf52840dk/nrf52840"}
"""As Zephyr calls them, where that is another name."""


def model_of(source: str) -> Model:
    """Of an experiment's file, or of a run of the store. Raises TinyMetaFedError."""
    if source.endswith(".toml"):
        model = read(Path(source)).built_model
    else:
        store = Store(STORE)
        model = model_source.experiment_of(store, store.run(source)).built_model
    if not len(model.backbone):
        raise TinyMetaFedError(f"{source}: no layer of its model is frozen; mark some so")
    return model


def build(source: str, image: Path, nodes: NodeSettings) -> Model:
    """Builds the image for nodes of that firmware and board; beside it, IMAGE.sha256.

    Returns the model whose frozen weights it has. Raises TinyMetaFedError.
    """
    require_checkout("tinymetafed firmware build")
    model = model_of(source)
    if not image.parent.is_dir():
        raise TinyMetaFedError(f"{image}: there is no folder {image.parent}")
    for tool in ("cmake", "ninja", "arm-none-eabi-gcc"):
        if shutil.which(tool) is None:
            raise TinyMetaFedError(f"{tool} is not installed; 'make setup' installs it")
    with tempfile.TemporaryDirectory(prefix="tinymetafed-") as folder:
        weights = Path(folder) / "backbone.c"
        weights.write_text(c_writer.backbone(model, f"Frozen weights of {source}"))
        place = Path(folder) / "build"
        if nodes.firmware == "bare":
            toolchain = FIRMWARE / "ports/mps2/toolchain.cmake"
            chosen = ["-S", str(FIRMWARE), "-DTMF_PORT=mps2", f"-DCMAKE_TOOLCHAIN_FILE={toolchain}"]
            target, built = "tinymetafed", place / "tinymetafed.elf"
        else:
            if not os.environ.get("ZEPHYR_BASE") and not (WORKSPACE / "zephyr").is_dir():
                raise TinyMetaFedError("there is no Zephyr; 'make zephyr' fetches it")
            board = BOARDS.get(nodes.board, nodes.board)
            chosen = ["-S", str(FIRMWARE / "ports/zephyr"), f"-DBOARD={board}"]
            target, built = "all", place / "zephyr/zephyr.elf"
        _cmake(["-G", "Ninja", "-B", str(place), f"-DTMF_BACKBONE={weights}", *chosen])
        _cmake(["--build", str(place), "--target", target])
        data = built.read_bytes()
    try:
        image.write_bytes(data)
        noted = f"{hashlib.sha256(data).hexdigest()}  {image.name}\n"
        image.with_name(f"{image.name}.sha256").write_text(noted)
    except OSError as error:
        raise TinyMetaFedError(f"{image}: cannot be written: {error.strerror}") from None
    return model


def _cmake(arguments: list[str]) -> None:
    """zcbor is the virtual environment's. Raises TinyMetaFedError with the last line that it says
    of an error."""
    compiler = Path(shutil.which("arm-none-eabi-gcc") or "").resolve()
    environment = {
        "ZEPHYR_BASE": str(WORKSPACE / "zephyr"),
        "ZEPHYR_TOOLCHAIN_VARIANT": "gnuarmemb",
        "GNUARMEMB_TOOLCHAIN_PATH": str(compiler.parents[1]),
    } | {key: value for key, value in os.environ.items() if value}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(["cmake", *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        marks = ("error:", "overflowed", "CMake Error")
        errors = [i for i, line in enumerate(said) if any(mark in line for mark in marks)]
        first = errors[0] if errors else len(said) - 1
        why = " ".join(said[first : first + 2])  # CMake has the reason on the next line
        raise TinyMetaFedError(f"the image cannot be built: {why}")
