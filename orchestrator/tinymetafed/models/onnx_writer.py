"""ONNX out: a network as a graph, channels first inside, samples as the task has them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

from .layers import (
    SAMPLE,
    AveragePool2d,
    Conv2d,
    Dense,
    DepthwiseConv2d,
    GlobalAveragePool2d,
    Join,
    MaxPool2d,
    Shape,
)
from .network import Network, Step

OPSET = 17
"""Operator set: what runtimes of the last years have."""

IR_VERSION = 8
"""Of the file, that goes with it."""


@dataclass(frozen=True)
class _Tensor:
    """image: whether it is batch, channels, height, width; else batch, values channels last."""

    name: str
    shape: Shape
    image: bool


def write(network: Network) -> bytes:
    """The file. Its input is a batch of samples, float32 [batch, height, width, channels], or
    [batch, values] where no layer sees an image; its output, float32 [batch, outputs], is what a
    node's `predict` gives."""
    return _Writer(network).model().SerializeToString()


class _Writer:
    def __init__(self, network: Network) -> None:
        self._network = network
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        first = _Tensor(SAMPLE, network.shape, image=False)
        if network.sees_image:
            first = _Tensor(self._node("Transpose", SAMPLE, perm=[0, 3, 1, 2]), network.shape, True)
        self._tensors = {SAMPLE: first}

    def model(self) -> onnx.ModelProto:
        """The model, checked."""
        network = self._network
        for step in network.steps:
            self._tensors[step.name] = self._layer(step)
        last = self._flat(self._tensors[network.steps[-1].name])
        self._nodes.append(helper.make_node("Identity", [last], ["output"], name="output"))
        dims = list(network.shape) if network.sees_image else [network.shape.values]
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *lengths])
            for name, lengths in ((SAMPLE, dims), ("output", [network.outputs]))
        ]
        graph = helper.make_graph(self._nodes, "tinymetafed", ends[:1], ends[1:], self._weights)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        model.producer_name = "tinymetafed"
        helper.set_model_props(model, network.metadata)
        checker.check_model(model, full_check=True)
        return model

    def _node(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        name = name or f"{inputs[0]}/{kind}"
        taken = {node.name for node in self._nodes}
        while name in taken:  # the same tensor may be moved twice
            name += "_"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _flat(self, tensor: _Tensor) -> str:
        """The tensor as batch, values: channels last."""
        if not tensor.image:
            return tensor.name
        name = tensor.name
        if tensor.shape.channels > 1 and tensor.shape.values > tensor.shape.channels:
            name = self._node("Transpose", name, perm=[0, 2, 3, 1])
        return self._node("Flatten", name)

    def _image(self, tensor: _Tensor) -> str:
        """The tensor as batch, channels, height, width."""
        if tensor.image:
            return tensor.name
        assert tensor.shape.height == tensor.shape.width == 1
        name = f"{tensor.name}/axes"
        axes = name if any(w.name == name for w in self._weights) else None
        axes = axes or self._constant(name, np.array([2, 3]))
        return self._node("Unsqueeze", tensor.name, axes)

    def _layer(self, step: Step) -> _Tensor:
        before, layer = self._tensors[step.before], step.layer
        match layer:
            case Join(type="route"):
                return self._tensors[layer.source]
            case Join():
                source = self._tensors[layer.source]
                if before.image == source.image:
                    pair = before.name, source.name
                else:
                    pair = self._flat(before), self._flat(source)
                image = before.image and source.image
                return _Tensor(self._node("Add", *pair, name=step.name), step.leaving, image)
            case Dense():
                assert step.w is not None
                name = self._weighted(step, "Gemm", self._flat(before), step.w, transB=1)
                image = False
            case Conv2d():
                assert step.w is not None
                w = np.moveaxis(step.w, -1, 1)
                name = self._weighted(step, "Conv", self._image(before), w, **_window(step))
                image = True
            case DepthwiseConv2d():
                assert step.w is not None
                w, group = step.w[:, None], step.entering.channels
                settings = _window(step) | {"group": group}
                name = self._weighted(step, "Conv", self._image(before), w, **settings)
                image = True
            case MaxPool2d() | AveragePool2d() | GlobalAveragePool2d():
                name, image = self._pool(step, self._image(before)), True
            case _:
                name, image = before.name, before.image
        return _Tensor(self._activated(step, name), step.leaving, image)

    def _weighted(
        self, step: Step, kind: str, reads: str, w: NDArray[np.float32], **settings: Any
    ) -> str:
        assert step.b is not None
        w_name = self._constant(f"{step.name}.weight", w)
        b_name = self._constant(f"{step.name}.bias", step.b)
        return self._node(kind, reads, w_name, b_name, name=step.name, **settings)

    def _pool(self, step: Step, reads: str) -> str:
        if isinstance(step.layer, GlobalAveragePool2d):
            return self._node("GlobalAveragePool", reads, name=step.name)
        settings = _window(step)
        if isinstance(step.layer, MaxPool2d):
            return self._node("MaxPool", reads, name=step.name, **settings)
        settings["count_include_pad"] = int(getattr(step.layer, "count_padding", False))
        return self._node("AveragePool", reads, name=step.name, **settings)

    def _activated(self, step: Step, reads: str) -> str:
        kind, slope = step.activation
        own = step.name if reads != step.name else f"{step.name}/{kind}"
        match kind:
            case "relu" | "tanh" | "sigmoid":
                return self._node(kind.title(), reads, name=own)
            case "leaky_relu":
                return self._node("LeakyRelu", reads, name=own, alpha=slope)
            case "relu6":
                limits = [self._constant(f"{own}/{n}", np.array(n, np.float32)) for n in (0, 6)]
                return self._node("Clip", reads, *limits, name=own)
            case _:
                return reads


def _window(step: Step) -> dict[str, Any]:
    size, stride, padding = step.window
    (top, bottom), (left, right) = padding
    return {"kernel_shape": size, "strides": stride, "pads": [top, left, bottom, right]}
