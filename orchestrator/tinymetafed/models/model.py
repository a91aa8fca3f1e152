"""A model: the experiment's layers, the node's description of them, the first weights."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from ..link.messages import Layer, Load
from ..settings import Settings

LOSSES = {"mse": 0, "softmax_cross_entropy": 1, "binary_cross_entropy": 2}  # numbers of firmware/protocol.cddl
OPERATIONS = {
    "dense": 1, "relu": 2, "tanh": 3,
    "conv2d": 4, "depthwise_conv2d": 5, "max_pool2d": 6, "average_pool2d": 7,
    "leaky_relu": 8, "relu6": 9, "sigmoid": 10, "add": 11, "route": 12,
}  # fmt: skip

Length = Annotated[int, Field(ge=1, le=65535)]
WindowLength = Annotated[int, Field(ge=1, le=255)]


class Shape(NamedTuple):
    """Of an image: its values lie pixel by pixel, row by row, a pixel's channels together."""

    height: int
    width: int
    channels: int

    @property
    def values(self) -> int:
        """Number of values."""
        return self.height * self.width * self.channels


class _Layer(Settings):
    """A layer of an experiment file."""

    def after(self, shape: Shape) -> Shape:
        """What leaves it where `shape` enters. Raises ValueError that begins with a key of the
        layer where it does not fit."""
        raise NotImplementedError

    def arguments(self, shape: Shape) -> tuple[int, ...]:
        """Of its operation (see firmware/protocol.cddl) where `shape` enters."""
        raise NotImplementedError


class _LayerWithParameters(_Layer):
    activation: Literal["relu", "tanh", "linear"] = "linear"
    local: bool = False  # a part of the model that never leaves the node

    def weights(self, shape: Shape) -> tuple[int, int]:
        """Shape of W, (outputs, inputs), where `shape` enters; each output has a bias as well."""
        raise NotImplementedError


class Dense(_LayerWithParameters):
    """y = activation(W x + b), whatever shape x has"""

    type: Literal["dense"] = "dense"
    units: Length

    def after(self, shape: Shape) -> Shape:
        """See _Layer."""
        return Shape(1, 1, self.units)

    def arguments(self, shape: Shape) -> tuple[int, ...]:
        """See _Layer."""
        return (self.units,)

    def weights(self, shape: Shape) -> tuple[int, int]:
        """See _LayerWithParameters."""
        return self.units, shape.values


class _Window(_Layer):
    """A square window that moves over an image."""

    size: WindowLength
    stride: WindowLength

    def margin(self) -> int:
        """Pixels of zeros around the image."""
        return 0

    def channels(self, shape: Shape) -> int:
        """How many leave it where `shape` enters."""
        return shape.channels

    def after(self, shape: Shape) -> Shape:
        """See _Layer."""
        height, width = (length + 2 * self.margin() - self.size for length in shape[:2])
        if min(height, width) < 0:
            raise ValueError(
                f"size: {self.size} is more than the {shape.height} × {shape.width} pixels that "
                f"come in with a padding of {self.margin()}; model.shape is what a sample has"
            )
        places = height // self.stride + 1, width // self.stride + 1
        return Shape(*places, self.channels(shape))

    def arguments(self, shape: Shape) -> tuple[int, ...]:
        """See _Layer."""
        return shape.height, shape.width, self.size, self.stride


class _Convolution(_Window, _LayerWithParameters):
    size: WindowLength = 3
    stride: WindowLength = 1
    padding: Annotated[int, Field(ge=0, le=254)] = 0

    def margin(self) -> int:
        """See _Window. Raises ValueError that begins with a key."""
        if self.padding >= self.size:
            raise ValueError(f"padding: {self.padding} is not less than the size, {self.size}")
        return self.padding

    def arguments(self, shape: Shape) -> tuple[int, ...]:
        """See _Layer."""
        return *super().arguments(shape), self.padding


class Conv2d(_Convolution):
    """Every filter sees all channels under the window."""

    type: Literal["conv2d"]
    filters: Length

    def channels(self, shape: Shape) -> int:
        """See _Window."""
        return self.filters

    def arguments(self, shape: Shape) -> tuple[int, ...]:
        """See _Layer."""
        return *super().arguments(shape), self.filters

    def weights(self, shape: Shape) -> tuple[int, int]:
        """See _LayerWithParameters."""
        return self.filters, self.size**2 * shape.channels


class DepthwiseConv2d(_Convolution):
    """A filter for each channel."""

    type: Literal["depthwise_conv2d"]

    def weights(self, shape: Shape) -> tuple[int, int]:
        """See _LayerWithParameters."""
        return shape.channels, self.size**2


class Pool2d(_Window):
    """The largest value, or the mean, of each channel under the window."""

    type: Literal["max_pool2d", "average_pool2d"]
    size: WindowLength = 2
    stride: WindowLength = 2


def _dense_unless_said(layer: object) -> object:
    return {"type": "dense", **layer} if isinstance(layer, dict) else layer


LayerSettings = Annotated[
    Annotated[Dense | Conv2d | DepthwiseConv2d | Pool2d, Field(discriminator="type")],
    BeforeValidator(_dense_unless_said),
]


