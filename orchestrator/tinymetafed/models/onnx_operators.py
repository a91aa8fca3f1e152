"""What ONNX operators come to: a function for each kind, which adds to the layers so far.

Each takes the operation and its inputs, values of the graph or constants, and returns what its
first output is. Each raises NotALayer, or ValueError where a layer does not fit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layers import (
    AveragePool2d,
    Conv2d,
    Dense,
    DepthwiseConv2d,
    GlobalAveragePool2d,
    Join,
    Kind,
    MaxPool2d,
    Sides,
)
from .onnx_chain import (
    Chain,
    Inputs,
    Value,
    ascends,
    bias_of,
    constant_of,
    data_of,
    either_of,
)
from .onnx_file import NotALayer, Operation
from .onnx_layout import Array
from .onnx_windows import window


def _convolve(chain: Chain, operation: Operation, inputs: Inputs) -> Value:
    value, w = data_of(inputs), constant_of(inputs, 1, "its weights are")
    if value.padding is not None and value.fill != 0.0:
        raise NotALayer(f"padding of {value.fill:g}; only zeros are possible")
    shape = chain.image(value)
    filters, channels, *size = w.shape
    group = operation.attributes.get("group", 1)
    if len(size) != value.order.ndim - 2 or channels * group != shape.channels:
        raise NotALayer(f"weights {list(w.shape)} do not fit {shape.channels} channels")
    both, stride, padding = window(operation, size, shape, value.padding)
    settings: dict[str, Any] = {"size": both, "stride": stride, "padding": padding}
    b = bias_of(inputs, 2, filters)
    if group == 1:
        rows = np.moveaxis(w, 1, -1).reshape(filters, -1).astype(np.float64)
        number = chain.add(
            operation, value, Conv2d, (rows, b), type="conv2d", filters=filters, **settings
        )
    elif channels == 1 and filters == group:
        rows = w.reshape(filters, -1).astype(np.float64)
        settings["type"] = "depthwise_conv2d"
        number = chain.add(operation, value, DepthwiseConv2d, (rows, b), **settings)
    else:
        raise NotALayer(
            f"{group} groups for {shape.channels} channels and {filters} filters; one group, or "
            "a filter for each channel, are possible"
        )
    return chain.newest(number, value.order.ndim)


def _dense(
    chain: Chain,
    operation: Operation,
    value: Value,
    rows: NDArray[np.float64],
    b: NDArray[np.float64],
) -> Value:
    """rows: (outputs, inputs), inputs in the order of the value."""
    order = value.order.ravel()
    w = np.empty_like(rows)
    w[:, order] = rows
    number = chain.add(operation, value, Dense, (w, b), type="dense", units=len(rows))
    shape = (*value.order.shape[:-1], len(rows))
    return Value(number, np.arange(len(rows), dtype=np.int32).reshape(shape))


def _gemm(chain: Chain, operation: Operation, inputs: Inputs) -> Value:
    value, w = data_of(inputs), constant_of(inputs, 1, "its weights are")
    if operation.attributes.get("transA") or value.order.ndim != 2 or value.order.shape[0] != 1:
        raise NotALayer("its first input is no row of values for each sample")
    rows = w if operation.attributes.get("transB") else w.T
    if rows.ndim != 2 or rows.shape[1] != value.order.size:
        raise NotALayer(f"weights {list(w.shape)} do not fit {value.order.size} values")
    b = bias_of(inputs, 2, len(rows)) * operation.attributes.get("beta", 1.0)
    scaled = rows.astype(np.float64) * operation.attributes.get("alpha", 1.0)
    return _dense(chain, operation, value, scaled, b)


def _matmul(chain: Chain, operation: Operation, inputs: Inputs) -> Value:
    value, w = data_of(inputs), constant_of(inputs, 1, "its second input is")
    if w.ndim != 2 or w.shape[0] != value.order.shape[-1]:
        raise NotALayer(f"weights {list(w.shape)} do not fit {list(value.order.shape)}")
    rows, b = w.T.astype(np.float64), np.zeros(w.shape[1])
    if value.order.size == w.shape[0]:
        return _dense(chain, operation, value, rows, b)
    # The same weights at every place, as a convolution of 1 × 1 has them.
    shape = chain.shape_of(value.source)
    if shape.channels != w.shape[0] or not ascends(value.order.ravel()):
        raise NotALayer(f"it sees {list(value.order.shape)} where {shape} values come in")
    settings: dict[str, Any] = {"type": "conv2d", "filters": len(rows), "size": 1}
    number = chain.add(operation, value, Conv2d, (rows, b), **settings)
    found = np.arange(chain.entries[-1].shape.values, dtype=np.int32)
    return Value(number, found.reshape(*value.order.shape[:-1], len(rows)))


def _normalise(chain: Chain, operation: Operation, inputs: Inputs) -> Value:
    value = data_of(inputs)
    if operation.attributes.get("training_mode") or not operation.attributes.get("spatial", 1):
        raise NotALayer("it is in training mode; export the model for inference")
    names = ("scale", "B", "mean", "variance")
    found = [constant_of(inputs, i, f"its {name} is") for i, name in enumerate(names, 1)]
    gain, shift, mean, variance = (one.astype(np.float64) for one in found)
    variance = variance + operation.attributes.get("epsilon", 1e-5)
    if not (variance > 0).all():
        raise NotALayer("its variance is not above zero")
    scale = gain / np.sqrt(variance)
    lengths = (1, -1, *(1,) * (value.order.ndim - 2))
    both = (one.reshape(lengths) for one in (scale, shift - mean * scale))
    return chain.affine(operation, value, *(chain.by_channel(value, one) for one in both))


def _leaky(chain: Chain, operation: Operation, inputs: Inputs) -> Value:
    slope = operation.attributes.get("alpha", 0.01)
    if slope == 0:
        return chain.activate(operation, data_of(inputs), "relu")
    slope = 0.01 if np.float32(slope) == np.float32(0.01) else slope
    return chain.activate(operation, data_of(inputs), "leaky_relu", slope)


def _clip(chain: Chain, operation: Operation, inputs: Inputs) -> Value:
    limits: list[float] = []
    for i, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), 1):
        given = operation.attributes.get(name, default)
        if len(inputs) > i and inputs[i] is not None:
            given = constant_of(inputs, i, f"its {name} is").item()
        limits.append(float(given))
    return _between(chain, operation, data_of(inputs), *limits)


def _between(chain: Chain, operation: Operation, value: Value, low: float, high: float) -> Value:
    low = 0.0 if value.positive and low <= 0 else low
    largest = float(np.finfo(np.float32).max)
    if (low, high) == (0.0, 6.0):
        return chain.activate(operation, value, "relu6")
    if low == 0.0 and high >= largest:
        return chain.activate(operation, value, "relu")
    if low <= -largest and high >= largest:
        return value
    raise NotALayer(f"values between {low:g} and {high:g}; 0 to 6, or from 0 on, are possible")


def _limit(chain: Chain, operation: Operation, inputs: Inputs) -> Value:
    value, limit = either_of(inputs)
    if isinstance(limit, Value) or limit.size != 1:
        raise NotALayer("two inputs; one number beside the input is possible")
    low, high = -math.inf, math.inf
    if operation.kind == "Max":
        low = float(limit.item())
    else:
        high = float(limit.item())
    return _between(chain, operation, value, low, high)


def _softmax(chain: Chain, operation: Operation, inputs: Inputs) -> Value:
    value = data_of(inputs)
    shape = value.order.shape
    older = chain.graph.opset < 13
    axis = operation.attributes.get("axis", 1 if older else -1)
    if (math.prod(shape[axis:]) if older else shape[axis]) != value.order.size:
        raise NotALayer(f"it is over axis {axis} of {list(shape)}, and not over all classes")
    return replace(value, softmax=True)


def _combine(chain: Chain, operation: Operation, inputs: Inputs) -> Value:
    value, other = either_of(inputs)
    if not isinstance(other, Value):
        return _with_constant(chain, operation, inputs, value, other)
    if operation.kind != "Add":
        raise NotALayer("of two inputs that are no constants; only sums are possible")
    if value.order.shape != other.order.shape or not np.array_equal(value.order, other.order):
        raise NotALayer("its inputs lie in other orders, or one is repeated")
    if other.padding is not None:
        raise NotALayer("it reads padding; only a convolution or a pool can")
    if other.source == len(chain.entries):
        value, other = other, value
    settings: dict[str, Any] = {"type": "add", "source": chain.name_of(other.source)}
    return Value(chain.add(operation, value, Join, **settings), value.order)


def _with_constant(
    chain: Chain, operation: Operation, inputs: Inputs, value: Value, given: Array
) -> Value:
    constant = chain.by_channel(value, given)
    scale, shift = np.ones_like(constant), np.zeros_like(constant)
    reverse = inputs[0] is not value
    match operation.kind:
        case "Add":
            shift = constant
        case "Mul":
            scale = constant
        case "Sub":
            scale, shift = (-scale, constant) if reverse else (scale, -constant)
        case "Div" if not reverse and constant.all():
            scale = 1 / constant
        case _:
            raise NotALayer("it divides by zero, or by what comes in")
    return chain.affine(operation, value, scale, shift)


def _pool(chain: Chain, operation: Operation, inputs: Inputs) -> Value:
    value = data_of(inputs)
    shape = chain.image(value)
    size = operation.attributes["kernel_shape"]
    both, stride, padding = window(operation, size, shape, value.padding)
    settings: dict[str, Any] = {"size": both, "stride": stride, "padding": padding}
    if operation.kind == "MaxPool":
        zeros = value.fill == 0.0 and value.positive
        if value.padding is not None and not zeros and value.fill > -1e38:
            raise NotALayer(f"a Pad of {value.fill:g}, which may be the largest value")
        number = chain.add(operation, value, MaxPool2d, type="max_pool2d", **settings)
    else:
        counts = bool(operation.attributes.get("count_include_pad"))
        if value.padding is not None:
            if value.fill != 0.0 or (padding != value.padding and not counts):
                raise NotALayer("a Pad of other than zeros, or padding of both kinds")
            counts = True
        settings |= {"type": "average_pool2d", "count_padding": counts}
        number = chain.add(operation, value, AveragePool2d, **settings)
    return replace(chain.newest(number, value.order.ndim), positive=value.positive)


def _largest(chain: Chain, operation: Operation, inputs: Inputs) -> Value:
    value = data_of(inputs)
    shape = chain.image(value)
    settings: dict[str, Any] = {"type": "max_pool2d", "size": shape[:2], "stride": (1, 1)}
    number = chain.add(operation, value, MaxPool2d, **settings)
    return replace(chain.newest(number, value.order.ndim), positive=value.positive)


def _mean(chain: Chain, operation: Operation, inputs: Inputs) -> Value:
    """Over all pixels, whichever axes of the graph's tensor they lie on."""
    value = data_of(inputs)
    axes, keeps = tuple(range(2, value.order.ndim)), True
    if operation.kind == "ReduceMean":
        given = operation.attributes.get("axes")
        if len(inputs) > 1 and inputs[1] is not None:
            given = constant_of(inputs, 1, "its axes are").ravel()
        if given is None:
            raise NotALayer("a mean of all values; one of a channel's pixels is possible")
        axes = tuple(int(axis) % value.order.ndim for axis in given)
        keeps = bool(operation.attributes.get("keepdims", 1))
    shape = chain.shape_of(value.source)
    rest = [axis for axis in range(value.order.ndim) if axis not in axes]
    channels = value.order.transpose(*rest, *axes).reshape(-1, shape.height * shape.width)
    channels = channels % shape.channels
    if len(channels) != shape.channels or (channels != channels[:, :1]).any():
        raise NotALayer(f"a mean over axes {list(axes)}, which are not a channel's pixels")
    number = chain.add(operation, value, GlobalAveragePool2d, type="global_average_pool2d")
    lengths = [1 if axis in axes else n for axis, n in enumerate(value.order.shape)]
    lengths = lengths if keeps else [value.order.shape[axis] for axis in rest]
    order = channels[:, 0].reshape(lengths)
    return Value(number, order, positive=value.positive)


