"""What the node takes of a chip: code, and memory to train in."""

import asyncio
import math
import subprocess

import pytest

from learning import load, started
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.places import MPS2_IMAGE

KIB = 1024


def test_the_image_stays_below_32_kib():
    command = ["arm-none-eabi-size", "-A", str(MPS2_IMAGE)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    sections = {name: int(size) for name, size, *_ in map(str.split, printed.splitlines()[2:-2])}
    assert 0 < sections[".text"] + sections.get(".data", 0) < 32 * KIB


RELU = {"activation": "relu"}
CONV = {"type": "conv2d", "filters": 24, **RELU}
OMNIGLOT = [CONV | {"filters": 12, "stride": 2, "padding": 1}, CONV, CONV, {"units": 5}]
POOLED = [
    CONV | {"filters": 8, "padding": 1}, {"type": "max_pool2d"},
    CONV | {"filters": 16, "padding": 1}, {"type": "max_pool2d"}, {"units": 5},
]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "layers", "values"),
    [
        # What enters and leaves each layer; behind it the derivative of the widest inputs.
        ((1, 1, 196), [{"units": 64, **RELU}, {"units": 5}], 196 + 64 + 5 + 64),
        # 14 × 14 × 12, 12 × 12 × 24 and 10 × 10 × 24 values; a window of 3 × 3 × 24.
        ((28, 28, 1), OMNIGLOT, 784 + 2352 + 3456 + 2400 + 3456 + 216),
        # The first pool, behind whose outputs lies the derivative of its inputs.
        ((28, 28, 1), POOLED, 784 + 6272 + 1568 + 6272 + 784),
    ],
)
def test_training_takes_little_beyond_the_weights_held_and_working(
    shape: tuple[int, int, int], layers: list[dict[str, object]], values: int
):
    """No store, no gradient: online learning."""
    settings = {"shape": shape, "layers": layers, "loss": "softmax_cross_entropy"}
    model = Model.build(ModelSettings.model_validate(settings), math.prod(shape))

    async def session() -> None:
        async with started(model) as node:
            needed = (await load(node, model)).needed
        assert needed - 2 * 4 * model.parameters == 4 * values

    asyncio.run(session())
