"""A trained network as other tools take it: layers with shapes and weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .layers import (
    SAMPLE,
    Conv2d,
    Convolution,
    Dense,
    GlobalAveragePool2d,
    Layer,
    LayerWithParameters,
    Shape,
    Window,
    Windowed,
)
from .model import Model, ModelSettings

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Step:
    """A layer at its place.

    name: no other has it. before: the name of the layer whose outputs enter. source: of a join.
    w, b: float32; w is (outputs, inputs) of a dense layer, (filters, rows, columns, channels) of a
    convolution, (channels, rows, columns) of a depthwise one; inputs lie channels last.
    """

    name: str
    layer: Layer
    before: str
    entering: Shape
    leaving: Shape
    w: Values | None = None
    b: Values | None = None

    @property
    def window(self) -> Window:
        """Of a layer that has one."""
        if isinstance(self.layer, GlobalAveragePool2d):
            return Window(self.entering[:2], (1, 1), ((0, 0), (0, 0)))
        assert isinstance(self.layer, Windowed)
        return self.layer.window(self.entering)

    @property
    def activation(self) -> tuple[str, float]:
        """Kind, "linear" for none; and slope of a leaky ReLU."""
        layer = self.layer
        if isinstance(layer, LayerWithParameters):
            return layer.activation, 0.01
        kind: str = getattr(layer, "type")  # noqa: B009 (each class has its own)
        return kind, getattr(layer, "slope", 0.01)


@dataclass(frozen=True)
class Network:
    """A network that is there to predict.

    shape: of a sample, channels last. loss: that it was trained by; its outputs are what a node's
    `predict` gives, without a softmax or sigmoid that belongs to the loss. metadata: run, seed,
    strategy, checksums of the data.
    """

    shape: Shape
    loss: str
    steps: tuple[Step, ...]
    metadata: dict[str, str]

    @classmethod
    def of(
        cls, settings: ModelSettings, model: Model, theta: Values, metadata: dict[str, str]
    ) -> "Network":
        """settings: with the shape of a sample. theta: float32 [parameters]."""
        assert settings.shape is not None
        shape = Shape(*settings.shape)
        vectors = iter(model.of_layers(theta))
        steps = tuple(_steps(settings, shape, vectors))
        return cls(shape, model.loss, steps, metadata)

    @property
    def sees_image(self) -> bool:
        """Whether a sample has more than one axis."""
        kinds = (Windowed, GlobalAveragePool2d)
        return any(isinstance(step.layer, kinds) for step in self.steps)

    @property
    def outputs(self) -> int:
        """Values that it gives."""
        return self.steps[-1].leaving.values

    @cached_property
    def parameters(self) -> int:
        """How many there are, frozen ones too."""
        return sum(s.w.size + s.b.size for s in self.steps if s.w is not None and s.b is not None)


def _steps(settings: ModelSettings, shape: Shape, vectors: Iterator[Values]) -> Iterator[Step]:
    named = {SAMPLE: shape}
    given = {one.name for one in settings.layers}
    before = SAMPLE
    for i, (layer, after) in enumerate(zip(settings.layers, settings.shapes(shape), strict=True)):
        kind: str = getattr(layer, "type")  # noqa: B009
        name = layer.name or f"{kind}_{i}"
        while layer.name is None and name in given:
            name += "_"
        w = b = None
        entering = named[before]
        if isinstance(layer, LayerWithParameters):
            outputs, inputs = layer.weights(entering)
            vector = next(vectors)
            w = vector[: outputs * inputs].reshape(_weights_shape(layer, entering, outputs))
            b = vector[outputs * inputs :]
        yield Step(name, layer, before, entering, after, w, b)
        before = name
        named[name] = after


def _weights_shape(layer: Layer, entering: Shape, outputs: int) -> tuple[int, ...]:
    if isinstance(layer, Dense):
        return outputs, entering.values
    assert isinstance(layer, Convolution)
    if isinstance(layer, Conv2d):
        return outputs, *layer.size, entering.channels
    return outputs, *layer.size
