"""The layers that an ONNX graph has come to so far, and what its tensors are of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layers import (
    SAMPLE,
    Activation,
    DepthwiseConv2d,
    Join,
    Kind,
    Layer,
    LayerWithParameters,
    Shape,
    Sides,
)
from .model import MOST_LAYERS
from .onnx_file import Graph, NotALayer, Operation
from .onnx_layout import Array, Order, channels_first, channels_last, image_shape

Weights = tuple[NDArray[np.float64], NDArray[np.float64]]
"""W, (outputs, inputs), and b, (outputs,)."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    source: number of the layer that gives it, from 1 on; 0 is the sample. order: index into the
    layer's outputs of each value. alone: nothing else reads what the layer gives. padding: around
    it, of `fill`, that no layer has made yet. positive: no value is below zero.
    """

    source: int
    order: Order
    alone: bool = True
    padding: Sides | None = None
    fill: float = 0.0
    positive: bool = False
    softmax: bool = False


@dataclass
class Entry:
    """A layer, what it gives, and its weights."""

    layer: Layer
    shape: Shape
    weights: Weights | None = None


Inputs = Sequence[Value | Array | None]


class Chain:
    """Layers one behind the other, with joins where the graph has branches.

    Methods that add a layer raise NotALayer, or ValueError where the layer does not fit.
    """

    def __init__(self, graph: Graph, shape: Shape | None, sample: Order) -> None:
        """shape, sample: see onnx_sample."""
        self.graph = graph
        self.shape = shape
        self.sample = sample
        self.entries: list[Entry] = []

    def shape_of(self, source: int) -> Shape:
        """Of what a layer gives, or of the sample."""
        if source:
            return self.entries[source - 1].shape
        return self.shape or Shape(1, 1, len(self.sample))

    def name_of(self, source: int) -> str:
        """Of a layer, or the sample's."""
        name = self.entries[source - 1].layer.name if source else SAMPLE
        assert name is not None
        return name

    def add(
        self,
        operation: Operation,
        value: Value,
        kind: type[Layer],
        weights: Weights | None = None,
        **settings: Any,
    ) -> int:
        """A layer that reads the value; returns its number."""
        if value.padding is not None and "padding" not in settings:
            raise NotALayer("it reads padding; only a convolution or a pool can")
        if value.source != len(self.entries):
            self._append(Join(type="route", source=self.name_of(value.source)), None)
            self.entries[-1].shape = self.shape_of(value.source)
        taken = {one.layer.name for one in self.entries} | {SAMPLE}
        name, n = operation.name, 1
        while name in taken:
            n += 1
            name = f"{operation.name}_{n}"
        layer = kind(name=name, **settings)
        shape = self.shape_of(value.source)
        self._append(layer, weights)
        self.entries[-1].shape = shape if isinstance(layer, Join) else layer.after(shape)
        return len(self.entries)

    def _append(self, layer: Layer, weights: Weights | None) -> None:
        if len(self.entries) == MOST_LAYERS:
            raise NotALayer(f"more than {MOST_LAYERS} layers, and a node has no room for them")
        self.entries.append(Entry(layer, Shape(1, 1, 1), weights))

    def image(self, value: Value) -> Shape:
        """The shape of a value that has channels first and lies channels last in its layer."""
        shape = image_shape(value.order)
        if shape != self.shape_of(value.source) or not ascends(channels_last(value.order)):
            raise NotALayer(
                f"it sees an image of {shape} (height, width, channels) where "
                f"{self.shape_of(value.source)} values come in; no layer lays them anew"
            )
        return shape

    def newest(self, source: int, ndim: int) -> Value:
        """What the newest layer gives, channels first."""
        return Value(source, channels_first(self.entries[source - 1].shape, ndim))

    def _trainable(self, value: Value) -> Entry | None:
        """The layer with weights that gives the value to nobody else, and has no activation yet."""
        if not value.source or not value.alone or value.padding is not None:
            return None
        entry = self.entries[value.source - 1]
        layer = entry.layer
        return entry if isinstance(layer, LayerWithParameters) and not is_activated(layer) else None

    def affine(self, operation: Operation, value: Value, scale: Array, shift: Array) -> Value:
        """scale, shift: by channel of the layer that gives the value. They go into its weights, or
        into a filter of 1 × 1 for each channel."""
        entry = self._trainable(value)
        if entry is not None:
            assert entry.weights is not None
            w, b = entry.weights
            entry.weights = w * scale[:, None], b * scale + shift
            return replace(value, positive=False)
        settings = {"type": "depthwise_conv2d", "size": 1}
        weights = scale[:, None].astype(np.float64), shift.astype(np.float64)
        number = self.add(operation, value, DepthwiseConv2d, weights, **settings)
        return Value(number, value.order)

    def by_channel(self, value: Value, array: Array) -> NDArray[np.float64]:
        """A constant that is broadcast to the value, as one number for each channel."""
        channels = self.shape_of(value.source).channels
        whole = np.broadcast_to(array, value.order.shape).astype(np.float64).ravel()
        which = value.order.ravel() % channels
        found = np.empty(channels)
        found[which] = whole
        if not np.array_equal(found[which], whole):
            raise NotALayer("a constant for each value; one for each channel is possible")
        return found

    def activate(
        self, operation: Operation, value: Value, kind: Kind, slope: float = 0.01
    ) -> Value:
        """The activation of the layer that gives the value, or one of its own."""
        positive = kind in ("relu", "relu6", "sigmoid")
        entry = self._trainable(value)
        if entry is not None and slope == 0.01:
            entry.layer = entry.layer.model_copy(update={"activation": kind})
            return replace(value, positive=positive)
        number = self.add(operation, value, Activation, type=kind, slope=slope)
        return Value(number, value.order, positive=positive)


