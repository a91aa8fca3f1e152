"""A model: the experiment's layers, the node's description of them, the first weights."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr
from pydantic.json_schema import SkipJsonSchema

from ..link.messages import FROZEN, GLOBAL, LOCAL, Layer, Load
from ..settings import Settings
from .layers import OPERATIONS, SAMPLE, Join, LayerSettings, LayerWithParameters, Length, Shape

LOSSES = {"mse": 0, "softmax_cross_entropy": 1, "binary_cross_entropy": 2}
"""Numbers of firmware/protocol.cddl."""

MOST_LAYERS = 32
"""Of a node's description, in which activations are layers too (firmware/core/tmf_model.h)."""


class Origin(Settings):
    """Where layers and first weights come from, if they are not an experiment file's own and
    drawn."""

    onnx: Annotated[str, Field(min_length=1)] | None = None
    """ONNX file, from the experiment's folder; `layers` follow its own."""
    tflite: Annotated[str, Field(min_length=1)] | None = None
    """TensorFlow Lite file, in place of `onnx`."""
    weights: Literal["file", "none"] | None = None
    """Whether the file's weights are used, or only its layers. `file` if not given."""
    from_run: Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=1)] | None = None
    """Run whose weights training starts from: its number, `"last"`, or a name, which is the newest
    run so called. Where no `layers` are given, its layers too."""
    local: tuple[str | int, ...] | None = None
    """Layers of the file or run that are local, by name or number, from 0 on."""
    frozen: tuple[str | int, ...] | None = None
    """Layers of the file or run that are frozen, by name or number, from 0 on."""
    sha256: SkipJsonSchema[str | None] = None
    """SHA-256 of the file, or of the run's weights."""

    @property
    def file(self) -> str | None:
        """One of the two."""
        return self.onnx or self.tflite


@dataclass(frozen=True)
class FirstWeights:
    """That are not drawn: of the first of θ's entries, and of all that are frozen; float32."""

    theta: bytes = b""
    backbone: bytes = b""


class ModelSettings(Origin):
    """[model]: the layers of the network, or where they come from, and the loss."""

    shape: tuple[Length, Length, Length] | None = None
    """Height, width and channels of a sample, for layers that see it as an image; the task's if not
    given."""
    layers: Annotated[tuple[LayerSettings, ...], Field(min_length=1, max_length=MOST_LAYERS)]
    """Layers from input to output. May be left out where a file or a run brings them."""
    loss: Literal["mse", "softmax_cross_entropy", "binary_cross_entropy"] = "mse"
    """What training minimises. Tasks with classes need one of the cross entropies."""
    _first: FirstWeights = PrivateAttr(default=FirstWeights())

    @property
    def first(self) -> FirstWeights:
        """Weights that go with the settings, and are in no file of settings."""
        return self._first

    def starting_with(self, first: FirstWeights) -> "ModelSettings":
        """The same with these weights."""
        model = self.model_copy()
        model._first = first
        return model

    def shapes(self, entering: Shape) -> Iterator[Shape]:
        """What leaves each layer where the sample is of that shape.

        Raises ValueError that begins with the key of what does not fit.
        """
        named = {SAMPLE: entering}
        shape = entering
        for i, one in enumerate(self.layers):
            key = f"model.layers.{i}"
            if isinstance(one, Join):
                if one.source not in named:
                    known = ", ".join(named)
                    raise ValueError(
                        f"{key}.source: no layer before it has the name {one.source!r}; there are: "
                        f"{known}"
                    )
                source = named[one.source]
                if one.type == "add" and source != shape:
                    raise ValueError(
                        f"{key}.source: {source} values of {one.source} cannot be added to {shape}"
                    )
                shape = source
            else:
                try:
                    shape = one.after(shape)
                except ValueError as error:
                    raise ValueError(f"{key}.{error}") from None
            if one.name is not None:
                if one.name in named:
                    raise ValueError(f"{key}.name: {one.name!r} is an earlier layer's as well")
                named[one.name] = shape
            yield shape


@dataclass(frozen=True)
class Part:
    """The parameters of one layer of the node's description."""

    layer: int  # index into the description, which has activations as layers of their own
    first: int  # index of the first parameter in the model's vector, or in the backbone
    weights: tuple[int, int]  # shape: outputs, inputs
    part: int  # of firmware/protocol.cddl: GLOBAL, LOCAL or FROZEN
    rectified: bool  # a ReLU of some kind follows

    @property
    def local(self) -> bool:
        """Whether it never leaves the node."""
        return self.part == LOCAL

    @property
    def end(self) -> int:
        """Index after the last parameter."""
        return self.first + self.weights[0] * (self.weights[1] + 1)


