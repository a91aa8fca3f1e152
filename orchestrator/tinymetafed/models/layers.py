"""The layers of an experiment file, and what a node is told of them."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from ..settings import Settings

OPERATIONS = {
    "dense": 1, "relu": 2, "tanh": 3,
    "conv2d": 4, "depthwise_conv2d": 5, "max_pool2d": 6, "average_pool2d": 7,
    "leaky_relu": 8, "relu6": 9, "sigmoid": 10, "add": 11, "route": 12,
}  # fmt: skip
"""Numbers of firmware/protocol.cddl."""

SAMPLE = "input"
"""The name that the sample has as the source of a layer."""

LONGEST = 255
"""Pixels of a window, or of a step, each way (firmware/core/tmf_kernel.h)."""

Length = Annotated[int, Field(ge=1, le=65535)]
WindowLength = Annotated[int, Field(ge=1, le=LONGEST)]
PaddingLength = Annotated[int, Field(ge=0, lt=LONGEST)]
Kind = Literal["linear", "relu", "relu6", "leaky_relu", "tanh", "sigmoid"]


def _both_ways(value: object) -> object:
    return (value, value) if isinstance(value, int) else value


def _all_sides(value: Any) -> Any:
    sides = ((value, value), (value, value)) if isinstance(value, int) else value
    match sides:
        case "same":
            return sides
        case [[int(), int()], [int(), int()]] | ((int(), int()), (int(), int())) if all(
            0 <= n < LONGEST for axis in sides for n in axis
        ):
            return sides
        case _:
            raise PydanticCustomError(
                "tmf_padding",
                "use a whole number up to 254, 'same', or [[top, bottom], [left, right]]",
            )


Ways = Annotated[
    tuple[WindowLength, WindowLength],
    BeforeValidator(_both_ways, tuple[WindowLength, WindowLength] | WindowLength),
]
"""Height and width; a number is both."""

Sides = tuple[tuple[int, int], tuple[int, int]]
"""Top and bottom, left and right."""

Padding = Annotated[
    Literal["same"] | Sides, BeforeValidator(_all_sides, Literal["same"] | Sides | PaddingLength)
]


class Shape(NamedTuple):
    """Of an image: its values lie pixel by pixel, row by row, a pixel's channels together."""

    height: int
    width: int
    channels: int

    @property
    def values(self) -> int:
        """Number of values."""
        return self.height * self.width * self.channels

    def __str__(self) -> str:
        return " × ".join(map(str, self))


class Layer(Settings):
    """A layer of an experiment file."""

    name: Annotated[str, Field(min_length=1)] | None = None
    """Name by which later layers read its outputs as well (`source`)."""

    def after(self, shape: Shape) -> Shape:
        """What leaves it where `shape` enters. Raises ValueError that begins with a key of the
        layer where it does not fit."""
        raise NotImplementedError

    def operations(self, shape: Shape) -> list[tuple[int, tuple[int, ...]]]:
        """What a node does: numbers and arguments of firmware/protocol.cddl, where `shape`
        enters."""
        raise NotImplementedError


class LayerWithParameters(Layer):
    """A layer that learns."""

    activation: Kind = "linear"
    """Function on each output."""
    local: bool = False
    """Whether its parameters never leave the node."""
    frozen: bool = False
    """Whether its parameters never move."""

    @model_validator(mode="after")
    def _is_one_part(self) -> "LayerWithParameters":
        if self.local and self.frozen:
            raise ValueError("frozen: a layer that never moves has nothing local; leave out one")
        return self

    @property
    def is_rectified(self) -> bool:
        """Whether a ReLU of some kind follows."""
        return self.activation in ("relu", "relu6", "leaky_relu")

    def weights(self, shape: Shape) -> tuple[int, int]:
        """Shape of W, (outputs, inputs), where `shape` enters; each output has a bias as well."""
        raise NotImplementedError

    def arguments(self, shape: Shape) -> tuple[int, ...]:
        """Of its own operation, without the activation's."""
        raise NotImplementedError

    def operations(self, shape: Shape) -> list[tuple[int, tuple[int, ...]]]:
        """See Layer."""
        kind: str = getattr(self, "type")  # noqa: B009 (each class has its own)
        own = (OPERATIONS[kind], self.arguments(shape))
        return [own, *activate(self.activation)]