def is_activated(layer: Layer) -> bool:
    """Whether it has an activation of its own."""
    return isinstance(layer, LayerWithParameters) and layer.activation != "linear"


def ascends(order: Array) -> bool:
    """Whether the values lie as their layer gives them."""
    return bool((order == np.arange(order.size)).all())


def vector(weights: Weights | None) -> NDArray[np.float32]:
    """A layer's parameters as they lie in θ. Raises NotALayer."""
    if weights is None:
        return np.zeros(0, np.float32)
    vector = np.concatenate([weights[0].ravel(), weights[1]]).astype(np.float32)
    if not np.isfinite(vector).all():
        raise NotALayer("weights that are not finite")
    return vector


def data_of(inputs: Inputs) -> Value:
    """The first input, which is no constant. Raises NotALayer."""
    value = inputs[0] if inputs else None
    if not isinstance(value, Value):
        raise NotALayer("its first input does not depend on the file's input")
    return value


def either_of(inputs: Inputs) -> tuple[Value, Value | Array]:
    """An input that is no constant, and the other one. Raises NotALayer."""
    if len(inputs) == 2:
        first, second = inputs
        if isinstance(first, Value) and second is not None:
            return first, second
        if isinstance(second, Value) and first is not None:
            return second, first
    raise NotALayer("two inputs are possible, of which one depends on the file's input")


def constant_of(inputs: Inputs, i: int, what: str) -> Array:
    """An input that is a constant. what: it is, as "its bias is". Raises NotALayer."""
    value = inputs[i] if len(inputs) > i else None
    if not isinstance(value, np.ndarray):
        raise NotALayer(f"{what} no constant")
    return value


def bias_of(inputs: Inputs, i: int, outputs: int) -> NDArray[np.float64]:
    """(outputs,), zeros where it is left out. Raises NotALayer."""
    if len(inputs) <= i or inputs[i] is None:
        return np.zeros(outputs)
    given = constant_of(inputs, i, "its bias is").astype(np.float64)
    return np.broadcast_to(given, (1, outputs)).ravel().copy()
