"""What a host node, and ONNX's own reference, make of a file's network."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from tinymetafed.models.layers import Shape
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.models.onnx_reader import Imported, read
from tinymetafed.nodes.broadcast import Broadcast
from tinymetafed.nodes.host import open_host
from tinymetafed.nodes.node import Node

Values = NDArray[np.float32]


def predict(model: Model, theta: Values, inputs: Values) -> Values:
    """What a host node gives for inputs, float32 [n, inputs]."""

    async def work() -> Values:
        node = Node("node-0", open_host)
        try:
            await node.start()
            await node.load(model, model.description(accumulate=False, capacity=0))
            await node.set_weights(Broadcast(theta, np.ones(len(theta), np.int64), 1))
            return await node.predict(inputs)
        finally:
            await node.close()

    return asyncio.run(work())


def built(imported: Imported) -> tuple[Model, Values]:
    """The model of a file, and its θ."""
    shape = None if imported.shape is None else tuple(imported.shape)
    settings = ModelSettings.model_validate({"layers": imported.layers, "shape": shape})
    return Model.build(settings, len(imported.sample)), np.concatenate(imported.weights)


def by_node(data: bytes, inputs: Values, shape: Shape | None = None) -> Values:
    """What a file's network gives on a host node, in the file's order: inputs as the file has
    them, [n, ...]."""
    imported = read(data, "net.onnx", shape)
    model, theta = built(imported)
    samples = inputs.reshape(len(inputs), -1)[:, imported.sample]
    outputs = predict(model, theta, samples)[:, imported.output.ravel()]
    return outputs.reshape(len(inputs), *imported.output.shape[1:])


def by_reference(model: onnx.ModelProto, inputs: Values) -> Values:
    """The same by onnx.reference, before a softmax at the end."""
    evaluator = ReferenceEvaluator(_without_softmax(model))
    return _each(lambda one: evaluator.run(None, {model.graph.input[0].name: one}), inputs)


def by_runtime(model: onnx.ModelProto, inputs: Values) -> Values:
    """The same by onnxruntime. onnx.reference 1.23 gets pools with padding wrong."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(_without_softmax(model).SerializeToString())
    return _each(lambda one: session.run(None, {model.graph.input[0].name: one}), inputs)


def _each(run: Callable[[Values], Any], inputs: Values) -> Values:
    """A sample at a time."""
    found = [run(inputs[i : i + 1])[0] for i in range(len(inputs))]
    return np.concatenate([np.asarray(one) for one in found])


def _without_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    model = onnx.ModelProto.FromString(model.SerializeToString())
    last = model.graph.node[-1]
    if last.op_type in ("Softmax", "LogSoftmax"):
        model.graph.output[0].name = last.input[0]
        del model.graph.node[-1]
    return model


def inputs_of(model: onnx.ModelProto, count: int = 3, seed: int = 7) -> Values:
    """Random samples as the file's input has them."""
    dims = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    return np.random.default_rng(seed).normal(size=(count, *dims)).astype(np.float32)
