"""A model: the experiment's layers, the node's description of them, the first weights."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from .link.messages import Layer, Load
from .settings import Settings

LOSSES = {"mse": 0, "softmax_cross_entropy": 1}  # numbers of firmware/protocol.cddl
OPERATIONS = {"dense": 1, "relu": 2, "tanh": 3}


class Dense(Settings):
    """y = activation(W x + b)"""

    type: Literal["dense"] = "dense"
    units: Annotated[int, Field(ge=1, le=65535)]
    activation: Literal["relu", "tanh", "linear"] = "linear"
    local: bool = False  # a part of the model that never leaves the node


class ModelSettings(Settings):
    """[model] of an experiment file."""

    layers: Annotated[tuple[Dense, ...], Field(min_length=1, max_length=16)]
    loss: Literal["mse", "softmax_cross_entropy"] = "mse"


@dataclass(frozen=True)
class Part:
    """The parameters of one layer of the node's description."""

    layer: int  # index into the description, which has activations as layers of their own
    first: int  # index of the first parameter in the model's vector
    weights: tuple[int, int]  # shape: outputs, inputs
    local: bool

    @property
    def end(self) -> int:
        """Index after the last parameter."""
        return self.first + self.weights[0] * (self.weights[1] + 1)


@dataclass(frozen=True)
class Model:
    """A model for a task.

    The parameter vector θ is float32 [parameters]: for every dense layer W row-major (outputs ×
    inputs), then b (outputs).
    """

    inputs: int
    outputs: int
    loss: str
    layers: tuple[Layer, ...]
    parts: tuple[Part, ...]

    @classmethod
    def build(cls, settings: ModelSettings, inputs: int, *, local: bool = True) -> "Model":
        """The model on `inputs` values per sample; without `local` every part is global."""
        layers: list[Layer] = []
        parts: list[Part] = []
        values, first = inputs, 0
        for dense in settings.layers:
            is_local = local and dense.local
            part = Part(len(layers), first, (dense.units, values), is_local)
            parts.append(part)
            layers.append(Layer(OPERATIONS["dense"], is_local, (dense.units,)))
            if dense.activation != "linear":
                layers.append(Layer(OPERATIONS[dense.activation], is_local, ()))
            values, first = dense.units, part.end
        return cls(inputs, values, settings.loss, tuple(layers), tuple(parts))

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return self.parts[-1].end

    @property
    def global_mask(self) -> NDArray[np.bool_]:
        """bool [parameters]: true for the global part."""
        mask = np.ones(self.parameters, dtype=np.bool_)
        for part in self.parts:
            mask[part.first : part.end] = not part.local
        return mask

    @property
    def global_runs(self) -> list[tuple[int, int]]:
        """The global part as (first, end) of its longest runs, ascending."""
        edges = np.flatnonzero(np.diff(self.global_mask, prepend=False, append=False))
        return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]

    def frozen(self, *, local: bool) -> int:
        """The mask that freezes the local part, or else the global part: bit i for layer i."""
        return sum(1 << part.layer for part in self.parts if part.local == local)

    def description(self, *, accumulate: bool, capacity: int) -> Load:
        """What the node is told; see `load` in firmware/protocol.cddl."""
        return Load(self.inputs, LOSSES[self.loss], accumulate, capacity, self.layers)

    def initial(self, seed: int) -> NDArray[np.float32]:
        """float32 [parameters]: W uniform in ±√(6 / (inputs + outputs)) (Glorot & Bengio 2010,
        equation 16), b zero."""
        rng = np.random.default_rng([seed, 0x_1717])
        theta = np.zeros(self.parameters, dtype=np.float32)
        for part in self.parts:
            outputs, inputs = part.weights
            limit = np.sqrt(6 / (inputs + outputs))
            theta[part.first :][: outputs * inputs] = rng.uniform(-limit, limit, outputs * inputs)
        return theta
