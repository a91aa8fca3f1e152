"""An ONNX file as a graph: opened with care, because the file may come from anywhere."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import checker, inliner, numpy_helper

from ..errors import TinyMetaFedError

LARGEST = 64 << 20
"""Bytes of a file: four times the flash of the largest Cortex-M boards."""

MOST_NODES = 2000
"""Of a graph, with those of its functions."""

OLDEST = 7
"""Operator set before which operators have other attributes."""

FLOAT = onnx.TensorProto.FLOAT
READABLE = {FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL}
"""Kinds of constants that the layers need: weights, shapes, switches."""


class NotALayer(Exception):
    """Why a node of the graph cannot be a layer of ours."""


@dataclass(frozen=True)
class Operation:
    """A node of the graph. inputs: names, "" where one is left out."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.kind})"


@dataclass(frozen=True)
class Graph:
    """A graph with one input and one output, its operations sorted so that none comes before what
    it reads.

    shape: of the input, a batch of one. constants: by name.
    """

    opset: int
    input: str
    shape: tuple[int, ...]
    output: str
    operations: tuple[Operation, ...]
    constants: dict[str, NDArray[Any]]


def read_bytes(path: Path) -> bytes:
    """The file's bytes. Raises TinyMetaFedError where it cannot be read, or is too large."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise TinyMetaFedError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > LARGEST:
        raise TinyMetaFedError(f"{path}: more than {LARGEST >> 20} MiB; no node has room for it")
    return data


def parse(data: bytes, origin: str) -> Graph:
    """The graph in a file. Raises TinyMetaFedError that names `origin`, the node and why."""
    try:
        return _graph(_checked(data))
    except NotALayer as error:
        raise TinyMetaFedError(f"{origin}: {error}") from None
    except (ValueError, TypeError, OverflowError) as error:  # of onnx, on what its checker lets by
        raise TinyMetaFedError(f"{origin}: not a sound ONNX model: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())[:300]


def _checked(data: bytes) -> onnx.ModelProto:
    """The model. Raises NotALayer."""
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        raise NotALayer("not an ONNX file, or truncated") from None
    if not model.graph.node:
        raise NotALayer("not an ONNX file, or it has no graph")
    known = onnx.defs.onnx_opset_version()
    for one in model.opset_import:
        if one.domain in ("", "ai.onnx") and not OLDEST <= one.version <= known:
            raise NotALayer(
                f"operator set {one.version}; {OLDEST} to {known} can be read, so export it with "
                "another"
            )
    _check_tensors(model)
    _check_size(model)
    try:
        checker.check_model(model)
        return inliner.inline_local_functions(model) if model.functions else model
    except (checker.ValidationError, RuntimeError) as error:
        raise NotALayer(f"not a sound ONNX model: {_one_line(error)}") from None


def _check_tensors(model: onnx.ModelProto) -> None:
    """Refuses what is not in the file: the checker would look for it beside the project."""
    if model.graph.sparse_initializer:
        raise NotALayer("sparse weights; export them dense")
    for one in model.graph.initializer:
        if one.data_location == onnx.TensorProto.EXTERNAL or one.external_data:
            raise NotALayer(
                f"weights {one.name!r} are in another file; save the model with the data in it"
            )


def _check_size(model: onnx.ModelProto) -> None:
    """Counts the nodes before functions take the places of their calls: these may be nested."""
    functions = {(one.domain, one.name): one for one in model.functions}
    known: dict[tuple[str, str], int] = {}

    def size(nodes: Sequence[onnx.NodeProto], depth: int) -> int:
        if depth > 20:
            raise NotALayer("functions within functions, more than 20 deep")
        total = 0
        for node in nodes:
            key = node.domain, node.op_type
            if key not in functions:
                total += 1
                continue
            if key not in known:
                known[key] = size(functions[key].node, depth + 1)
            total += known[key]
        return total

    if (total := size(model.graph.node, 0)) > MOST_NODES:
        raise NotALayer(f"{total} nodes; {MOST_NODES} are the limit")


def _graph(model: onnx.ModelProto) -> Graph:
    graph = model.graph
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    constants = {one.name: array(one) for one in graph.initializer}
    inputs = [one for one in graph.input if one.name not in constants]
    for what, some in (("inputs", inputs), ("outputs", graph.output)):
        if len(some) != 1:
            names = ", ".join(one.name for one in some)
            raise NotALayer(f"{len(some)} {what} ({names}); a node has one")
    operations = tuple(_operations(graph.node))
    name = graph.output[0].name
    return Graph(opset, inputs[0].name, _shape(inputs[0]), name, operations, constants)


def _operations(nodes: Sequence[onnx.NodeProto]) -> Iterator[Operation]:
    for i, node in enumerate(nodes):
        name = node.name or next(filter(None, node.output), f"{node.op_type}_{i}")
        kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        attributes: dict[str, Any] = {}
        for one in node.attribute:
            if one.type == onnx.AttributeProto.TENSOR:
                attributes[one.name] = array(one.t)
            elif one.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
                raise NotALayer(f"node {name!r} ({kind}): branches and loops cannot be layers")
            else:
                attributes[one.name] = onnx.helper.get_attribute_value(one)
        yield Operation(name, kind, tuple(node.input), tuple(node.output), attributes)


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    kind = value.type.tensor_type
    if kind.elem_type != FLOAT:
        name = _type_name(kind.elem_type)
        raise NotALayer(f"input {value.name!r} is {name}; nodes compute in float32")
    if not kind.HasField("shape") or len(kind.shape.dim) < 2:
        raise NotALayer(f"input {value.name!r}: its shape is not known, or has no batch and values")
    batch, *dims = kind.shape.dim
    if batch.HasField("dim_value") and batch.dim_value not in (1, -1):
        raise NotALayer(
            f"input {value.name!r}: a batch of {batch.dim_value}; export it with a batch of 1 or a "
            "symbolic one"
        )
    for i, dim in enumerate(dims, 1):
        if not dim.HasField("dim_value") or dim.dim_value < 1:
            called = f" ({dim.dim_param})" if dim.dim_param else ""
            raise NotALayer(
                f"input {value.name!r}: dimension {i}{called} is dynamic; only the batch may be"
            )
    return 1, *(dim.dim_value for dim in dims)


def _type_name(number: int) -> str:
    names = {value: name for name, value in onnx.TensorProto.DataType.items()}
    return names.get(number, f"of type {number}")


def array(tensor: onnx.TensorProto) -> NDArray[Any]:
    """A constant. Raises NotALayer."""
    name = tensor.name or "a constant"
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise NotALayer(f"{name} is in another file; save the model with the data in it")
    if tensor.data_type not in READABLE:
        kind = _type_name(tensor.data_type)
        raise NotALayer(f"{name} is {kind}; nodes compute in float32")
    if math.prod(tensor.dims) > LARGEST:
        raise NotALayer(f"{name} has more values than the file")
    values = numpy_helper.to_array(tensor)
    if values.dtype == np.float32 and not np.isfinite(values).all() and values.size > 1:
        raise NotALayer(f"{name} has values that are not finite")
    return values
