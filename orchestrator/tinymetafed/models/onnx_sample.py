"""How a sample's values lie in the input of an ONNX graph."""

from collections.abc import Sequence

import numpy as np

from .layers import Shape
from .onnx_file import Graph, NotALayer, Operation
from .onnx_layout import MOVES, Array, Order, channels_last, constant, image_shape

SEES_AN_IMAGE = {
    "Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization",
}  # fmt: skip
"""Operators that have the channels on the second axis."""


def sample_order(
    graph: Graph, operations: Sequence[Operation], given: Shape | None
) -> tuple[Shape | None, Order]:
    """The shape of a sample, None where nothing sees it as an image; and index into the input of
    each of its values, which lie channels last.

    given: the shape, where the file does not say which axis has the channels. Raises NotALayer.
    """
    found = _first_image(graph, operations)
    if found is not None:
        shape, order = found
        if given is not None and given != shape:
            raise NotALayer(f"input {graph.input!r}: model.shape is {given}, the file's {shape}")
        return shape, order.astype(np.int32)
    every = np.arange(np.prod(graph.shape), dtype=np.int32).reshape(graph.shape)
    lengths = [length for length in graph.shape if length > 1]
    if len(graph.shape) > 4:
        return None, every.ravel()  # who reads it says that it cannot
    if len(lengths) < 2 or (len(graph.shape) == 4 and 1 in graph.shape[1::2]):
        return given, every.ravel()
    return given, _as_given(graph, every, given)


def _as_given(graph: Graph, every: Array, given: Shape | None) -> Order:
    """Channels first, or last, as the shape says."""
    dims = graph.shape[1:]
    first = (1,) * (3 - len(dims)) + (*dims[1:], dims[0])
    last = (1,) * (3 - len(dims)) + dims
    if given is None or first == last or given not in (first, last):
        one, other = (list(shape) for shape in (last, first))
        raise NotALayer(
            f"input {graph.input!r}: nothing says how a sample lies in {_text(dims)} values; set "
            f"model.shape to {one} or, where the channels come first, to {other}"
        )
    return every.ravel() if given == last else channels_last(every).astype(np.int32)


def _text(dims: Sequence[int]) -> str:
    return " × ".join(map(str, dims))


def _first_image(graph: Graph, operations: Sequence[Operation]) -> tuple[Shape, Array] | None:
    """The input as the first operation has it that sees an image, however it was moved before."""
    constants = dict(graph.constants)
    size = int(np.prod(graph.shape))
    orders: dict[str, Array] = {graph.input: np.arange(size).reshape(graph.shape)}
    for one in operations:
        if one.kind == "Constant":
            constants[one.outputs[0]] = constant(one)
        order = orders.get(one.inputs[0] if one.inputs else "")
        if order is None:
            continue
        if one.kind in SEES_AN_IMAGE and order.ndim in (3, 4):
            return image_shape(order), channels_last(order)
        if one.kind == "MatMul" and order.ndim in (3, 4) and order[0, ..., 0].size > 1:
            return Shape(*(1,) * (4 - order.ndim), *order.shape[1:]), order.ravel()
        if one.kind in MOVES:
            try:
                others = [constants.get(name) for name in one.inputs[1:]]
                orders[one.outputs[0]] = MOVES[one.kind](one, order, [None, *others])
            except (NotALayer, ValueError, TypeError):
                continue  # whoever applies it says why
        elif one.kind not in ("Gemm", "MatMul"):
            orders[one.outputs[0]] = order
    return None
