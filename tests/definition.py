"""A model's loss as its definition reads, value by value, and its gradient without backpropagation:
independent of reference.py, of the firmware, and of how either sees a window.

The gradient is by the complex step (Squire, Trapp 1998, doi:10.1137/S003614459631241X): the
imaginary part of loss(θ + ih·e) is h·∂loss/∂θ·e, and nothing cancels, so h may be so small that the
result is exact. Or by finite differences, which need no more than losses.
"""

import math

import numpy as np
from numpy.typing import NDArray

import reference as ref
from learning import window_of
from tinymetafed.models.layers import OPERATIONS
from tinymetafed.models.model import Model

Numbers = NDArray[np.complex128]  # one value, in each direction

KINDS = {number: name for name, number in OPERATIONS.items()}


def value(model: Model, theta: ref.Vector, x: ref.Vector, target: ref.Target) -> float:
    """One sample's loss."""
    return float(loss(model, theta[:, None].astype(np.complex128), x, target)[0].real)


def gradient(model: Model, theta: ref.Vector, x: ref.Vector, target: ref.Target) -> ref.Vector:
    """∂loss/∂θ, float64 [parameters], by the complex step."""
    h = 1e-100
    return loss(model, theta[:, None] + 1j * h * np.eye(theta.size), x, target).imag / h


def differences(model: Model, theta: ref.Vector, x: ref.Vector, target: ref.Target) -> ref.Vector:
    """The same by central differences, correct to about 1e-9 where no kink is nearer than 1e-5."""
    step = 1e-5 * np.eye(theta.size) + 0j
    up, down = (loss(model, theta[:, None] + sign * step, x, target) for sign in (1, -1))
    return (up - down).real / 2e-5


def loss(model: Model, theta: Numbers, x: ref.Vector, target: ref.Target) -> Numbers:
    """Of one sample, [directions]; theta: [parameters, directions]."""
    values: list[Numbers] = [np.full(theta.shape[1], value, np.complex128) for value in x]
    parameters = iter(theta)

    def take(n: int) -> list[Numbers]:
        return [next(parameters) for _ in range(n)]

    outputs = [values]  # the sample, then of every layer
    for layer in model.layers:
        kind, arguments = KINDS[layer.operation], layer.arguments
        match kind:
            case "add":
                values = [v + w for v, w in zip(values, outputs[arguments[0]], strict=True)]
            case "route":
                values = outputs[arguments[0]]
            case "dense":
                rows = [take(len(values)) for _ in range(arguments[0])]
                biases = take(arguments[0])
                values = [
                    bias + sum(w * v for w, v in zip(row, values, strict=True))
                    for row, bias in zip(rows, biases, strict=True)
                ]
            case "relu":
                values = [np.where(v.real > 0, v, 0) for v in values]
            case "relu6":
                clipped = [(np.clip(v.real, 0, 6), v) for v in values]
                values = [np.where(c == v.real, v, c) for c, v in clipped]
            case "leaky_relu":
                slope = float(np.uint32(arguments[0]).view(np.float32))
                values = [np.where(v.real > 0, v, slope * v) for v in values]
            case "tanh":
                values = [np.tanh(v) for v in values]
            case "sigmoid":
                values = [np.reciprocal(1 + np.exp(-v)) for v in values]
            case _:
                window = window_of(arguments, len(values))
                channels = window.shape[2]
                groups = {"conv2d": arguments[-1], "depthwise_conv2d": channels}.get(kind, 0)
                each = math.prod(window.size) * (channels if kind == "conv2d" else 1)
                filters = [take(each) for _ in range(groups)]
                mean_of_all = kind == "average_pool2d" and arguments[-1] == 1
                values = _windows(kind, window, values, filters, take(groups), mean_of_all)
        outputs.append(values)
    if model.loss == "mse":
        assert isinstance(target, np.ndarray)
        return np.mean([(v - t) ** 2 for v, t in zip(values, target, strict=True)], axis=0)
    assert not isinstance(target, np.ndarray)
    if model.loss == "binary_cross_entropy":
        return np.log(1 + np.exp(-values[0] if target == 1 else values[0]))
    return np.log(np.sum(np.exp(values), axis=0)) - values[target]


def _windows(
    kind: str, window: ref.Window, values: list[Numbers], filters: list[list[Numbers]],
    biases: list[Numbers], mean_of_all: bool,
) -> list[Numbers]:  # fmt: skip
    (height, width, channels), size, stride = window.shape, window.size, window.stride
    (top, bottom), (left, right) = window.padding

    def under(row: int, column: int, channel: int) -> list[Numbers | None]:
        """The channel's values under the window at a place, row by row; None in the padding."""
        pixels = [
            (y, x) for y in range(row, row + size[0]) for x in range(column, column + size[1])
        ]
        return [
            values[(y * width + x) * channels + channel]
            if 0 <= y < height and 0 <= x < width
            else None
            for y, x in pixels
        ]

    zero = np.zeros_like(values[0])
    found: list[Numbers] = []
    for row in range(-top, height + bottom - size[0] + 1, stride[0]):
        for column in range(-left, width + right - size[1] + 1, stride[1]):
            seen = [under(row, column, channel) for channel in range(channels)]
            padded = [[zero if v is None else v for v in inputs] for inputs in seen]
            match kind:
                case "conv2d":  # taps row by row, the channels of a pixel together
                    inputs = [v for pixel in zip(*padded, strict=True) for v in pixel]
                    for taps, bias in zip(filters, biases, strict=True):
                        found.append(bias + sum(w * v for w, v in zip(taps, inputs, strict=True)))
                case "depthwise_conv2d":
                    for taps, bias, inputs in zip(filters, biases, padded, strict=True):
                        found.append(bias + sum(w * v for w, v in zip(taps, inputs, strict=True)))
                case "max_pool2d":
                    for inputs in seen:
                        stack = np.array([v for v in inputs if v is not None])
                        largest = stack.real.argmax(axis=0)
                        found.append(stack[largest, np.arange(stack.shape[1])])
                case _:
                    for inputs in seen:
                        inside = [v for v in inputs if v is not None]
                        found.append(sum(inside, zero) / len(inputs if mean_of_all else inside))
    return found
