"""An image whose bytes are not those that were built is refused, and a run tells which it had."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import MakeExperiment
from running import execute
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import runner
from tinymetafed.nodes import backends
from tinymetafed.nodes.image import checksum
from tinymetafed.places import MPS2_IMAGE

BYTES = MPS2_IMAGE.read_bytes()
NOTED = MPS2_IMAGE.with_name(f"{MPS2_IMAGE.name}.sha256")


def test_the_build_notes_what_it_built():
    assert NOTED.read_text() == f"{hashlib.sha256(BYTES).hexdigest()}  {MPS2_IMAGE.name}\n"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image and what is noted of it, in another folder."""
    folder = tmp_path_factory.mktemp("image")
    shutil.copy(NOTED, folder)
    return Path(shutil.copy(MPS2_IMAGE, folder))


@given(place=st.integers(0, len(BYTES) - 1), flip=st.integers(1, 255))
def test_a_spoilt_byte_anywhere_is_refused(copy: Path, place: int, flip: int):
    copy.write_bytes(BYTES[:place] + bytes([BYTES[place] ^ flip]) + BYTES[place + 1 :])
    with pytest.raises(TinyMetaFedError, match=r"not as it was built.*then run 'make firmware'"):
        checksum(copy, "make firmware")
    copy.write_bytes(BYTES)
    assert checksum(copy, "make firmware") == hashlib.sha256(BYTES).hexdigest()


def test_what_was_priced_is_kept_for_this_image_alone(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    image = tmp_path / "own.elf"
    monkeypatch.setattr(backends, "MPS2_IMAGE", image)
    settings = experiment("nodes.backend=qemu").nodes

    def pricing() -> object:
        (shared,) = {node.pricing for node in backends.make_nodes(settings, tmp_path)}
        return shared

    image.write_bytes(BYTES)
    first = pricing()
    assert pricing() is first
    image.write_bytes(BYTES + b"\0")
    assert pricing() is not first


def test_a_run_has_the_checksum_of_its_image(
    tmp_path: Path, experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    """Also of one of which nothing is noted; a run does not go on with another."""
    image = tmp_path / "own.elf"
    image.write_bytes(BYTES + b"\0")
    monkeypatch.setattr(backends, "MPS2_IMAGE", image)
    settings = experiment("nodes.backend=qemu", "nodes.count=1", "rounds=1", "evaluation.devices=1")
    store, run = execute(settings, tmp_path)
    assert json.loads(run.firmware)["image"] == hashlib.sha256(BYTES + b"\0").hexdigest()
    image.write_bytes(BYTES)
    with pytest.raises(TinyMetaFedError, match="begun with another build of the firmware"):
        runner.execute(settings, store, run, lambda done, doing: None)


def test_a_run_of_an_earlier_version_goes_on_without_a_checksum():
    build = '{"version": "0.1.0", "build": "ab"}'
    assert runner.same_firmware(build, '{"version": "0.1.0", "build": "ab", "image": "cd"}')
    assert not runner.same_firmware(build, '{"version": "0.1.0", "build": "ac"}')
