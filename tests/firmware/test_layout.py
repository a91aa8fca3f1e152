"""What shares memory on a node disturbs nothing: training comes to the same bits as with every
buffer in a place of its own, under sanitizers (tests/firmware/layouts.c)."""

import math
import os
import subprocess
from dataclasses import dataclass

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from tinymetafed.models.layers import OPERATIONS
from tinymetafed.models.model import LOSSES
from tinymetafed.places import BUILD

PROGRAM = BUILD / "sanitize/tinymetafed_layouts"
DIVERGED = 10  # enum tmf_error


GLOBAL, LOCAL, FROZEN = range(3)


@dataclass
class Described:
    """Layers as the node is told them, one after the other without rules of an experiment's file:
    activations may follow each other, or come first.

    layers: operation, part, arguments. parameters: that move, and that are frozen.
    """

    inputs: int
    shape: tuple[int, int, int]
    layers: list[tuple[int, int, tuple[int, ...]]]
    parameters: list[int]

    @property
    def outputs(self) -> int:
        return math.prod(self.shape)

    def add(self, kind: str, *arguments: int, part: int = GLOBAL, parameters: int = 0) -> None:
        self.layers.append((OPERATIONS[kind], part, arguments))
        self.parameters[part == FROZEN] += parameters


@dataclass(frozen=True)
class Window:
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]  # top, bottom, left, right

    def arguments(self, shape: tuple[int, int, int]) -> tuple[int, ...]:
        padding = sum(n << 8 * i for i, n in enumerate(self.padding))
        size, stride = (two[0] | two[1] << 8 for two in (self.size, self.stride))
        return (*shape[:2], size, stride, padding)

    def places(self, shape: tuple[int, int, int]) -> tuple[int, int]:
        around = self.padding[0] + self.padding[1], self.padding[2] + self.padding[3]
        height, width = (
            (shape[axis] + around[axis] - self.size[axis]) // self.stride[axis] + 1
            for axis in (0, 1)
        )
        return height, width


@st.composite
def windows(draw: st.DrawFn, shape: tuple[int, int, int]) -> Window:
    axes: list[tuple[int, int, int, int]] = []
    for length in shape[:2]:
        before, behind = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
        size = draw(st.integers(1, 3))
        before, behind = min(before, size - 1), min(behind, size - 1)
        size = min(size, length + before + behind)
        before, behind = min(before, size - 1), min(behind, size - 1)
        size = min(size, length + before + behind)
        axes.append((size, draw(st.integers(1, 2)), before, behind))
    (height, down, top, bottom), (width, right_by, left, right) = axes
    return Window((height, width), (down, right_by), (top, bottom, left, right))


def convolve(one: Described, window: Window, filters: int, part: int) -> None:
    taps = math.prod(window.size)
    one.add(
        "conv2d", *window.arguments(one.shape), filters,
        part=part, parameters=filters * (taps * one.shape[2] + 1),
    )  # fmt: skip
    one.shape = (*window.places(one.shape), filters)


@st.composite
def descriptions(draw: st.DrawFn) -> Described:
    shape = draw(st.tuples(*[st.integers(1, 6)] * 2, st.integers(1, 3)))
    one = Described(math.prod(shape), shape, [], [0, 0])
    lowest = draw(st.integers(0, 4))  # layers below are frozen
    for kind in draw(st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=7)):
        frozen = len(one.layers) < lowest or draw(st.integers(0, 4)) == 0
        part = FROZEN if frozen else draw(st.sampled_from((GLOBAL, LOCAL)))
        match kind:
            case "dense":
                units = draw(st.integers(1, 9))
                one.add(kind, units, part=part, parameters=units * (one.outputs + 1))
                one.shape = (1, 1, units)
            case "conv2d":
                convolve(one, draw(windows(one.shape)), draw(st.integers(1, 5)), part)
            case "depthwise_conv2d":
                window, channels = draw(windows(one.shape)), one.shape[2]
                parameters = channels * (math.prod(window.size) + 1)
                one.add(kind, *window.arguments(one.shape), part=part, parameters=parameters)
                one.shape = (*window.places(one.shape), channels)
            case "max_pool2d" | "average_pool2d":
                window = draw(windows(one.shape))
                more = (draw(st.integers(0, 1)),) if kind == "average_pool2d" else ()
                one.add(kind, *window.arguments(one.shape), *more)
                one.shape = (*window.places(one.shape), one.shape[2])
            case "leaky_relu":
                one.add(kind, int(np.float32(0.125).view(np.uint32)))
            case "add":  # what has been on the way with as many values
                numbers = [0] if one.outputs == one.inputs else []
                one.add(kind, draw(st.sampled_from([*numbers, len(one.layers)])))
            case "route":  # two ways of as many values, and their sum
                start, before, window = len(one.layers), one.shape, draw(windows(one.shape))
                filters = draw(st.integers(1, 3))
                if start > 0 and one.layers[-1][0] == OPERATIONS["route"]:
                    continue
                convolve(one, window, filters, part)
                if draw(st.booleans()):
                    one.add("relu")
                way = len(one.layers)
                one.add("route", start)
                one.shape = before
                if draw(st.booleans()):
                    one.add("tanh")
                convolve(one, window, filters, draw(st.sampled_from((part, GLOBAL))))
                one.add("add", way)
            case _:
                one.add(kind)
    return one


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    descriptions(),
    st.sampled_from(sorted(LOSSES)),
    st.integers(0, 2**7 - 1),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
def test_training_is_that_of_buffers_apart(
    described: Described, loss: str, frozen: int, batch: int, seed: int
):
    rng = np.random.default_rng(seed)
    count = 4
    if loss == "softmax_cross_entropy" and described.outputs < 2:
        loss = "binary_cross_entropy"
    if loss == "binary_cross_entropy" and described.outputs > 1:
        loss = "softmax_cross_entropy"
    head = [described.inputs, len(described.layers), LOSSES[loss], count, batch, 2, frozen]
    words = [n for number, part, args in described.layers for n in (number, part, len(args), *args)]
    theta = [rng.normal(0, 0.3, n).astype("<f4") for n in described.parameters]
    inputs = rng.uniform(-1.5, 1.5, (count, described.inputs)).astype("<f4")
    targets = rng.normal(size=(count, described.outputs)).astype("<f4").view("<u4")
    if loss != "mse":
        targets = rng.integers(0, max(described.outputs, 2), (count, 1)).astype("<u4")
    standard_input = [
        np.array(head, "<u4"), np.array([0.05], "<f4"), np.array(words, "<u4"), *theta,
        np.hstack([inputs.view("<u4"), targets]),
    ]  # fmt: skip
    done = subprocess.run(
        [PROGRAM], input=b"".join(one.tobytes() for one in standard_input),
        capture_output=True, timeout=60,
        env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert int(done.stdout.split()[0]) in (0, DIVERGED)
