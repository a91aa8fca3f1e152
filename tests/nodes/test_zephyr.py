"""The node as a Zephyr application, where it was built."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from running import execute, weights
from tinymetafed.energy.program import Program
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import read
from tinymetafed.link import Hello
from tinymetafed.nodes import backends, window
from tinymetafed.nodes.backends import make_nodes, private_directory
from tinymetafed.places import MPS2_IMAGE, PROJECT, zephyr_image

ZEPHYR_IMAGE = zephyr_image("mps2_an386")
DEMO = PROJECT / "experiments/demo.toml"
BOARDS = ("mps2_an386", "nrf52840dk", "arduino_nano_33_ble")

built = pytest.mark.skipif(
    not ZEPHYR_IMAGE.is_file(), reason=f"{ZEPHYR_IMAGE} is not there; 'make zephyr' builds it"
)


@pytest.mark.zephyr
@built
@pytest.mark.parametrize(
    ("strategy", "link"), [("demo", "dma"), ("demo", "uart"), ("reptile", "dma")]
)
def test_weights_are_those_of_the_host_bit_for_bit(tmp_path: Path, strategy: str, link: str):
    file = PROJECT / f"experiments/{strategy}.toml"
    changes = ("rounds=5", "nodes.count=2", "evaluation.devices=2")
    on_zephyr = read(file, (*changes, "nodes.firmware=zephyr", f"nodes.link={link}"))
    on_host = read(file, (*changes, "nodes.backend=host"))
    assert np.array_equal(
        weights(on_zephyr, tmp_path / "zephyr"), weights(on_host, tmp_path / "host")
    )


@pytest.mark.zephyr
@built
def test_what_it_executes_is_counted_by_phase(tmp_path: Path):
    changes = ("rounds=2", "nodes.count=1", "evaluation.devices=1", "nodes.firmware=zephyr")
    store, run = execute(read(DEMO, changes), tmp_path)
    counted = {row.phase: row.instructions for row in store.phases(run.id) if row.round == 2}
    assert set(counted) >= {"receive", "reconstruct", "learn", "select", "send"}
    assert counted["learn"] > 500_000


@pytest.mark.zephyr
@built
def test_it_says_which_image_it_is():
    async def boot() -> Hello:
        with private_directory() as directory:
            settings = read(DEMO, ("nodes.count=1", "nodes.firmware=zephyr")).nodes
            (node,) = make_nodes(settings, directory)
            hello = await node.start()
            await node.close()
        return hello

    hello = asyncio.run(boot())
    with ZEPHYR_IMAGE.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".note.gnu.build-id")
        assert section is not None
        assert hello.build == section.data()[16:]


@pytest.mark.zephyr
@built
@pytest.mark.parametrize("board", BOARDS)
def test_it_fits_an_nrf52840(board: str):
    image = zephyr_image(board)
    assert set(Program.read(image).phases) == set(Program.read(MPS2_IMAGE).phases)
    with image.open("rb") as file:
        for segment in ELFFile(file).iter_segments("PT_LOAD"):
            start, end = segment["p_vaddr"], segment["p_vaddr"] + segment["p_memsz"]
            if start not in window.MEMORY:
                assert end <= 2**20 or 0x2000_0000 <= start <= end <= 0x2004_0000


def test_an_image_that_was_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(backends, "zephyr_image", lambda board: tmp_path / board)
    settings = read(DEMO, ("nodes.firmware=zephyr",)).nodes
    with pytest.raises(TinyMetaFedError, match=r"no firmware image; run 'make zephyr'"):
        make_nodes(settings, tmp_path)


def test_host_nodes_have_no_zephyr():
    with pytest.raises(TinyMetaFedError, match=r"nodes.firmware: host nodes are the firmware's"):
        read(DEMO, ("nodes.firmware=zephyr", "nodes.backend=host"))


def test_a_board_that_only_renode_has():
    with pytest.raises(TinyMetaFedError, match=r"nodes.board: zephyr firmware on qemu has no nrf"):
        read(DEMO, ("nodes.firmware=zephyr", "nodes.board=nrf52840dk"))
    with pytest.raises(TinyMetaFedError, match=r"nodes.board: bare firmware on renode has no nrf"):
        read(DEMO, ("nodes.backend=renode", "nodes.board=nrf52840dk"))
