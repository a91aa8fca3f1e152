"""What a node computes, so that it can be differentiated: a model's loss, and whole programs of
inner steps, in numpy by way of HIPS autograd (https://github.com/HIPS/autograd).

All arrays are float64 and have an axis in front, for attacks on several nodes at once.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import autograd
import autograd.numpy
import numpy as np
import scipy.sparse
from autograd.extend import defvjp, primitive
from numpy.typing import NDArray

from ..errors import TinyMetaFedError
from ..models.layers import OPERATIONS, Shape, Window
from ..models.model import Model
from ..nodes.program import Program, Select, Send, Store, Train

np_: Any = autograd.numpy
grad: Any = autograd.grad

Array = NDArray[np.float64]
Weights = list[Array]
"""W [nodes, outputs, inputs] and b [nodes, outputs] of each layer that moves."""

KINDS = {number: kind for kind, number in OPERATIONS.items()}
LOWEST = -1e30  # in place of the padding of a pool whose largest value counts


class Learnt(NamedTuple):
    """Samples of nodes: inputs [nodes, n, inputs]; targets [nodes, n, outputs], of classes their
    probabilities."""

    inputs: Array
    targets: Array


@primitive
def _gather(matrix: Any, x: Array) -> Array:
    """matrix @ x of a sparse matrix: [rows, columns] and [columns, n]."""
    return matrix @ x


defvjp(_gather, lambda _, matrix, x: lambda g: _gather(matrix.T.tocsr(), g), argnums=(1,))


class Windows:
    """The values under a window at all its places.

    Attributes:
        inside: bool [places, pixels], false for padding.
    """

    def __init__(self, arguments: Sequence[int], values: int) -> None:
        """arguments: of firmware/protocol.cddl. values: that enter."""
        height, width, size, stride, padding = arguments[:5]
        self.shape = Shape(height, width, values // (height * width))
        top, bottom, left, right = padding.to_bytes(4, "little")
        lengths = [(one & 255, one >> 8) for one in (size, stride)]
        window = Window(lengths[0], lengths[1], ((top, bottom), (left, right)))
        rows, columns = window.places(self.shape)
        y = np.arange(rows)[:, None, None, None] * window.stride[0] - top
        x = np.arange(columns)[:, None, None] * window.stride[1] - left
        y = y + np.arange(window.size[0])[:, None]
        x = x + np.arange(window.size[1])
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        self.places, self.pixels = rows * columns, window.size[0] * window.size[1]
        self.inside = inside.reshape(self.places, self.pixels)
        [rows_of] = np.nonzero(inside.ravel())
        pixels = (y * width + x).ravel()[rows_of]
        self._matrix = scipy.sparse.csr_matrix(
            (np.ones(len(rows_of)), (rows_of, pixels)), (inside.size, height * width)
        )

    def of(self, x: Array) -> Array:
        """Of [nodes, n, values]: [nodes, n, places, pixels, channels]."""
        nodes, n, _ = x.shape
        height, width, channels = self.shape
        pixels = np_.transpose(x.reshape(nodes * n, height * width, channels), (1, 0, 2))
        seen = _gather(self._matrix, pixels.reshape(height * width, -1))
        seen = np_.transpose(seen.reshape(-1, nodes * n, channels), (1, 0, 2))
        return seen.reshape(nodes, n, self.places, self.pixels, channels)


def _activation(kind: str, arguments: Sequence[int], x: Array) -> Array:
    match kind:
        case "relu":
            return x * (x > 0)
        case "relu6":
            return x * (x > 0) * (x < 6) + 6.0 * (x >= 6)
        case "leaky_relu":
            slope = float(np.uint32(arguments[0]).view(np.float32))
            return x * np.where(_plain(x) > 0, 1.0, slope)
        case "sigmoid":
            return 0.5 * (np_.tanh(0.5 * x) + 1.0)
        case _:
            assert kind == "tanh"
            return np_.tanh(x)


def _plain(x: Any) -> Array:
    """The value without what autograd knows of it."""
    while hasattr(x, "_value"):
        x = x._value
    return x


class Differentiable:
    """A model as its nodes have it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._moving = {part.layer: 2 * i for i, part in enumerate(model.parts)}
        self._backbone: dict[int, tuple[Array, Array]] = {}
        for part in model.backbone_parts:
            vector = model.backbone[part.first : part.end].astype(np.float64)
            w, b = self._cut(vector[None], part.weights)
            self._backbone[part.layer] = w, b
        self._windows: dict[int, Windows] = {}

    @staticmethod
    def _cut(vector: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
        outputs, inputs = shape
        w = vector[:, : outputs * inputs].reshape(-1, outputs, inputs)
        return w, vector[:, outputs * inputs :]

    def weights(self, theta: Array) -> Weights:
        """Of θ, [nodes, parameters]."""
        found: Weights = []
        for part in self.model.parts:
            found += self._cut(theta[:, part.first : part.end], part.weights)
        return found

    def vector(self, weights: Weights) -> Array:
        """θ of weights, [nodes, parameters]."""
        return np_.concatenate([one.reshape(len(one), -1) for one in weights], axis=1)

    def outputs(self, weights: Weights, inputs: Array) -> Array:
        """[nodes, n, outputs] of inputs [nodes, n, values]."""
        values = [inputs]
        for i, layer in enumerate(self.model.layers):
            kind, arguments, x = KINDS[layer.operation], layer.arguments, values[-1]
            match kind:
                case "add":
                    y = x + values[arguments[0]]
                case "route":
                    y = values[arguments[0]]
                case "dense":
                    w, b = self._parameters(weights, i)
                    y = np_.matmul(x, np_.swapaxes(w, 1, 2)) + b[:, None]
                case "conv2d" | "depthwise_conv2d":
                    y = self._convolution(kind, *self._parameters(weights, i), i, x)
                case "max_pool2d" | "average_pool2d":
                    y = self._pool(kind, i, x)
                case _:
                    y = _activation(kind, arguments, x)
            values.append(y)
        return values[-1]

    def _parameters(self, weights: Weights, layer: int) -> tuple[Array, Array]:
        if layer in self._backbone:
            return self._backbone[layer]
        at = self._moving[layer]
        return weights[at], weights[at + 1]

    def _seen(self, layer: int, x: Array) -> tuple[Windows, Array]:
        if layer not in self._windows:
            self._windows[layer] = Windows(self.model.layers[layer].arguments, x.shape[2])
        windows = self._windows[layer]
        return windows, windows.of(x)

    def _convolution(self, kind: str, w: Array, b: Array, layer: int, x: Array) -> Array:
        windows, seen = self._seen(layer, x)
        nodes, n = x.shape[:2]
        if kind == "conv2d":
            flat = seen.reshape(nodes, n * windows.places, -1)
            y = np_.matmul(flat, np_.swapaxes(w, 1, 2)) + b[:, None]
        else:
            by_pixel = np_.swapaxes(w, 1, 2)[:, None, None]
            y = np_.sum(seen * by_pixel, axis=3) + b[:, None, None]
        return y.reshape(nodes, n, -1)

    def _pool(self, kind: str, layer: int, x: Array) -> Array:
        windows, seen = self._seen(layer, x)
        if kind == "max_pool2d":
            y = np_.max(seen + np.where(windows.inside, 0.0, LOWEST)[:, :, None], axis=3)
        else:
            counts_padding = self.model.layers[layer].arguments[5]
            counted = windows.pixels if counts_padding else windows.inside.sum(axis=1)[:, None]
            y = np_.sum(seen, axis=3) / counted
        return y.reshape(*x.shape[:2], -1)

    def loss(self, weights: Weights, samples: Learnt) -> Array:
        """The mean over the samples, summed over the nodes."""
        y, wanted = self.outputs(weights, samples.inputs), samples.targets
        n = y.shape[1]
        match self.model.loss:
            case "mse":
                return np_.sum((y - wanted) ** 2) / (n * y.shape[2])
            case "binary_cross_entropy":
                above = y * (y > 0)
                magnitude = y * np.where(_plain(y) > 0, 1.0, -1.0)
                return np_.sum(above - y * wanted + np_.log1p(np_.exp(-magnitude))) / n
            case _:
                below = y - np.max(_plain(y), axis=2, keepdims=True)
                logarithms = below - np_.log(np_.sum(np_.exp(below), axis=2, keepdims=True))
                return -np_.sum(wanted * logarithms) / n

    def learn(
        self, program: Program, weights: Weights, support: Learnt | None, query: Learnt
    ) -> Weights:
        """What the program makes of the weights. Raises TinyMetaFedError, see check."""
        check(program)
        stored = query
        sets = {"support": support, "query": query}
        gradient: Callable[..., Weights] = grad(self.loss)
        for one in program:
            if isinstance(one, Store):
                stored = _there(sets[one.samples])
            elif isinstance(one, Train):
                known = stored if one.samples == "stored" else sets[one.samples]
                moves = [not one.frozen >> part.layer & 1 for part in self.model.parts]
                for batch in _batches(one, _there(known)):
                    moved = gradient(weights, batch)
                    weights = [
                        w - one.rate * g if moves[i // 2] else w
                        for i, (w, g) in enumerate(zip(weights, moved, strict=True))
                    ]
        return weights


def _there(samples: Learnt | None) -> Learnt:
    assert samples is not None
    return samples


def _batches(train: Train, samples: Learnt) -> Iterator[Learnt]:
    """The samples of each step."""
    count = samples.inputs.shape[1]
    if train.part is not None:
        first, end = train.part[0], min(train.part[1], count)
        samples = Learnt(samples.inputs[:, first:end], samples.targets[:, first:end])
        count = max(0, end - first)
    passes = [list(range(count))] * train.epochs
    if train.steps is not None:
        passes = [[i % count for i in range(train.steps)]]
    for one in passes:
        for i in range(0, len(one), train.batch):
            chosen = one[i : i + train.batch]
            yield Learnt(samples.inputs[:, chosen], samples.targets[:, chosen])


def check(program: Program) -> None:
    """Raises TinyMetaFedError where the attack does not know what the program does."""
    for one in program:
        simple = isinstance(one, Store | Select | Send) or (
            isinstance(one, Train) and not (one.proximal or one.from_mark or one.corrected)
        )
        if not simple:
            raise TinyMetaFedError(
                f"strategy.name: the attack does not follow {_name(one)}; it knows plain inner "
                "steps, as of tinymetafed, tinyreptile, reptile, fedavg, fedper and fedrep"
            )


def _name(one: object) -> str:
    if isinstance(one, Train):
        settings = {"proximal": one.proximal, "from_mark": one.from_mark}
        return "steps with " + next((key for key, on in settings.items() if on), "corrected")
    return type(one).__name__
