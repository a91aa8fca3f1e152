"""TensorFlow Lite in: a float32 file as the graph that it would be in ONNX.

Windows of TensorFlow Lite have channels last, those of ONNX first: a transposition stands before
and behind each, which costs nothing, see onnx_layout.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TinyMetaFedError
from .onnx_file import MOST_NODES, Graph, NotALayer, Operation
from .tflite_writer import missing

CHECK = """
import sys
from ai_edge_litert.interpreter import Interpreter, OpResolverType
kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
Interpreter(model_content=sys.stdin.buffer.read(), experimental_op_resolver_type=kind)
"""

OPSET = 17
"""ONNX operator set whose attributes the operations have."""

SIMPLE = {
    "ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "RELU": "Relu", "TANH": "Tanh",
    "LOGISTIC": "Sigmoid", "TRANSPOSE": "Transpose", "EXPAND_DIMS": "Unsqueeze",
    "RESHAPE": "Reshape",
}  # fmt: skip
"""Operators that are one operation of ONNX, by the latter's name."""

ACTIVATIONS = {"NONE": None, "RELU": "Relu", "RELU6": "Clip", "TANH": "Tanh"}


def parse(data: bytes, origin: str) -> Graph:
    """The graph in a file. Raises TinyMetaFedError that names `origin`, the node and why."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise missing(error) from None
    if (reason := found_wrong(data)) is not None:
        raise TinyMetaFedError(f"{origin}: not a sound TensorFlow Lite model: {reason}")
    try:
        return _Parser(schema, schema.ModelT.InitFromPackedBuf(data, 0)).graph()
    except NotALayer as error:
        raise TinyMetaFedError(f"{origin}: {error}") from None
    except (AttributeError, LookupError, TypeError, ValueError):  # an operator's options, or inputs
        raise TinyMetaFedError(f"{origin}: not a sound TensorFlow Lite model") from None


def found_wrong(data: bytes) -> str | None:
    """What ai-edge-litert finds wrong with a file. It looks at all offsets and lengths, which the
    schema's own reader trusts; in a process of its own, since there are files that it dies of."""
    ended = subprocess.run([sys.executable, "-c", CHECK], input=data, capture_output=True)
    if ended.returncode == 0:
        return None
    said = ended.stderr.decode(errors="replace").strip().splitlines() or ["it cannot be opened"]
    return said[-1][:200] if ended.returncode > 0 else "it cannot be opened"