@dataclass(frozen=True)
class Model:
    """A model for a task.

    The parameter vector θ is float32 [parameters]: for every layer that has some and is not frozen
    W row-major (outputs × inputs), then b (outputs). A convolution's inputs are the values under
    its window, row by row, in a depthwise one of one channel. `backbone`, float32
    [backbone_parameters], is the same of the frozen layers; zeros where nobody has set it. `given`,
    float32, are the first of θ's entries before training, as far as they are not drawn.
    """

    inputs: int
    outputs: int
    loss: str
    layers: tuple[Layer, ...]
    parts: tuple[Part, ...]
    backbone_parts: tuple[Part, ...] = ()
    backbone: NDArray[np.float32] = field(
        default_factory=lambda: np.zeros(0, np.float32), repr=False, compare=False
    )
    given: NDArray[np.float32] = field(
        default_factory=lambda: np.zeros(0, np.float32), repr=False, compare=False
    )

    @classmethod
    def build(
        cls,
        settings: ModelSettings,
        inputs: int,
        *,
        local: bool = True,
        backbone: NDArray[np.float32] | None = None,
    ) -> "Model":
        """The model on `inputs` values per sample; without `local` every part that moves is global.

        Raises ValueError that begins with the key of what does not fit.
        """
        layers: list[Layer] = []
        parts: list[Part] = []
        numbers = {SAMPLE: 0}  # of the node's layers, by the name of an experiment's
        shape = Shape(*(settings.shape or (1, 1, inputs)))
        if shape.values != inputs:
            raise ValueError(
                f"model.shape: {shape} are {shape.values} values, a sample of the task has {inputs}"
            )
        ends = {True: 0, False: 0}  # of the backbone, of what moves
        for one, after in zip(settings.layers, settings.shapes(shape), strict=True):
            part = GLOBAL
            if isinstance(one, Join):
                operations = [(OPERATIONS[one.type], (numbers[one.source],))]
            else:
                operations = one.operations(shape)
            if isinstance(one, LayerWithParameters):
                part = FROZEN if one.frozen else LOCAL if local and one.local else GLOBAL
                first = ends[one.frozen]
                weights = one.weights(shape)
                parts.append(Part(len(layers), first, weights, part, one.is_rectified))
                ends[one.frozen] = parts[-1].end
            layers += [Layer(number, part, arguments) for number, arguments in operations]
            if one.name is not None:
                numbers[one.name] = len(layers)
            shape = after
        if len(layers) > MOST_LAYERS:
            raise ValueError(
                f"model.layers: {len(layers)} layers, activations counted, and a node has room for "
                f"{MOST_LAYERS}"
            )
        moving = tuple(part for part in parts if part.part != FROZEN)
        if not moving:
            raise ValueError("model.layers: no layer has parameters, so there is nothing to learn")
        frozen = tuple(part for part in parts if part.part == FROZEN)
        first = settings.first
        if backbone is None and first.backbone:
            backbone = np.frombuffer(first.backbone, "<f4").astype(np.float32)
        if backbone is None:
            backbone = np.zeros(ends[True], np.float32)
        assert backbone.shape == (ends[True],)
        given = np.frombuffer(first.theta, "<f4").astype(np.float32)
        return cls(
            inputs, shape.values, settings.loss, tuple(layers), moving, frozen, backbone, given
        )  # fmt: skip

    @property
    def target_is_class(self) -> bool:
        """Whether a target is the number of a class."""
        return self.loss != "mse"

    @property
    def classes(self) -> int:
        """Classes that the outputs tell apart; one output, below or above zero, two."""
        return max(self.outputs, 2)

    def decided(self, outputs: NDArray[np.float32]) -> NDArray[np.intp]:
        """The classes that a node takes these outputs for, float32 [n, outputs]: int [n]. It is the
        first of the greatest; of a single output, 1 where that is above zero."""
        if self.outputs == 1:
            return (outputs[:, 0] > 0).astype(np.intp)
        return outputs.argmax(axis=1)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return self.parts[-1].end if self.parts else 0

    @property
    def backbone_parameters(self) -> int:
        """Number of parameters that are frozen."""
        return self.backbone_parts[-1].end if self.backbone_parts else 0

    @cached_property
    def frozen_weights(self) -> tuple[int, int]:
        """How many parameters are frozen, and the CRC-32 of their bytes, by which a node whose
        image has them knows them."""
        return len(self.backbone), zlib.crc32(self.backbone.astype("<f4").tobytes())

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
        to the layers before (Kao, Chiu, Chen 2022, arXiv:2106.15367). Weights that are given take
        the place of those drawn.
        """
        rng = np.random.default_rng([seed, 0x_1717])
        theta = np.zeros(self.parameters, dtype=np.float32)
        for part in self.parts:
            if part.layer == len(self.layers) - 1:
                continue
            outputs, inputs = part.weights
            limit = np.sqrt((6 if part.rectified else 3) / inputs)
            b = part.first + outputs * inputs
            theta[part.first : b] = rng.uniform(-limit, limit, outputs * inputs)
            theta[b : part.end] = rng.uniform(-1, 1, outputs) / np.sqrt(inputs)
        theta[: len(self.given)] = self.given
        return theta

    def of_layers(self, theta: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """W row-major, then b, float32, of each layer that has parameters, frozen or not, in the
        order of the layers."""
        vectors = {FROZEN: self.backbone}
        parts = sorted((*self.parts, *self.backbone_parts), key=lambda part: part.layer)
        return [vectors.get(part.part, theta)[part.first : part.end] for part in parts]

    def first_weights(self, vectors: Sequence[NDArray[np.float32]]) -> FirstWeights:
        """vectors: `of_layers` of the first layers, or of all."""
        parts = sorted((*self.parts, *self.backbone_parts), key=lambda part: part.layer)
        found = {True: b"", False: b""}
        for part, vector in zip(parts, vectors, strict=False):
            assert len(vector) == part.end - part.first
            found[part.part == FROZEN] += vector.astype("<f4").tobytes()
        return FirstWeights(found[False], found[True])