class ModelSettings(Settings):
    """[model] of an experiment file.

    shape: height, width and channels of a sample, for layers that see it as an image; the task's
    where not given.
    """

    shape: tuple[Length, Length, Length] | None = None
    layers: Annotated[tuple[LayerSettings, ...], Field(min_length=1, max_length=16)]
    loss: Literal["mse", "softmax_cross_entropy"] = "mse"


@dataclass(frozen=True)
class Part:
    """The parameters of one layer of the node's description."""

    layer: int  # index into the description, which has activations as layers of their own
    first: int  # index of the first parameter in the model's vector
    weights: tuple[int, int]  # shape: outputs, inputs
    local: bool
    relu: bool  # follows

    @property
    def end(self) -> int:
        """Index after the last parameter."""
        return self.first + self.weights[0] * (self.weights[1] + 1)


@dataclass(frozen=True)
class Model:
    """A model for a task.

    The parameter vector θ is float32 [parameters]: for every layer that has some W row-major
    (outputs × inputs), then b (outputs). A convolution's inputs are the values under its window,
    row by row, in a depthwise one of one channel.
    """

    inputs: int
    outputs: int
    loss: str
    layers: tuple[Layer, ...]
    parts: tuple[Part, ...]

    @classmethod
    def build(cls, settings: ModelSettings, inputs: int, *, local: bool = True) -> "Model":
        """The model on `inputs` values per sample; without `local` every part is global.

        Raises ValueError that begins with the key of what does not fit.
        """
        layers: list[Layer] = []
        parts: list[Part] = []
        shape, first = Shape(*(settings.shape or (1, 1, inputs))), 0
        if shape.values != inputs:
            sides = " × ".join(map(str, shape))
            raise ValueError(
                f"model.shape: {sides} are {shape.values} values, a sample of the task has {inputs}"
            )
        for i, one in enumerate(settings.layers):
            try:
                after = one.after(shape)
            except ValueError as error:
                raise ValueError(f"model.layers.{i}.{error}") from None
            operation, arguments = OPERATIONS[one.type], one.arguments(shape)
            if isinstance(one, _LayerWithParameters):
                is_local = local and one.local
                is_relu = one.activation == "relu"
                part = Part(len(layers), first, one.weights(shape), is_local, is_relu)
                parts.append(part)
                first = part.end
                layers.append(Layer(operation, is_local, arguments))
                if one.activation != "linear":
                    layers.append(Layer(OPERATIONS[one.activation], is_local, ()))
            else:
                layers.append(Layer(operation, False, arguments))
            shape = after
        if not parts:
            raise ValueError("model.layers: no layer has parameters, so there is nothing to learn")
        return cls(inputs, shape.values, settings.loss, tuple(layers), tuple(parts))

    @property
    def target_is_class(self) -> bool:
        """Whether a target is the number of a class."""
        return self.loss == "softmax_cross_entropy"

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return self.parts[-1].end

    @cached_property
    def global_mask(self) -> NDArray[np.bool_]:
        """bool [parameters], read-only: true for the global part."""
        mask = np.ones(self.parameters, dtype=np.bool_)
        for part in self.parts:
            mask[part.first : part.end] = not part.local
        mask.flags.writeable = False
        return mask

    @cached_property
    def global_runs(self) -> tuple[tuple[int, int], ...]:
        """The global part as (first, end) of its longest runs, ascending."""
        edges = np.flatnonzero(np.diff(self.global_mask, prepend=False, append=False))
        return tuple((int(a), int(b)) for a, b in edges.reshape(-1, 2))

    @cached_property
    def global_parameters(self) -> int:
        """Number of parameters of the global part."""
        return int(self.global_mask.sum())

    @cached_property
    def _frozen(self) -> dict[bool, int]:
        return {
            local: sum(1 << part.layer for part in self.parts if part.local == local)
            for local in (False, True)
        }

    def frozen(self, *, local: bool) -> int:
        """The mask that freezes the local part, or else the global part: bit i for layer i."""
        return self._frozen[local]

    def description(self, *, accumulate: bool, capacity: int, room: int = 0) -> Load:
        """What the node is told; see `load` in firmware/protocol.cddl."""
        return Load(self.inputs, LOSSES[self.loss], accumulate, capacity, self.layers, room)

    def initial(self, seed: int) -> NDArray[np.float32]:
        """float32 [parameters], uniform: W in ±√(3 / inputs), which keeps the variance (LeCun et
        al. 1998, Efficient BackProp, equation 16), before a ReLU in ±√(6 / inputs) (He et al. 2015,
        arXiv:1502.01852, equation 10); b in ±1 / √inputs, so that units differ where inputs are
        few.

        The last layer starts at zero, unless an activation follows that would keep it there: what
        it learns is each device's own, and a random start would be the same noise on all of them
        to the layers before (Kao, Chiu, Chen 2022, arXiv:2106.15367).
        """
        rng = np.random.default_rng([seed, 0x_1717])
        theta = np.zeros(self.parameters, dtype=np.float32)
        for part in self.parts:
            if part.layer == len(self.layers) - 1:
                continue
            outputs, inputs = part.weights
            limit = np.sqrt((6 if part.relu else 3) / inputs)
            b = part.first + outputs * inputs
            theta[part.first : b] = rng.uniform(-limit, limit, outputs * inputs)
            theta[b : part.end] = rng.uniform(-1, 1, outputs) / np.sqrt(inputs)
        return theta