class _Parser:
    def __init__(self, schema: Any, model: Any) -> None:
        if len(model.subgraphs) != 1:
            raise NotALayer(f"{len(model.subgraphs)} graphs; a node has one")
        self._schema, self._model = schema, model
        (self._graph,) = model.subgraphs
        self._constants: dict[str, NDArray[Any]] = {}
        self._kinds = _names(schema.BuiltinOperator)
        self._activations = _names(schema.ActivationFunctionType)

    def graph(self) -> Graph:
        """All operators. Raises NotALayer."""
        graph = self._graph
        for what, some in (("inputs", graph.inputs), ("outputs", graph.outputs)):
            if len(some) != 1:
                raise NotALayer(f"{len(some)} {what}; a node has one")
        if len(graph.operators) > MOST_NODES:
            raise NotALayer(f"{len(graph.operators)} nodes; {MOST_NODES} are the limit")
        for i, tensor in enumerate(graph.tensors):
            self._tensor(i, tensor)
        entering = graph.tensors[graph.inputs[0]]
        shape = tuple(int(n) for n in (entering.shape if entering.shape is not None else ()))
        if len(shape) < 2 or shape[0] != 1 or min(shape) < 1:
            raise NotALayer(f"input of the shape {list(shape)}; a batch of one is possible")
        operations = tuple(one for each in graph.operators for one in self._operations(each))
        ends = _name(graph.inputs[0]), _name(graph.outputs[0])
        return Graph(OPSET, ends[0], shape, ends[1], operations, self._constants)

    def _tensor(self, i: int, tensor: Any) -> None:
        kinds = self._schema.TensorType
        called = _text(tensor.name)
        if tensor.type not in (kinds.FLOAT32, kinds.INT32, kinds.INT64, kinds.BOOL):
            kind = _names(kinds).get(tensor.type, tensor.type)
            raise NotALayer(f"tensor {called!r} is {kind}; nodes compute in float32")
        data = self._model.buffers[tensor.buffer].data
        if data is None or not len(data):
            return
        number = {kinds.FLOAT32: "<f4", kinds.INT32: "<i4", kinds.INT64: "<i8"}.get(
            tensor.type, "?"
        )
        values = np.frombuffer(np.asarray(data, np.uint8).tobytes(), number)
        shape = [] if tensor.shape is None else [int(n) for n in tensor.shape]
        if values.size != np.prod(shape) or not np.isfinite(values).all():
            raise NotALayer(
                f"tensor {called!r} has not the values that its shape says, or no finite"
            )
        self._constants[_name(i)] = values.reshape(shape)

    def _operations(self, operator: Any) -> Iterator[Operation]:
        code = self._model.operatorCodes[operator.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        kind: str = self._kinds.get(number, str(number))
        out = int(operator.outputs[0])
        called = _text(self._graph.tensors[out].name)
        make = _Maker(called, _name(out))
        inputs = [_name(i) if i >= 0 else "" for i in map(int, operator.inputs)]
        options = operator.builtinOptions
        activation = self._activations.get(getattr(options, "fusedActivationFunction", 0), "?")
        if activation not in ACTIVATIONS:
            raise NotALayer(f"node {called!r} ({kind}): the activation {activation}")
        last = ACTIVATIONS[activation]
        found = list(self._own(make, kind, inputs, options))
        if last is not None:
            attributes = {"min": 0.0, "max": 6.0} if last == "Clip" else {}
            found.append(make(last, [found[-1].outputs[0]], **attributes))
        yield from found[:-1]
        yield make.last(found[-1])

    def _own(
        self, make: "_Maker", kind: str, inputs: list[str], options: Any
    ) -> Iterator[Operation]:
        """Without the activation."""
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D"):
            yield from self._window(make, kind, inputs, options)
        elif kind == "FULLY_CONNECTED":
            flat = make("Flatten", inputs[:1], axis=1)
            yield flat
            yield make("Gemm", [flat.outputs[0], *inputs[1:]], transB=1)
        elif kind in SIMPLE:
            attributes: dict[str, Any] = {}
            if kind == "TRANSPOSE":
                attributes["perm"] = self._given(inputs[1]).tolist()
                inputs = inputs[:1]
            elif kind == "RESHAPE":  # whatever the graph works out: here it is known
                shape = self._graph.tensors[int(make.out[1:])].shape
                attributes["shape"] = [int(n) for n in shape]
                inputs = inputs[:1]
            yield make(SIMPLE[kind], inputs, **attributes)
        elif kind == "RELU6":
            yield make("Clip", inputs, min=0.0, max=6.0)
        elif kind == "LEAKY_RELU":
            yield make("LeakyRelu", inputs, alpha=float(options.alpha))
        elif kind in ("SOFTMAX", "LOG_SOFTMAX"):
            yield make("Softmax", inputs, axis=-1)
        elif kind == "MEAN":
            axes = self._given(inputs[1]).ravel().tolist()
            yield make("ReduceMean", inputs[:1], axes=axes, keepdims=int(options.keepDims))
        elif kind == "SQUEEZE":
            axes = options.squeezeDims
            chosen = {} if axes is None or not len(axes) else {"axes": [int(n) for n in axes]}
            yield make("Squeeze", inputs, **chosen)
        elif kind in ("PAD", "PADV2"):
            sides = self._given(inputs[1])
            fill = float(self._given(inputs[2]).item()) if kind == "PADV2" else 0.0
            yield make("Pad", inputs[:1], pads=sides.T.ravel().tolist(), value=fill)
        else:
            yield make(kind, inputs)  # may be the work of nobody, as what computes a shape

    def _window(
        self, make: "_Maker", kind: str, inputs: list[str], options: Any
    ) -> Iterator[Operation]:
        same = options.padding == self._schema.Padding.SAME
        attributes: dict[str, Any] = {
            "strides": [options.strideH, options.strideW],
            "auto_pad": b"SAME_UPPER" if same else b"VALID",
        }
        first = make("Transpose", inputs[:1], perm=[0, 3, 1, 2])
        yield first
        reads = [first.outputs[0]]
        if kind.endswith("POOL_2D"):
            attributes["kernel_shape"] = [options.filterHeight, options.filterWidth]
            own = "MaxPool" if kind == "MAX_POOL_2D" else "AveragePool"
        else:
            w, own = self._given(inputs[1]), "Conv"
            attributes["dilations"] = [options.dilationHFactor, options.dilationWFactor]
            if kind == "CONV_2D":
                w = w.transpose(0, 3, 1, 2)
            else:
                w = w.transpose(3, 0, 1, 2)
                attributes["group"] = len(w) // max(1, options.depthMultiplier)
            name = f"{inputs[1]}/{make.out}"
            self._constants[name] = w
            reads += [name, *inputs[2:]]
        middle = make(own, reads, **attributes)
        yield middle
        yield make("Transpose", [middle.outputs[0]], perm=[0, 2, 3, 1])

    def _given(self, name: str) -> NDArray[Any]:
        if name not in self._constants:
            raise NotALayer("an input that is no constant where one has to be")
        return self._constants[name]


class _Maker:
    """Operations that an operator becomes, under its name."""

    def __init__(self, called: str, out: str) -> None:
        self._called, self.out = called, out
        self._count = 0

    def __call__(self, kind: str, inputs: Sequence[str], **attributes: Any) -> Operation:
        self._count += 1
        name = f"{self.out}/{self._count}"
        return Operation(self._called, kind, tuple(inputs), (name,), attributes)

    def last(self, operation: Operation) -> Operation:
        """The one that gives what the operator does."""
        own = operation.name, operation.kind, operation.inputs
        return Operation(*own, (self.out,), operation.attributes)


def _name(tensor: int) -> str:
    return f"t{tensor}"


def _text(name: Any) -> str:
    """A tensor's name; the converter joins those of what it has fused."""
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name or "")
    return text.partition(";")[0] or "unnamed"


def _names(kinds: Any) -> dict[int, str]:
    return {number: name for name, number in vars(kinds).items() if isinstance(number, int)}
