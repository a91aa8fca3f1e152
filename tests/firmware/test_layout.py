"""What shares memory on a node disturbs nothing: training comes to the same bits as with every
buffer in a place of its own, under sanitizers (tests/firmware/layouts.c)."""

import os
import subprocess
from dataclasses import dataclass

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from tinymetafed.models.model import LOSSES, OPERATIONS
from tinymetafed.places import BUILD

PROGRAM = BUILD / "sanitize/tinymetafed_layouts"
DIVERGED = 10  # enum tmf_error


@dataclass
class Description:
    """Layers as the node is told them, one after the other without rules of an experiment's file:
    activations may follow each other, or come first."""

    inputs: int
    layers: list[tuple[int, tuple[int, ...]]]
    outputs: int
    parameters: int


@st.composite
def descriptions(draw: st.DrawFn) -> Description:
    height, width, channels = draw(st.tuples(*[st.integers(1, 6)] * 2, st.integers(1, 3)))
    inputs, parameters = height * width * channels, 0
    layers: list[tuple[int, tuple[int, ...]]] = []
    for kind in draw(st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=7)):
        arguments: tuple[int, ...] = ()
        if kind == "dense":
            units = draw(st.integers(1, 9))
            arguments = (units,)
            parameters += units * (height * width * channels + 1)
            height, width, channels = 1, 1, units
        elif "2d" in kind:
            padding = draw(st.integers(0, 1)) if "conv" in kind else 0
            largest = min(3, height + 2 * padding, width + 2 * padding)
            size, stride = draw(st.integers(padding + 1, largest)), draw(st.integers(1, 2))
            arguments = (height, width, size, stride, padding)[: 5 if "conv" in kind else 4]
            filters = channels
            if kind == "conv2d":
                filters = draw(st.integers(1, 5))
                arguments += (filters,)
                parameters += filters * (size**2 * channels + 1)
            elif kind == "depthwise_conv2d":
                parameters += channels * (size**2 + 1)
            height, width = ((n + 2 * padding - size) // stride + 1 for n in (height, width))
            channels = filters
        layers.append((OPERATIONS[kind], arguments))
    return Description(inputs, layers, height * width * channels, parameters)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    descriptions(),
    st.sampled_from(sorted(LOSSES)),
    st.integers(0, 2**7 - 1),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
def test_training_is_that_of_buffers_apart(
    described: Description, loss: str, frozen: int, batch: int, seed: int
):
    rng = np.random.default_rng(seed)
    count, is_class = 4, loss != "mse"
    if is_class and described.outputs < 2:
        loss, is_class = "mse", False
    head = [described.inputs, len(described.layers), LOSSES[loss], count, batch, 2, frozen]
    words = [n for number, args in described.layers for n in (number, len(args), *args)]
    theta = rng.normal(0, 0.3, described.parameters).astype("<f4")
    inputs = rng.uniform(-1.5, 1.5, (count, described.inputs)).astype("<f4")
    targets = rng.normal(size=(count, described.outputs)).astype("<f4").view("<u4")
    if is_class:
        targets = rng.integers(0, described.outputs, (count, 1)).astype("<u4")
    standard_input = [
        np.array(head, "<u4"), np.array([0.05], "<f4"), np.array(words, "<u4"), theta,
        np.hstack([inputs.view("<u4"), targets]),
    ]  # fmt: skip
    done = subprocess.run(
        [PROGRAM], input=b"".join(one.tobytes() for one in standard_input),
        capture_output=True, timeout=60,
        env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert int(done.stdout.split()[0]) in (0, DIVERGED)
