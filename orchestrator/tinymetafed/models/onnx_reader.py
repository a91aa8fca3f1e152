"""ONNX in: a file's graph as layers, channels last, with its weights."""

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ..errors import TinyMetaFedError
from . import onnx_file
from .layers import Layer, Shape
from .model import MOST_LAYERS
from .onnx_chain import Chain, Inputs, Value, ascends, is_activated, vector
from .onnx_file import Graph, NotALayer, Operation
from .onnx_layout import (
    COMPUTED,
    MOST_VALUES,
    MOVES,
    Array,
    Order,
    channels_last,
    computed,
    constant,
)
from .onnx_operators import OPERATORS
from .onnx_sample import sample_order

UNMOVED = {"Transpose", "Identity", "Dropout"}
"""Operators that leave padding where it is, around the image."""


@dataclass(frozen=True)
class Imported:
    """What a file comes to.

    shape: of a sample; None where no layer sees it as an image. weights: of each layer W row-major,
    then b, float32, as in θ; empty where it has none. softmax: whether one ends the file; it is no
    layer, because it goes into the loss. sample: index into the file's input of each value of a
    sample. output: index into the last layer's outputs of each value of the file's output, in its
    shape.
    """

    layers: tuple[Layer, ...]
    shape: Shape | None
    weights: tuple[NDArray[np.float32], ...]
    softmax: bool
    sample: Order
    output: Order


def read(data: bytes, origin: str, shape: Shape | None = None) -> Imported:
    """The layers of a file. shape: of a sample, where the file does not say which axis has the
    channels. Raises TinyMetaFedError that names `origin`, the node, its operator and why."""
    return read_graph(onnx_file.parse(data, origin), origin, shape)


def read_graph(graph: Graph, origin: str, shape: Shape | None = None) -> Imported:
    """The same of a graph, wherever it is from."""
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused in the end
            return _Reader(graph, shape).read()
    except NotALayer as error:
        raise TinyMetaFedError(f"{origin}: {error}") from None


class _Reader(Chain):
    """The layers so far, and what every tensor of the graph is of them."""

    def __init__(self, graph: Graph, shape: Shape | None) -> None:
        if math.prod(graph.shape) > MOST_VALUES:
            raise NotALayer(f"input {graph.input!r} has more than {MOST_VALUES} values")
        self._needed = _needed(graph)
        super().__init__(graph, *sample_order(graph, self._needed, shape))
        self._readers = Counter(name for one in self._needed for name in one.inputs)
        self._readers[graph.output] += 1
        order = np.empty(len(self.sample), np.int32)
        order[self.sample] = np.arange(len(order), dtype=np.int32)
        first = Value(0, order.reshape(graph.shape), self._readers[graph.input] == 1)
        self._known: dict[str, Value | Array] = {**graph.constants, graph.input: first}

    def read(self) -> Imported:
        """Every operation in turn. Raises NotALayer."""
        for operation in self._needed:
            try:
                self._apply(operation)
            except ValidationError as error:  # of a layer's settings
                detail = error.errors()[0]
                reason = f"{'.'.join(map(str, detail['loc'][:1]))}: {detail['msg']}"
                raise NotALayer(f"{operation}: {reason}") from None
            except (NotALayer, ValueError, TypeError, LookupError) as error:
                reason = " ".join(str(error).split())
                raise NotALayer(f"{operation}: {reason}") from None
        name = self.graph.output
        last = self._known.get(name)
        if not isinstance(last, Value) or last.source != len(self.entries) or not self.entries:
            raise NotALayer(f"output {name!r}: no layer of the input gives it")
        if last.padding is not None:
            raise NotALayer(f"output {name!r}: padding that no window is behind")
        return self._imported(last)

    def _imported(self, last: Value) -> Imported:
        count = sum(1 + is_activated(one.layer) for one in self.entries)
        if count > MOST_LAYERS:
            raise NotALayer(
                f"{count} layers, activations counted, and a node has room for {MOST_LAYERS}"
            )
        if not any(one.weights for one in self.entries):
            raise NotALayer("no layer has parameters, so there is nothing to learn")
        order = last.order
        if not (ascends(order.ravel()) or (order.ndim > 2 and ascends(channels_last(order)))):
            raise NotALayer(
                f"output {self.graph.output!r}: the last layer gives {self.entries[-1].shape} "
                "values, channels last, and the file has them in another order"
            )
        weights = tuple(vector(one.weights) for one in self.entries)
        layers = tuple(one.layer for one in self.entries)
        return Imported(layers, self.shape, weights, last.softmax, self.sample, order)

    def _apply(self, operation: Operation) -> None:
        for name in operation.outputs[1:]:
            if name and self._readers[name]:
                raise NotALayer(f"its output {name!r} is read; only the first one can be")
        inputs = [self._known.get(name) if name else None for name in operation.inputs]
        result = self._result(operation, inputs)
        name = operation.outputs[0]
        if isinstance(result, Value):
            result = replace(result, alone=result.alone and self._readers[name] == 1)
        self._known[name] = result
        for one in operation.inputs:  # what nobody reads any more is forgotten
            self._readers[one] -= 1
            if self._readers[one] == 0:
                self._known.pop(one, None)

    def _result(self, operation: Operation, inputs: Inputs) -> Value | Array:
        kind = operation.kind
        if kind == "Constant":
            return constant(operation)
        arrays = [one if isinstance(one, np.ndarray) else None for one in inputs]
        constants = [one for one in arrays if one is not None]
        if kind in COMPUTED and constants and len(constants) == len(inputs):
            return computed(operation, constants, self.graph.opset)
        first = inputs[0] if inputs else None
        if kind in MOVES and isinstance(first, np.ndarray):
            return MOVES[kind](operation, first, arrays)
        if kind in MOVES and isinstance(first, Value):
            if first.padding is not None and kind not in UNMOVED:
                raise NotALayer("it moves padding that no window is behind")
            return replace(first, order=MOVES[kind](operation, first.order, arrays))
        if kind == "Shape" and isinstance(first, Value) and first.padding is None:
            found = np.asarray(first.order.shape, np.int64)
            return found[operation.attributes.get("start", 0) : operation.attributes.get("end")]
        if any(isinstance(one, Value) and one.softmax for one in inputs):
            raise NotALayer("it reads a softmax, which can only be at the end: the loss has it")
        if kind not in OPERATORS:
            raise NotALayer(_why_not(kind))
        return OPERATORS[kind](self, operation, inputs)


def _needed(graph: Graph) -> list[Operation]:
    """Operations that the output depends on: a branch's one behind the other, as a chain of layers
    has them. Raises NotALayer."""
    makers = {name: i for i, one in enumerate(graph.operations) for name in one.outputs if name}
    order: dict[int, None] = {}
    stack = [graph.output]
    while stack:
        i = makers.get(stack[-1])
        if i is None or i in order:
            stack.pop()
            continue
        operation = graph.operations[i]
        before = [name for name in operation.inputs if name in makers]
        before = [name for name in before if makers[name] not in order]
        if any(makers[name] >= i for name in before):
            raise NotALayer(f"{operation}: it reads what depends on it")
        if before:
            stack += reversed(before)
        else:
            order[i] = None
    return [graph.operations[i] for i in order]


def _why_not(kind: str) -> str:
    if any(one in kind.lower() for one in ("qlinear", "quantize", "integer")):
        return "the model is quantised, and nodes compute in float32; export it before that"
    return "no layer of a node computes this"
