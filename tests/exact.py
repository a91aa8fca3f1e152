"""Training in float32 as the firmware's core has it: every sum in the order that firmware/core
states, every operation rounded, so that a node's results can be compared bit for bit.

exp, log, tanh and the logistic function are the core's own, which tests/firmware/test_math.py holds
to the truth. All arrays are float32. Weights are laid out as in reference.py.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import numpy as np
from numpy.typing import NDArray

import reference as ref

Floats = NDArray[np.float32]
Target = Floats | int


class Trainer:
    """A model under training.

    core: the host build, with `lib` (the fixture of tests/firmware). frozen: bit i for layer i.
    held: what the weights were at first, or other weights that are put there.
    """

    def __init__(self, core: SimpleNamespace, layers: ref.Layers, theta: Floats, kind: str) -> None:
        self.theta = theta.copy()
        self.held = theta.copy()
        self._core = core
        self._layers = layers
        self._kind = kind

    def train(
        self, samples: Sequence[tuple[Floats, Target]], rate: float, frozen: int, batch: int = 1,
        *, proximal: float = 0.0, mark: Floats | None = None, correction: Floats | None = None,
    ) -> None:  # fmt: skip
        """One epoch, in order. mark: weights that each step starts from. correction: is added to
        each gradient."""
        moving = [i for i, p in enumerate(self._parts) if p.stop > p.start and not frozen >> i & 1]
        for first in range(0, len(samples), batch):
            chunk = samples[first : first + batch]
            scale = np.float32(-rate) / np.float32(len(chunk))
            alone = len(chunk) == 1 and mark is None and not proximal
            sink = self.theta if alone else np.zeros_like(self.theta)
            for x, target in chunk:
                values = self.forward(x)
                self._backward(values, self._slope(values[-1], target), moving, sink, scale)
            for part in (self._parts[i] for i in moving):
                if mark is not None:
                    self.theta[part] = mark[part]
                if proximal:
                    pull = np.float32(rate) * np.float32(proximal)
                    self.theta[part] -= pull * (self.theta[part] - self.held[part])
                if sink is not self.theta:
                    self.theta[part] += sink[part]
                if correction is not None:
                    self.theta[part] -= np.float32(rate) * correction[part]

    def forward(self, x: Floats) -> list[Floats]:
        """What enters each layer, then the outputs."""
        values = [x]
        for layer, part in zip(self._layers, self._parts, strict=True):
            x = values[-1]
            match layer.kind:
                case "relu":
                    values.append(np.where(x <= 0, np.float32(0), x))
                case "tanh":
                    values.append(self._map("tmf_tanhf", x))
                case "sigmoid":
                    values.append(self._map("tmf_sigmoidf", x))
                case "relu6":
                    above = np.where(x < 0, np.float32(0), x)
                    values.append(np.where(above > 6, np.float32(6), above))
                case "leaky_relu":
                    values.append(np.where(x > 0, x, np.float32(layer.slope) * x))
                case "add":
                    values.append(x + values[layer.source])
                case "route":
                    values.append(values[layer.source])
                case kind:
                    values.append(FORWARD[kind](layer, self.theta[part], x))
        return values

    @property
    def _parts(self) -> list[slice]:
        return ref.layer_slices(self._layers)

    def _map(self, function: str, x: Floats) -> Floats:
        call = getattr(self._core.lib, function)
        return np.array([call(float(value)) for value in x], np.float32)

    def _slope(self, y: Floats, target: Target) -> Floats:
        """∂loss/∂y"""
        if self._kind == "mse":
            return np.float32(2) * (y - target) / np.float32(len(y))
        if self._kind == "binary_cross_entropy":
            return self._map("tmf_sigmoidf", y) - np.float32(target)
        exponentials = self._map("tmf_expf", y - y.max())
        slope = exponentials / np.add.accumulate(exponentials)[-1]
        slope[target] -= np.float32(1)
        return slope

    def _backward(
        self, values: list[Floats], dy: Floats, moving: list[int], sink: Floats, scale: np.float32
    ) -> None:
        lowest = min(moving, default=len(self._layers))
        gathered: dict[int, Floats] = {}  # of sources, by their number; the chain's comes last
        chain: Floats | None = dy
        for i in range(len(self._layers) - 1, lowest - 1, -1):
            layer, part, x, y = self._layers[i], self._parts[i], values[i], values[i + 1]
            if (other := gathered.pop(i + 1, None)) is not None:
                chain = other if chain is None else other + chain
            assert chain is not None
            dy = chain
            match layer.kind:
                case "relu":
                    chain = np.where(y <= 0, np.float32(0), dy)
                case "relu6":
                    chain = np.where((y <= 0) | (y >= 6), np.float32(0), dy)
                case "leaky_relu":
                    chain = np.where(y > 0, dy, np.float32(layer.slope) * dy)
                case "tanh":
                    chain = dy * cast(Floats, 1 - y * y)
                case "sigmoid":
                    chain = dy * cast(Floats, y * (1 - y))
                case "add" | "route" as kind:
                    before = gathered.get(layer.source, np.zeros_like(dy))
                    gathered[layer.source] = before + dy
                    chain = dy if kind == "add" else None
                case kind:
                    chain = DX[kind](layer, self.theta[part], x, dy)
                    if i in moving:
                        UPDATE[kind](layer, sink[part], x, dy, scale)


def product(weights: Floats, bias: Floats, x: Floats) -> Floats:
    """b, then the products of the row from first to last."""
    y = bias.copy()
    for column, value in zip(weights.T, x, strict=True):
        y += column * value
    return y


def product_dx(weights: Floats, dy: Floats) -> Floats:
    """The rows from first to last, from zero on; none whose dy is zero."""
    dx = np.zeros(weights.shape[1], np.float32)
    for o in np.flatnonzero(dy):
        dx += weights[o] * dy[o]
    return dx


def product_update(weights: Floats, bias: Floats, x: Floats, dy: Floats, scale: np.float32) -> None:
    """x · (scale · dy) for each row; none whose dy is zero."""
    for o in np.flatnonzero(dy):
        step = scale * dy[o]
        weights[o] += x * step
        bias[o] += step


def dense(layer: ref.Layer, part: Floats, x: Floats) -> Floats:
    return product(*ref.unpack(layer, part), x)


def dense_dx(layer: ref.Layer, part: Floats, x: Floats, dy: Floats) -> Floats:
    del x
    return product_dx(ref.unpack(layer, part)[0], dy)


def dense_update(layer: ref.Layer, sink: Floats, x: Floats, dy: Floats, scale: np.float32) -> None:
    product_update(*ref.unpack(layer, sink), x, dy, scale)


def conv2d(layer: ref.Layer, part: Floats, x: Floats) -> Floats:
    """At each place the product with what is under the window, zeros in the padding."""
    parameters = ref.unpack(layer, part)
    return np.concatenate([product(*parameters, patch.ravel()) for patch in ref.under(layer, x)])


def conv2d_dx(layer: ref.Layer, part: Floats, x: Floats, dy: Floats) -> Floats:
    """The places from first to last, from zero on."""
    weights, bias = ref.unpack(layer, part)
    dx = np.zeros(x.size + 1, np.float32)  # the last: the padding
    for reach, slopes in zip(layer.reach, dy.reshape(-1, bias.size), strict=True):
        dx[reach.ravel()] += product_dx(weights, slopes)
    return dx[:-1]


def conv2d_update(layer: ref.Layer, sink: Floats, x: Floats, dy: Floats, scale: np.float32) -> None:
    """The places from first to last."""
    weights, bias = ref.unpack(layer, sink)
    slopes = dy.reshape(-1, bias.size)
    for patch, some in zip(ref.under(layer, x), slopes, strict=True):
        product_update(weights, bias, patch.ravel(), some, scale)


def depthwise(layer: ref.Layer, part: Floats, x: Floats) -> Floats:
    """b, then the products of what lies in the image, row by row."""
    weights, bias = ref.unpack(layer, part)
    sums: list[Floats] = []
    for reach in layer.reach:
        sums.append(bias.copy())
        for tap, values in enumerate(reach):
            if values[0] >= 0:
                sums[-1] += weights[:, tap] * x[values]
    return np.concatenate(sums)


def depthwise_dx(layer: ref.Layer, part: Floats, x: Floats, dy: Floats) -> Floats:
    """The places from first to last, from zero on; no output whose dy is zero."""
    weights, bias = ref.unpack(layer, part)
    dx = np.zeros_like(x)
    for reach, slopes in zip(layer.reach, dy.reshape(-1, bias.size), strict=True):
        for tap, values in enumerate(reach):
            some = slopes != 0
            if values[0] >= 0:
                dx[values[some]] += weights[some, tap] * slopes[some]
    return dx


def depthwise_update(
    layer: ref.Layer, sink: Floats, x: Floats, dy: Floats, scale: np.float32
) -> None:
    """The places from first to last; no output whose dy is zero."""
    weights, bias = ref.unpack(layer, sink)
    for reach, slopes in zip(layer.reach, dy.reshape(-1, bias.size), strict=True):
        some, steps = slopes != 0, scale * slopes
        bias[some] += steps[some]
        for tap, values in enumerate(reach):
            if values[0] >= 0:
                weights[some, tap] += x[values[some]] * steps[some]


def max_pool(layer: ref.Layer, part: Floats, x: Floats) -> Floats:
    del part
    return ref.under(layer, x, -np.inf).max(axis=1).ravel()


def max_pool_dx(layer: ref.Layer, part: Floats, x: Floats, dy: Floats) -> Floats:
    """To the first of the largest; the places from first to last, from zero on."""
    del part
    dx = np.zeros_like(x)
    channels = np.arange(layer.reach.shape[2])
    patches = ref.under(layer, x, -np.inf)
    for reach, patch, slopes in zip(
        layer.reach, patches, dy.reshape(-1, channels.size), strict=True
    ):
        dx[reach[patch.argmax(axis=0), channels]] += slopes
    return dx


def average_pool(layer: ref.Layer, part: Floats, x: Floats) -> Floats:
    """From zero on, row by row; then the product with the rounded 1 / values."""
    del part
    sums = np.add.accumulate(ref.under(layer, x), axis=1)[:, -1]
    return (sums * (np.float32(1) / layer.counted.astype(np.float32))).ravel()


def average_pool_dx(layer: ref.Layer, part: Floats, x: Floats, dy: Floats) -> Floats:
    """The places from first to last, from zero on."""
    del part
    dx = np.zeros(x.size + 1, np.float32)  # the last: the padding
    counted = layer.counted.astype(np.float32)
    shares = dy.reshape(counted.shape) * (np.float32(1) / counted)
    for reach, some in zip(layer.reach, shares, strict=True):
        dx[reach] += some
    return dx[:-1]


FORWARD = {
    "dense": dense,
    "conv2d": conv2d,
    "depthwise_conv2d": depthwise,
    "max_pool2d": max_pool,
    "average_pool2d": average_pool,
}
DX = {
    "dense": dense_dx,
    "conv2d": conv2d_dx,
    "depthwise_conv2d": depthwise_dx,
    "max_pool2d": max_pool_dx,
    "average_pool2d": average_pool_dx,
}
UPDATE = {"dense": dense_update, "conv2d": conv2d_update, "depthwise_conv2d": depthwise_update}
