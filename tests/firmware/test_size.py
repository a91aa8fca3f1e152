"""What the node takes of a chip: code, and memory to train in."""

import asyncio
import subprocess

from learning import started
from tinymetafed.model import Model, ModelSettings
from tinymetafed.places import MPS2_IMAGE

KIB = 1024


def test_the_image_stays_below_32_kib():
    command = ["arm-none-eabi-size", "-A", str(MPS2_IMAGE)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    sections = {name: int(size) for name, size, *_ in map(str.split, printed.splitlines()[2:-2])}
    assert 0 < sections[".text"] + sections.get(".data", 0) < 32 * KIB


def test_training_takes_little_beyond_the_weights_held_and_working():
    """Values of the layers and two derivatives; no store, no gradient: online learning."""
    layers = [{"units": 64, "activation": "relu"}, {"units": 5}]
    settings = {"layers": layers, "loss": "softmax_cross_entropy"}
    model = Model.build(ModelSettings.model_validate(settings), 196)

    async def session() -> None:
        async with started(model) as node:
            needed = (await node.load(model, accumulate=False, capacity=0)).needed
        assert needed - 2 * 4 * model.parameters == 4 * (196 + 64 + 5 + 2 * 64) < 8 * KIB

    asyncio.run(session())