def activate(
    kind: str, slope: float = 0.01, operations: Mapping[str, int] = OPERATIONS
) -> list[tuple[int, tuple[int, ...]]]:
    """What a node does for an activation: nothing where it is linear."""
    if kind == "linear":
        return []
    bits = (int(np.float32(slope).view(np.uint32)),) if kind == "leaky_relu" else ()
    return [(operations[kind], bits)]


class Activation(Layer):
    """An activation as a layer of its own: a function on each value."""

    type: Literal["relu", "relu6", "leaky_relu", "tanh", "sigmoid"]
    """Which function."""
    slope: Annotated[float, Field(gt=1e-30, lt=1)] = 0.01
    """Of `leaky_relu` below zero."""

    def after(self, shape: Shape) -> Shape:
        """See Layer."""
        return shape

    def operations(self, shape: Shape) -> list[tuple[int, tuple[int, ...]]]:
        """See Layer."""
        return activate(self.type, self.slope)


class Dense(LayerWithParameters):
    """A fully connected layer, activation(W x + b), whatever shape x has."""

    type: Literal["dense"] = "dense"
    """May be left out."""
    units: Length
    """Outputs."""

    def after(self, shape: Shape) -> Shape:
        """See Layer."""
        return Shape(1, 1, self.units)

    def arguments(self, shape: Shape) -> tuple[int, ...]:
        """See LayerWithParameters."""
        return (self.units,)

    def weights(self, shape: Shape) -> tuple[int, int]:
        """See LayerWithParameters."""
        return self.units, shape.values


