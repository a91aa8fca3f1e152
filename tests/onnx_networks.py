"""ONNX graphs for tests, put together an operator at a time; weights are random."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tinymetafed.models.layers import Shape


class Builder:
    """A graph whose newest tensor is `name`, of a shape with a batch of one."""

    def __init__(self, shape: Sequence[int], seed: int = 1, opset: int = 17) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.shape = list(shape)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.name = "input"

    def add(self, kind: str, *inputs: str, **attributes: Any) -> "Builder":
        """A node that reads these tensors, or the newest one."""
        name = f"{kind.lower()}{len(self.nodes)}"
        attributes = {key: value for key, value in attributes.items() if value is not None}
        node = helper.make_node(kind, inputs or (self.name,), [name], name=name, **attributes)
        self.nodes.append(node)
        self.name = name
        return self

    def constant(self, values: NDArray[Any] | np.floating[Any]) -> str:
        """A weight, or a shape."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def random(self, *shape: int, low: float = -0.5, high: float = 0.5) -> str:
        """A weight of that shape."""
        return self.constant(self.rng.uniform(low, high, shape).astype(np.float32))

    def weight(self, outputs: int, *inputs: int) -> str:
        """Weights that keep the variance, as trained ones do: outputs depend on what comes in."""
        limit = (6 / np.prod(inputs)) ** 0.5
        return self.random(outputs, *inputs, low=-limit, high=limit)

    def conv(
        self, channels: int, filters: int, size: Sequence[int], *, depthwise: bool = False,
        bias: bool = True, **attributes: Any,
    ) -> "Builder":  # fmt: skip
        """A convolution of the newest tensor."""
        group_channels = 1 if depthwise else channels
        w = self.weight(filters, group_channels, *size)
        inputs = [self.name, w, *([self.random(filters)] if bias else [])]
        group = channels if depthwise else 1
        return self.add("Conv", *inputs, group=group, **attributes)

    def norm(self, channels: int) -> "Builder":
        """Batch normalisation of the newest tensor."""
        scale, shift, mean = (self.random(channels, low=low) for low in (0.4, -0.5, -0.5))
        variance = self.random(channels, low=0.2, high=0.5)
        return self.add("BatchNormalization", self.name, scale, shift, mean, variance)

    def dense(self, inputs: int, units: int) -> "Builder":
        """Gemm."""
        w, b = self.weight(units, inputs), self.random(units)
        return self.add("Gemm", self.name, w, b, transB=1)

    def model(self, batch: int | str = "batch", kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
        """The model."""
        input_ = helper.make_tensor_value_info("input", kind, [batch, *self.shape])
        output = helper.make_tensor_value_info(self.name, kind, None)
        graph = helper.make_graph(self.nodes, "net", [input_], [output], self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        model = onnx.shape_inference.infer_shapes(model)  # of the output
        if not model.graph.output[0].type.tensor_type.HasField("shape"):
            model.graph.output[0].type.tensor_type.shape.dim.add()
        return model


def ds_cnn() -> onnx.ModelProto:
    """MLPerf Tiny's keyword spotting network on 49 × 10 MFCCs, with fewer channels: a window of
    10 × 4, then depthwise and pointwise ones."""
    net = Builder((1, 49, 10)).conv(1, 16, (10, 4), strides=[2, 2], auto_pad="SAME_UPPER")
    net.norm(16).add("Relu")
    for _ in range(2):
        net.conv(16, 16, (3, 3), depthwise=True, pads=[1, 1, 1, 1], bias=False).norm(16).add("Relu")
        net.conv(16, 16, (1, 1), bias=False).norm(16).add("Relu")
    net.add("AveragePool", kernel_shape=[25, 5]).add("Flatten")
    return net.dense(16, 12).add("Softmax").model()


def mobilenet() -> onnx.ModelProto:
    """Depthwise and pointwise windows over 28 × 28 pixels, ReLU6."""
    net = Builder((1, 28, 28)).conv(1, 8, (3, 3), strides=[2, 2], pads=[0, 0, 1, 1])
    for stride in (1, 2, 1):
        zero, six = (net.constant(np.float32(n)) for n in (0, 6))
        net.add("Clip", net.name, zero, six)
        net.conv(8, 8, (3, 3), depthwise=True, strides=[stride, stride], auto_pad="SAME_LOWER")
        net.norm(8).add("Clip", net.name, zero, six).conv(8, 8, (1, 1), bias=False).norm(8)
    return net.add("GlobalAveragePool").add("Flatten").dense(8, 5).model()


def windows() -> onnx.ModelProto:
    """A 1-D network over 128 × 3 accelerometer values, sigmoid at its end."""
    net = Builder((3, 128)).conv(3, 8, (9,), strides=[2], pads=[4, 3]).add("LeakyRelu", alpha=0.2)
    net.add("MaxPool", kernel_shape=[2], strides=[2]).conv(8, 8, (3,), dilations=[1]).add("Tanh")
    net.add("AveragePool", kernel_shape=[3], strides=[3], pads=[1, 1], count_include_pad=1)
    return net.add("Flatten").dense(8 * 10, 1).add("Sigmoid").model()


def resnet() -> onnx.ModelProto:
    """The first two stages of MLPerf Tiny's ResNet-8, with fewer channels."""
    net = Builder((3, 16, 16)).conv(3, 4, (3, 3), pads=[1, 1, 1, 1]).norm(4).add("Relu")
    channels = 4
    for filters, stride in ((4, 1), (6, 2)):
        before, strides = net.name, [stride, stride]
        net.conv(channels, filters, (3, 3), strides=strides, auto_pad="SAME_UPPER").norm(filters)
        net.add("Relu").conv(filters, filters, (3, 3), pads=[1, 1, 1, 1]).norm(filters)
        body, net.name = net.name, before
        if channels != filters:
            net.conv(channels, filters, (1, 1), strides=strides)
        net.add("Add", net.name, body).add("Relu")
        channels = filters
    axes = net.constant(np.array([2, 3]))
    net.add("ReduceMean", axes=[2, 3], keepdims=0) if net.opset < 18 else net.add(
        "ReduceMean", net.name, axes, keepdims=0
    )
    return net.dense(6, 10).model()


KINDS = st.sampled_from(
    ["conv", "depthwise", "max", "average", "norm", "activation", "leaky", "residual", "affine"]
)


@st.composite
def images(draw: st.DrawFn) -> tuple[Builder, Shape]:
    """Up to five operators that see an image, then a head; and the shape of a sample."""
    height, width, channels = (
        draw(st.integers(low, high)) for low, high in ((4, 9), (4, 9), (1, 3))
    )
    net = Builder(
        (channels, height, width), draw(st.integers(0, 99)), draw(st.sampled_from([13, 17]))
    )
    sample = Shape(height, width, channels)
    if draw(st.booleans()):
        net.shape = [height, width, channels]
        net.add("Transpose", perm=[0, 3, 1, 2])
    for _ in range(draw(st.integers(1, 5))):
        size = [draw(st.integers(1, min(3, n))) for n in (height, width)]
        strides = [draw(st.integers(1, 2)) for _ in size]
        pads = [draw(st.integers(0, n - 1)) for n in (*size, *size)]
        places = [
            (n + pads[i] + pads[i + 2] - size[i]) // strides[i] + 1
            for i, n in enumerate((height, width))
        ]
        window = {"kernel_shape": size, "strides": strides, "pads": pads}
        match draw(KINDS):
            case "conv":
                filters = draw(st.integers(1, 3))
                net.conv(channels, filters, size, strides=strides, pads=pads)
                (height, width), channels = places, filters
            case "depthwise":
                net.conv(channels, channels, size, depthwise=True, strides=strides, pads=pads)
                height, width = places
            case "max":
                net.add("MaxPool", **window)
                height, width = places
            case "average":
                counted = draw(st.integers(0, 1))
                net.add("AveragePool", count_include_pad=counted, **window)
                height, width = places
            case "norm":
                net.norm(channels)
            case "activation":
                net.add(draw(st.sampled_from(["Relu", "Tanh", "Sigmoid"])))
            case "leaky":
                net.add("LeakyRelu", alpha=draw(st.sampled_from([0.01, 0.25])))
            case "residual":
                before = net.name
                net.conv(channels, channels, (1, 1))
                net.add("Add", *draw(st.permutations([before, net.name])))
            case _:
                constant = net.random(channels, 1, 1, low=0.5)
                pair = draw(st.permutations([net.name, constant]))
                net.add(draw(st.sampled_from(["Add", "Mul", "Sub"])), *pair)
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["GlobalAveragePool", "GlobalMaxPool"]))
        net.add(kind).add("Flatten").dense(channels, 3)
    else:
        lengths = net.constant(np.array([0, -1]))
        net.add("Reshape", net.name, lengths).dense(height * width * channels, 4).add(
            "Softmax", axis=1
        )
    return net, sample
