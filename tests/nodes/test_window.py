"""The window: where an image has it, how frames lie in it, and what a user is told who has none."""

import asyncio
import errno
import os
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed.errors import TinyMetaFedError
from tinymetafed.nodes import backends, window
from tinymetafed.nodes.qemu import QemuTransport
from tinymetafed.nodes.settings import NodeSettings
from tinymetafed.nodes.window import MEMORY, Window
from tinymetafed.places import BUILD, MPS2_IMAGE

RECEIVE = 8192  # bytes of the node's receive buffer
PLACE = range(MEMORY.start + 4096, MEMORY.start + 4096 + 2 * (4 + RECEIVE))


# A window, other memory of a program, and the phases that a node's image has.
SECTIONS = """
.section .window, "aw", %nobits
.global tmf_window
.type tmf_window, %object
tmf_window: .space 0x4008
.size tmf_window, 0x4008
.section .other, "aw", %nobits
.space 0x2000
.text
.syntax unified
.thumb
.irp phase, PHASES
.global tmf_phase_\\phase
.type tmf_phase_\\phase, %function
tmf_phase_\\phase: bx lr
.size tmf_phase_\\phase, 2
.endr
""".replace("PHASES", ", ".join(sorted(backends.PHASES)))


def _linked(folder: Path, window: int, other: int) -> Path:
    """An image with its window and other memory at these addresses."""
    source, image = folder / "image.s", folder / "image.elf"
    source.write_text(SECTIONS)
    places = (f"-Wl,--section-start=.window={window:#x}", f"-Wl,--section-start=.other={other:#x}")
    options = ("-nostdlib", "-Wl,--no-check-sections", "-Wl,--entry=0", *places)
    subprocess.run(["arm-none-eabi-gcc", *options, "-o", image, source], check=True)
    return image


def test_the_image_s_window_has_room_for_a_frame_either_way():
    found = window.find(MPS2_IMAGE)
    assert len(found) == len(PLACE)
    assert MEMORY.start <= found.start < found.stop <= MEMORY.stop


@pytest.mark.parametrize(
    ("place", "other", "says"),
    [
        (0x2000_0000, 0x2000_0000, "0x20000000 to 0x20004008, overlaps .other"),
        (0x2100_0000, 0x2100_4004, "0x21000000 to 0x21004008, overlaps .other"),
        (0x2100_1000, 0x2100_2000, "0x21001000 to 0x21005008, overlaps .other"),
        (0x20FF_C000, 0x2000_0000, "is not within 0x21000000 to 0x22000000, which can be shared"),
        (0x21FF_C000, 0x2000_0000, "is not within 0x21000000 to 0x22000000, which can be shared"),
    ],
)
def test_a_window_that_cannot_be_shared_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: int, other: int, says: str
):
    image = _linked(tmp_path, place, other)
    monkeypatch.setattr(backends, "MPS2_IMAGE", image)
    with pytest.raises(TinyMetaFedError, match=f"image.elf: its tmf_window, .*{says}; correct"):
        backends.make_nodes(NodeSettings(), tmp_path)
    assert len(backends.make_nodes(NodeSettings(link="uart"), tmp_path)) == 4


@pytest.mark.parametrize("other", [0x2100_0000, 0x2100_6008])
def test_a_window_may_lie_right_beside_other_memory(tmp_path: Path, other: int):
    image = _linked(tmp_path, 0x2100_2000, other)
    assert window.find(image) == range(0x2100_2000, 0x2100_6008)


def test_an_image_without_a_window():
    with pytest.raises(TinyMetaFedError, match=r"math\.elf: it has no tmf_window.*nodes.link=uart"):
        window.find(BUILD / "mps2/tinymetafed_math.elf")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_for_the_shared_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
):
    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    says = f"node-0.psram: the memory to share .* made: {os.strerror(number)}; name another folder"
    with pytest.raises(TinyMetaFedError, match=says):
        Window(tmp_path / "node-0.psram", PLACE)


def test_a_folder_that_takes_no_file():
    with pytest.raises(TinyMetaFedError, match="/proc/node-0.psram: the memory to share .* made:"):
        Window(Path("/proc/node-0.psram"), PLACE)


def test_only_the_window_takes_space(tmp_path: Path):
    path = tmp_path / "node-0.psram"
    Window(path, PLACE)
    about = path.stat()
    assert about.st_size == len(MEMORY)
    assert len(PLACE) <= 512 * about.st_blocks <= len(PLACE) + 4 * 4096


@settings(deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=RECEIVE), min_size=1, max_size=4))
def test_a_frame_lies_where_the_firmware_looks_for_it(tmp_path_factory, bodies: list[bytes]):
    path = tmp_path_factory.mktemp("window") / "node-0.psram"
    shared = Window(path, PLACE)
    offset = PLACE.start - MEMORY.start
    for body in bodies:
        assert shared.put(body + b"\0") == b"\0"
        size = len(body).to_bytes(4, "little")
        with path.open("r+b") as file:  # as struct tmf_window has it: up, then down
            file.seek(offset + 4 + RECEIVE)
            assert file.read(4 + len(body)) == size + body
            file.seek(offset)
            file.write(size + body)
        assert shared.take() == body
        assert shared.take() == b""


def test_only_a_zero_that_ends_nothing_is_a_doorbell(tmp_path: Path):
    """A fault is reported over the UART, also where an answer lies in the window already."""
    path = tmp_path / "node-0.psram"
    shared = Window(path, PLACE)
    offset = PLACE.start - MEMORY.start

    async def talk() -> list[bytes]:
        (ours, theirs), (monitor, end) = socket.socketpair(), socket.socketpair()
        process = await asyncio.create_subprocess_exec("true")
        streams = await asyncio.open_unix_connection(sock=ours)
        log = tmp_path / "log"
        transport = QemuTransport(process, streams, monitor, log, None, shared, tmp_path / "image")
        found: list[bytes] = []
        with theirs, end:
            for sent in (b"\0fault\0", b"\0", b"\0", b"hello\0\0"):
                with path.open("r+b") as file:
                    file.seek(offset)
                    file.write(b"\6\0\0\0answer")
                if sent == b"\0" and len(found) == 2:
                    shared.take()
                theirs.sendall(sent)
                found.append(await transport.read())
        await process.wait()
        await transport.close()
        return found

    assert asyncio.run(talk()) == [b"\0fault\0", b"answer\0", b"\0", b"hello\0answer\0"]


@pytest.mark.parametrize("size", [RECEIVE + 1, 2**32 - 1])
def test_a_size_that_is_wrong_reads_nothing_else(tmp_path: Path, size: int):
    path = tmp_path / "node-0.psram"
    shared = Window(path, PLACE)
    shared.put(b"\xa5" * RECEIVE + b"\0")
    with path.open("r+b") as file:
        file.seek(PLACE.start - MEMORY.start)
        file.write(size.to_bytes(4, "little"))
    assert shared.take() == bytes(RECEIVE)


def test_a_frame_longer_than_the_window_is_not_laid_down(tmp_path: Path):
    shared = Window(tmp_path / "node-0.psram", PLACE)
    with pytest.raises(TinyMetaFedError, match="8193 bytes is longer than the node's window"):
        shared.put(bytes(RECEIVE + 2))
