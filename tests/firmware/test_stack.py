"""How much of its stack a node uses, on bare metal and on Zephyr: QEMU's memory is zero where
nothing was written."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from tinymetafed.link import Connection, chunk, messages
from tinymetafed.link.messages import GLOBAL, LOCAL, Layer
from tinymetafed.nodes.backends import private_directory
from tinymetafed.nodes.qemu import QemuTransport
from tinymetafed.places import MPS2_IMAGE, zephyr_image

ZEPHYR_IMAGE = zephyr_image("mps2_an386")
MARGIN = 1024
"""Bytes that are left: another compiler, another library."""

# An image of 8 × 8 through each kind of layer, and as many dense ones as make 32.
LAYERS = [
    Layer(4, GLOBAL, (8, 8, 0x0303, 0x0101, 0x01010101, 4)), Layer(2, GLOBAL, ()),
    Layer(5, GLOBAL, (8, 8, 0x0303, 0x0101, 0x01010101)), Layer(3, GLOBAL, ()),
    Layer(6, GLOBAL, (8, 8, 0x0202, 0x0202, 0)), Layer(7, GLOBAL, (4, 4, 0x0202, 0x0202, 0, 0)),
    *[Layer(1, GLOBAL, (6,)), Layer(3, GLOBAL, ())] * 12,
    Layer(1, LOCAL, (6,)), Layer(1, LOCAL, (5,)),
]  # fmt: skip
INPUTS, CLASSES = 64, 5


def _requests() -> list[messages.Request]:
    """A frame's 22, in which each kind is that goes with a residual."""
    parameters = 4 * 9 + 4 + 4 * 9 + 4 + (16 + 1) * 6 + 12 * (6 + 1) * 6 + (6 + 1) * 5
    rng = np.random.default_rng(1)
    theta = rng.normal(0, 0.3, parameters).astype("<f4")
    inputs = rng.normal(0, 1, (3, INPUTS)).astype("<f4")
    labels = np.arange(3, dtype="<u4")[:, None]
    samples = np.hstack([inputs.view("<u4"), labels]).tobytes()
    weights = chunk.Chunk(0, parameters, chunk.DENSE, theta.tobytes())
    room = messages.RESIDUAL | messages.MARK
    return [
        messages.Load(INPUTS, 1, True, 3, tuple(LAYERS), room),
        messages.Weights(0, 1, True, weights),
        messages.Store(False, samples),
        messages.Mark(),
        messages.Train(0.01, 0, 2, 2, None, proximal=0.1),
        messages.Train(0.01, 0, 2, 1, None, options=messages.FROM_MARK),
        messages.Train(0.01, 0, 1, 1, samples),
        messages.Evaluate(samples),
        messages.Predict(inputs.tobytes()),
        messages.Select(200, chunk.VALUES["int8"]),
        *[messages.Update(0, parameters)] * 6,
        *[messages.Residual(0, parameters)] * 6,
    ]


def _stack(image: Path) -> range:
    """Its addresses, the end first that it grows to."""
    with image.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        symbols = {one.name: one.entry for one in table.iter_symbols()}  # type: ignore[union-attr]
    if one := symbols.get("z_main_stack"):
        return range(one["st_value"], one["st_value"] + one["st_size"])
    return range(symbols["stack_bottom"]["st_value"], symbols["stack_top"]["st_value"])


async def _memory(socket: Path, place: range) -> bytes:
    """What the emulated processor has there."""
    reader, writer = await asyncio.open_unix_connection(socket)
    file = socket.with_suffix(".memory")
    save = f'pmemsave {place.start:#x} {len(place)} "{file}"'
    for name, arguments in (
        ("qmp_capabilities", {}), ("human-monitor-command", {"command-line": save})
    ):  # fmt: skip
        writer.write(json.dumps({"execute": name, "arguments": arguments}).encode())
        while "return" not in json.loads(await reader.readline()):
            pass
    writer.close()
    return file.read_bytes()


async def _used(image: Path) -> int:
    """Bytes of the stack at its deepest, through a boot and two frames."""
    with private_directory() as directory:
        socket, place = directory / "qmp", _stack(image)
        extra = ("-qmp", f"unix:{socket},server=on,wait=off")
        node = await QemuTransport.open(directory, "node", image=image, extra=extra)
        connection = Connection()

        async def answers() -> messages.Answers:
            async with asyncio.timeout(60):
                while True:
                    for one in connection.receive(await node.read()):
                        return one

        await answers()  # its hello
        requests = [messages.encode_request(one) for one in _requests()]
        assert len(requests) == messages.MOST_REQUESTS
        for _ in range(2):
            await node.write(connection.send(requests))
            found = (await answers()).responses
            assert [type(one).__name__ for one in found] == [
                "Loaded", "Done", "Done", "Done", "Trained", "Trained", "Trained", "Evaluated",
                "Outputs", "Selected", *["Updated"] * 12,
            ]  # fmt: skip
        memory = await _memory(socket, place)
        await node.close()
    return len(memory.lstrip(b"\0"))


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(MPS2_IMAGE, id="bare"),
        pytest.param(
            ZEPHYR_IMAGE, id="zephyr",
            marks=[
                pytest.mark.zephyr,
                pytest.mark.skipif(not ZEPHYR_IMAGE.is_file(), reason="'make zephyr' builds it"),
            ],
        ),
    ],
)  # fmt: skip
def test_the_stack_has_room_for_the_largest_frame(image: Path):
    used = asyncio.run(_used(image))
    assert 2048 < used <= len(_stack(image)) - MARGIN