def _pad(chain: Chain, operation: Operation, inputs: Inputs) -> Value:
    value = data_of(inputs)
    attributes = operation.attributes
    mode = attributes.get("mode", b"constant").decode()
    pads = attributes.get("pads")
    fill = attributes.get("value", 0.0)
    if len(inputs) > 1:
        pads = constant_of(inputs, 1, "its pads are").ravel()
    if len(inputs) > 2 and inputs[2] is not None:
        fill = constant_of(inputs, 2, "its value is").item()
    ndim = value.order.ndim
    axes = range(ndim)
    if len(inputs) > 3 and inputs[3] is not None:
        axes = [int(axis) % ndim for axis in constant_of(inputs, 3, "its axes are").ravel()]
    if mode != "constant" or pads is None or value.padding is not None:
        raise NotALayer(f"mode {mode}, or one behind another; zeros once are possible")
    sides = [(0, 0)] * ndim
    for i, axis in enumerate(axes):
        sides[axis] = int(pads[i]), int(pads[i + len(axes)])
    if not any(map(any, sides)):
        return value
    return replace(value, padding=_around(chain, value, sides), fill=float(fill))


def _around(chain: Chain, value: Value, sides: Sequence[tuple[int, int]]) -> Sides:
    """The padding of the image by that of the tensor's axes, which may have channels last."""
    shape = chain.shape_of(value.source)
    steps = [shape.width * shape.channels, shape.channels]
    found = [(0, 0), (0, 0)]
    for axis, both in enumerate(sides):
        if not any(both):
            continue
        step = int(np.diff(value.order.take([0, 1], axis), axis=axis).ravel()[0])
        if min(both) < 0 or value.order.shape[axis] < 2 or step not in steps:
            raise NotALayer(f"pads {list(both)} on axis {axis}, which is none of the image's")
        found[steps.index(step)] = both
    return found[0], found[1]


def _activation(kind: Kind) -> Callable[[Chain, Operation, Inputs], Value]:
    return lambda chain, operation, inputs: chain.activate(operation, data_of(inputs), kind)


OPERATORS: dict[str, Callable[[Chain, Operation, Inputs], Value]] = {
    "Conv": _convolve, "Gemm": _gemm, "MatMul": _matmul,
    "BatchNormalization": _normalise, "Add": _combine, "Sub": _combine,
    "Mul": _combine, "Div": _combine, "Relu": _activation("relu"),
    "Tanh": _activation("tanh"), "Sigmoid": _activation("sigmoid"), "LeakyRelu": _leaky,
    "Clip": _clip, "Min": _limit, "Max": _limit,
    "Softmax": _softmax, "LogSoftmax": _softmax, "MaxPool": _pool,
    "AveragePool": _pool, "GlobalAveragePool": _mean, "ReduceMean": _mean,
    "GlobalMaxPool": _largest, "Pad": _pad,
}  # fmt: skip
"""Layers by operator; see onnx_layout for those that only move values, or work out shapes."""
