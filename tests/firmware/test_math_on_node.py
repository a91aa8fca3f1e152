"""exp, log, tanh and the logistic function on the emulated processor."""

import asyncio
from types import SimpleNamespace

import numpy as np

from tinymetafed.nodes.backends import private_directory
from tinymetafed.nodes.qemu import QemuTransport
from tinymetafed.places import BUILD


def test_exp_log_tanh_and_sigmoid_give_the_same_bits_on_the_cortex_m4f_as_here(
    core: SimpleNamespace,
):
    steps, count, stride = 85, 8192, 6133  # tests/firmware/math_probe.h

    async def crcs() -> bytes:
        data = b""
        with private_directory() as directory:
            image = BUILD / "mps2/tinymetafed_math.elf"
            transport = await QemuTransport.open(directory, "math", image=image)
            try:
                while len(data) < steps * 16:
                    data += await transport.read()
            finally:
                await transport.close()
        return data

    on_node = np.frombuffer(asyncio.run(crcs()), "<u4").reshape(steps, 4)
    here = [
        [core.lib.tmf_math_crc(f, step * count * stride % 2**32, stride, count) for f in range(4)]
        for step in range(steps)
    ]
    assert (on_node == np.array(here, dtype=np.uint32)).all()
