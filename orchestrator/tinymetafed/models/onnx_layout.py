"""ONNX operators that move values about and compute nothing: on the array that says where each is.

A tensor of the graph is an array, its batch of one included, of indices into the outputs of the
layer that gives it. So a transposed or reshaped tensor is the transposed or reshaped array, and
whatever an exporter writes between two layers comes down to one permutation.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from .layers import Shape
from .onnx_file import FLOAT, NotALayer, Operation

Array = NDArray[Any]
Order = NDArray[np.int32]

MOST_VALUES = 1 << 20
"""Of a layer: 4 MiB of a node's memory."""

COMPUTED = {
    "Add", "Sub", "Mul", "Div", "Cast", "Concat", "Gather", "Slice", "ReduceProd", "Equal", "Where",
    "ConstantOfShape",
}  # fmt: skip
"""Operators by which exporters work out a shape from the batch's size."""

MOST_COMPUTED = 64
"""Values of what they read and give: shapes, no weights."""


def _axes(operation: Operation, constants: Sequence[Array | None]) -> tuple[int, ...] | None:
    """An attribute, or from operator set 13 on the second input."""
    given = operation.attributes.get("axes")
    if given is None and len(constants) > 1 and constants[1] is not None:
        given = constants[1].ravel()
    return None if given is None else tuple(int(axis) for axis in given)


def _reshaped(operation: Operation, array: Array, constants: Sequence[Array | None]) -> Array:
    given = operation.attributes.get("shape")
    if len(constants) > 1:
        given = None if constants[1] is None else constants[1].ravel()
    if given is None:
        raise NotALayer("its shape is no constant")
    shape = [int(length) for length in given]
    if not operation.attributes.get("allowzero"):
        shape = [array.shape[i] if n == 0 and i < array.ndim else n for i, n in enumerate(shape)]
    return array.reshape(shape)


def _flattened(operation: Operation, array: Array, constants: Sequence[Array | None]) -> Array:
    axis = operation.attributes.get("axis", 1)
    axis += array.ndim if axis < 0 else 0
    return array.reshape(int(np.prod(array.shape[:axis])), -1)


def _transposed(operation: Operation, array: Array, constants: Sequence[Array | None]) -> Array:
    return array.transpose(operation.attributes.get("perm"))


def _squeezed(operation: Operation, array: Array, constants: Sequence[Array | None]) -> Array:
    return array.squeeze(_axes(operation, constants))


def _unsqueezed(operation: Operation, array: Array, constants: Sequence[Array | None]) -> Array:
    axes = _axes(operation, constants)
    if axes is None:
        raise NotALayer("its axes are no constant")
    return np.expand_dims(array, axes)


def _same(operation: Operation, array: Array, constants: Sequence[Array | None]) -> Array:
    if len(constants) > 2 and constants[2] is not None and constants[2].any():
        raise NotALayer("it is in training mode; export the model for inference")
    return array


def _cast(operation: Operation, array: Array, constants: Sequence[Array | None]) -> Array:
    if operation.attributes["to"] != FLOAT:
        raise NotALayer("it casts to another kind; nodes compute in float32")
    return array


MOVES: dict[str, Callable[[Operation, Array, Sequence[Array | None]], Array]] = {
    "Reshape": _reshaped, "Flatten": _flattened, "Transpose": _transposed, "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed, "Identity": _same, "Dropout": _same, "Cast": _cast,
}  # fmt: skip
"""What becomes of the first input, by operator; the other inputs are constants."""


def constant(operation: Operation) -> Array:
    """The value of a Constant. Raises NotALayer."""
    for key, value in operation.attributes.items():
        if key == "value":
            return value
        if key in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if key in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
    raise NotALayer("it is no array of numbers")


def _node(operation: Operation, names: Sequence[str]) -> onnx.NodeProto:
    given = operation.attributes.items()
    attributes: dict[str, Any] = {
        key: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for key, value in given
    }
    return onnx.helper.make_node(operation.kind, names, ["y"], **attributes)


def computed(operation: Operation, arrays: Sequence[Array], opset: int) -> Array:
    """What the graph works out of small constants. Raises NotALayer."""
    sizes = [one.size for one in arrays]
    if operation.kind == "ConstantOfShape":
        sizes.append(math.prod(map(int, arrays[0].ravel())))
    if max(sizes) > MOST_COMPUTED:
        raise NotALayer("it works on constants, and is no layer; fold the constants on export")
    names = [f"x{i}" for i in range(len(arrays))]
    node = _node(operation, names)
    evaluator = ReferenceEvaluator(node, opsets={"": opset})
    try:
        (result,) = evaluator.run(None, dict(zip(names, arrays, strict=True)))  # type: ignore[misc]
    except Exception as error:  # whatever the operator's implementation says to such constants
        raise NotALayer(f"it cannot be worked out: {error}") from None
    result = np.asarray(result)
    if result.size > MOST_COMPUTED:
        raise NotALayer("it works on constants, and is no layer; fold the constants on export")
    return result


def image_shape(order: Array) -> Shape:
    """Of a tensor that has channels first: batch, channels, and height and width, or a length
    alone. Raises NotALayer."""
    if order.ndim not in (3, 4) or order.shape[0] != 1:
        raise NotALayer(f"its input has {order.ndim - 2} axes besides; it can have 1 or 2")
    height = order.shape[2] if order.ndim == 4 else 1
    return Shape(height, order.shape[-1], order.shape[1])


def channels_last(order: Array) -> Array:
    """The same values pixel by pixel, a pixel's channels together."""
    return np.moveaxis(order[0], 0, -1).ravel()


def channels_first(shape: Shape, ndim: int) -> Order:
    """Of what a layer gives: batch, channels, and height and width, or the width alone."""
    if shape.values > MOST_VALUES:
        raise NotALayer(f"it gives {shape} values; {MOST_VALUES} are the limit")
    order = np.arange(shape.values, dtype=np.int32).reshape(shape).transpose(2, 0, 1)
    return order[None, :, 0] if ndim == 3 else order[None]
