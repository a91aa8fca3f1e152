"""Training in float32 as the firmware's core has it: every sum in the order that firmware/core
states, every operation rounded, so that a node's results can be compared bit for bit.

exp, log and tanh are the core's own, which tests/firmware/test_math.py holds to the truth. All
arrays are float32. Weights are laid out as in reference.py.
"""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

import reference as ref

Floats = NDArray[np.float32]
Target = Floats | int


class Trainer:
    """A model under training.

    core: the host build, with `lib` (the fixture of tests/firmware). frozen: bit i for layer i.
    """

    def __init__(self, core: SimpleNamespace, layers: ref.Layers, theta: Floats, kind: str) -> None:
        self.theta = theta.copy()
        self._core = core
        self._layers = layers
        self._kind = kind

    def train(
        self, samples: Sequence[tuple[Floats, Target]], rate: float, frozen: int, batch: int = 1
    ) -> None:
        """One epoch, in order."""
        moving = [i for i, p in enumerate(self._parts) if p.stop > p.start and not frozen >> i & 1]
        for first in range(0, len(samples), batch):
            chunk = samples[first : first + batch]
            scale = np.float32(-rate) / np.float32(len(chunk))
            sink = self.theta if len(chunk) == 1 else np.zeros_like(self.theta)
            for x, target in chunk:
                values = self.forward(x)
                self._backward(values, self._slope(values[-1], target), moving, sink, scale)
            for part in (self._parts[i] for i in moving):
                if sink is not self.theta:
                    self.theta[part] += sink[part]

    def forward(self, x: Floats) -> list[Floats]:
        """What enters each layer, then the outputs."""
        values = [x]
        for layer, part in zip(self._layers, self._parts, strict=True):
            match layer.kind:
                case "dense":
                    y = dense(layer, self.theta[part], values[-1])
                case "relu":
                    y = np.where(values[-1] > 0, values[-1], np.float32(0))
                case _:
                    y = self._map("tmf_tanhf", values[-1])
            values.append(y)
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
        exponentials = self._map("tmf_expf", y - y.max())
        slope = exponentials / np.add.accumulate(exponentials)[-1]
        slope[target] -= np.float32(1)
        return slope

    def _backward(
        self, values: list[Floats], dy: Floats, moving: list[int], sink: Floats, scale: np.float32
    ) -> None:
        for i in range(len(self._layers) - 1, min(moving, default=len(self._layers)) - 1, -1):
            layer, part, x, y = self._layers[i], self._parts[i], values[i], values[i + 1]
            match layer.kind:
                case "dense":
                    dx = dense_dx(layer, self.theta[part], dy)
                    if i in moving:
                        dense_update(layer, sink[part], x, dy, scale)
                    dy = dx
                case "relu":
                    dy = np.where(y > 0, dy, np.float32(0))
                case _:
                    dy *= np.float32(1) - y * y


def dense(layer: ref.Layer, part: Floats, x: Floats) -> Floats:
    """b, then the products of the row from first to last."""
    weights, y = ref.unpack(layer, part)
    y = y.copy()
    for column, value in zip(weights.T, x, strict=True):
        y += column * value
    return y


def dense_dx(layer: ref.Layer, part: Floats, dy: Floats) -> Floats:
    """The rows from first to last, from zero on; none whose dy is zero."""
    weights, _ = ref.unpack(layer, part)
    dx = np.zeros(layer.inputs, np.float32)
    for o in np.flatnonzero(dy):
        dx += weights[o] * dy[o]
    return dx


def dense_update(layer: ref.Layer, sink: Floats, x: Floats, dy: Floats, scale: np.float32) -> None:
    """x · (scale · dy) for each row; none whose dy is zero."""
    weights, bias = ref.unpack(layer, sink)
    for o in np.flatnonzero(dy):
        step = scale * dy[o]
        weights[o] += x * step
        bias[o] += step