class Window(NamedTuple):
    """A window over an image: lengths are (height, width)."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: Sides

    def places(self, shape: Shape) -> tuple[int, int]:
        """Rows and columns of places. Raises ValueError that begins with a key of the layer."""
        counts: list[int] = []
        for length, size, stride, padding in zip(
            shape[:2], self.size, self.stride, self.padding, strict=True
        ):
            if max(padding) >= size:
                raise ValueError(f"padding: {max(padding)} is not less than the size, {size}")
            if length + sum(padding) < size:
                raise ValueError(
                    f"size: {self.size[0]} × {self.size[1]} is more than the {shape.height} × "
                    f"{shape.width} pixels that come in, with their padding; model.shape is what "
                    "a sample has"
                )
            counts.append((length + sum(padding) - size) // stride + 1)
        return counts[0], counts[1]

    def arguments(self, shape: Shape) -> tuple[int, ...]:
        """As firmware/protocol.cddl packs them."""
        (top, bottom), (left, right) = self.padding
        size, stride = (height | width << 8 for height, width in (self.size, self.stride))
        padding = top | bottom << 8 | left << 16 | right << 24
        return shape.height, shape.width, size, stride, padding


class Windowed(Layer):
    """A window that moves over an image."""

    size: Ways
    """Pixels of the window: a number, or `[height, width]`."""
    stride: Ways
    """Pixels from one place of the window to the next: a number, or `[height, width]`."""
    padding: Padding = ((0, 0), (0, 0))
    """Pixels around the image: a number, `[[top, bottom], [left, right]]`, or `"same"` for as many
    places as the image has pixels, divided by the stride and rounded up, with one pixel more at the
    bottom and right where the number is odd, as in TensorFlow."""

    def window(self, shape: Shape) -> Window:
        """Over an image of that shape."""
        if self.padding != "same":
            return Window(self.size, self.stride, self.padding)
        around: list[tuple[int, int]] = []
        for length, size, stride in zip(shape[:2], self.size, self.stride, strict=True):
            total = max((math.ceil(length / stride) - 1) * stride + size - length, 0)
            around.append((total // 2, total - total // 2))
        return Window(self.size, self.stride, (around[0], around[1]))

    def channels(self, shape: Shape) -> int:
        """How many leave it where `shape` enters."""
        return shape.channels

    def after(self, shape: Shape) -> Shape:
        """See Layer."""
        return Shape(*self.window(shape).places(shape), self.channels(shape))


class Convolution(Windowed, LayerWithParameters):
    """A window with weights."""

    size: Ways = (3, 3)
    stride: Ways = (1, 1)

    def arguments(self, shape: Shape) -> tuple[int, ...]:
        """See LayerWithParameters."""
        return self.window(shape).arguments(shape)


class Conv2d(Convolution):
    """A convolution: every filter sees all channels under the window."""

    type: Literal["conv2d"]
    filters: Length
    """Filters, which are the channels that leave it."""

    def channels(self, shape: Shape) -> int:
        """See Windowed."""
        return self.filters

    def arguments(self, shape: Shape) -> tuple[int, ...]:
        """See LayerWithParameters."""
        return *super().arguments(shape), self.filters

    def weights(self, shape: Shape) -> tuple[int, int]:
        """See LayerWithParameters."""
        return self.filters, math.prod(self.size) * shape.channels


class DepthwiseConv2d(Convolution):
    """A depthwise convolution: a filter for each channel."""

    type: Literal["depthwise_conv2d"]

    def weights(self, shape: Shape) -> tuple[int, int]:
        """See LayerWithParameters."""
        return shape.channels, math.prod(self.size)


class MaxPool2d(Windowed):
    """The largest value of each channel under the window; padding is less than any."""

    type: Literal["max_pool2d"]
    size: Ways = (2, 2)
    stride: Ways = (2, 2)

    def operations(self, shape: Shape) -> list[tuple[int, tuple[int, ...]]]:
        """See Layer."""
        return [(OPERATIONS[self.type], self.window(shape).arguments(shape))]


class AveragePool2d(Windowed):
    """The mean of each channel under the window."""

    type: Literal["average_pool2d"]
    size: Ways = (2, 2)
    stride: Ways = (2, 2)
    count_padding: bool = False
    """Whether the padding counts as pixels of value 0; else the mean is of the image's alone."""

    def operations(self, shape: Shape) -> list[tuple[int, tuple[int, ...]]]:
        """See Layer."""
        arguments = self.window(shape).arguments(shape)
        return [(OPERATIONS[self.type], (*arguments, int(self.count_padding)))]


class GlobalAveragePool2d(Layer):
    """The mean of each channel over the whole image."""

    type: Literal["global_average_pool2d"]

    def after(self, shape: Shape) -> Shape:
        """See Layer."""
        if max(shape[:2]) > LONGEST:
            raise ValueError(f"type: {shape} pixels come in, and {LONGEST} each way are the limit")
        return Shape(1, 1, shape.channels)

    def operations(self, shape: Shape) -> list[tuple[int, tuple[int, ...]]]:
        """See Layer."""
        whole = Window(shape[:2], (1, 1), ((0, 0), (0, 0)))
        return [(OPERATIONS["average_pool2d"], (*whole.arguments(shape), 0))]


class Join(Layer):
    """A layer that reads the outputs of an earlier one: residual blocks and branches."""

    type: Literal["add", "route"]
    """`add` adds these outputs to those of the layer before, `route` has them instead."""
    source: str
    """Name of the earlier layer; `"input"` is the sample."""


def _dense_unless_said(layer: Any) -> Any:
    return {"type": "dense", **layer} if isinstance(layer, dict) else layer


LayerSettings = Annotated[
    Annotated[
        Dense | Conv2d | DepthwiseConv2d | MaxPool2d | AveragePool2d | GlobalAveragePool2d
        | Activation | Join,
        Field(discriminator="type"),
    ],
    BeforeValidator(_dense_unless_said),
]  # fmt: skip
