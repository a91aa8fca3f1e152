"""TensorFlow Lite out: a network as a flatbuffer of the schema that ai-edge-litert brings.

The layers are few and lie channels last as TensorFlow Lite has them, so each becomes its operator
without a converter in between.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TinyMetaFedError, without_extra
from .layers import (
    SAMPLE,
    AveragePool2d,
    Conv2d,
    Dense,
    DepthwiseConv2d,
    GlobalAveragePool2d,
    Join,
    MaxPool2d,
    Sides,
    Windowed,
)
from .network import Network, Step

SIGNATURE = "serving_default"
LOWEST = np.array([np.finfo(np.float32).min], np.float32)
NO_PADDING = ((0, 0), (0, 0))


def missing(error: ImportError) -> TinyMetaFedError:
    """What to say where the extra is not installed."""
    return without_extra(".tflite", "tflite", error)


def write(network: Network) -> bytes:
    """The file, float32: a sample in, [1, height, width, channels] or [1, values] where no layer
    sees an image; out, [1, outputs], what a node's `predict` gives. Raises TinyMetaFedError."""
    return _Writer(network).file()


class _Writer:
    def __init__(self, network: Network) -> None:
        try:
            import flatbuffers
            from ai_edge_litert import schema_py_generated as schema
        except ImportError as error:
            raise missing(error) from None
        self._flatbuffers: Any = flatbuffers
        self._schema: Any = schema
        self._network = network
        self._codes: list[int] = []
        self._buffers: list[Any] = [schema.BufferT()]
        self._graph: Any = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        shape = network.shape if network.sees_image else (network.shape.values,)
        self._tensors = {SAMPLE: self._tensor(SAMPLE, (1, *shape))}

    def file(self) -> bytes:
        """All layers, packed."""
        for step in self._network.steps:
            self._tensors[step.name] = self._layer(step)
        last = self._tensors[self._network.steps[-1].name]
        last = self._shaped(last, (1, self._network.outputs))
        self._graph.inputs, self._graph.outputs = [self._tensors[SAMPLE]], [last]
        return self._packed(last)

    def _packed(self, last: int) -> bytes:
        schema, model = self._schema, self._schema.ModelT()
        model.version = 3
        about = json.dumps(self._network.metadata)
        model.description = "written by tinymetafed; where it comes from is in its metadata"
        note = schema.MetadataT()
        note.name, note.buffer = (
            "tinymetafed",
            self._buffer(np.frombuffer(about.encode(), np.uint8)),
        )
        model.metadata = [note]
        model.operatorCodes = [self._code(number) for number in self._codes]
        model.subgraphs, model.buffers = [self._graph], self._buffers
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
        signature.inputs = [self._named(SAMPLE, self._tensors[SAMPLE])]
        signature.outputs = [self._named("output", last)]
        model.signatureDefs = [signature]
        builder = self._flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _code(self, number: int) -> Any:
        code = self._schema.OperatorCodeT()
        code.builtinCode, code.version = number, 1
        code.deprecatedBuiltinCode = min(number, 127)
        return code

    def _named(self, name: str, tensor: int) -> Any:
        found = self._schema.TensorMapT()
        found.name, found.tensorIndex = name, tensor
        return found

    def _buffer(self, data: NDArray[np.uint8]) -> int:
        buffer = self._schema.BufferT()
        buffer.data = data
        self._buffers.append(buffer)
        return len(self._buffers) - 1

    def _tensor(self, name: str, shape: Sequence[int], data: NDArray[Any] | None = None) -> int:
        tensor = self._schema.TensorT()
        tensor.name, tensor.shape = name, list(shape)
        tensor.type = self._schema.TensorType.FLOAT32
        tensor.buffer = 0
        if data is not None:
            if data.dtype == np.int32:
                tensor.type = self._schema.TensorType.INT32
            tensor.buffer = self._buffer(np.ascontiguousarray(data).view(np.uint8).ravel())
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _constant(self, name: str, data: NDArray[Any]) -> int:
        return self._tensor(name, data.shape, data)

    def _shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(self._graph.tensors[tensor].shape)

    def _operator(
        self, kind: str, name: str, inputs: Sequence[int], shape: Sequence[int],
        table: str | None = None, **options: Any,
    ) -> int:  # fmt: skip
        """Returns the tensor that comes out. table: of the operator's options."""
        operator = self._schema.OperatorT()
        number = getattr(self._schema.BuiltinOperator, kind)
        if number not in self._codes:
            self._codes.append(number)
        operator.opcodeIndex = self._codes.index(number)
        operator.inputs, operator.outputs = list(inputs), [self._tensor(name, shape)]
        if table is not None:
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, table)
            operator.builtinOptions = getattr(self._schema, f"{table}T")()
            for key, value in options.items():
                assert hasattr(operator.builtinOptions, key)
                setattr(operator.builtinOptions, key, value)
        self._graph.operators.append(operator)
        return operator.outputs[0]

    def _shaped(self, tensor: int, shape: tuple[int, ...]) -> int:
        if self._shape(tensor) == shape:
            return tensor
        name = f"{self._graph.tensors[tensor].name}/shaped"
        lengths = self._constant(f"{name}/shape", np.array(shape, np.int32))
        options = {"newShape": list(shape)}
        return self._operator(
            "RESHAPE", name, [tensor, lengths], shape, "ReshapeOptions", **options
        )

    # ---- layers ----

    def _layer(self, step: Step) -> int:
        layer = step.layer
        if isinstance(layer, Join):
            source = self._tensors[layer.source]
            if layer.type == "route":
                return source
            before = self._shaped(self._tensors[step.before], self._shape(source))
            pair = [before, source]
            return self._operator("ADD", step.name, pair, self._shape(source), "AddOptions")
        entering = (1, *step.entering)
        reads = self._tensors[step.before]
        kind, slope = step.activation
        fused = {"relu": "RELU", "relu6": "RELU6"}.get(kind, "NONE")
        activation = getattr(self._schema.ActivationFunctionType, fused)
        match layer:
            case Dense():
                flat = self._shaped(reads, (1, step.entering.values))
                tensor = self._operator(
                    "FULLY_CONNECTED", step.name, [flat, *self._weights(step)],
                    (1, step.leaving.values), "FullyConnectedOptions",
                    fusedActivationFunction=activation,
                )  # fmt: skip
            case Conv2d() | DepthwiseConv2d():
                tensor = self._convolution(step, self._shaped(reads, entering), activation)
            case MaxPool2d() | AveragePool2d():
                return self._pool(step, self._shaped(reads, entering))
            case GlobalAveragePool2d():
                axes = self._constant(f"{step.name}/axes", np.array([1, 2], np.int32))
                image, shape = self._shaped(reads, entering), (1, *step.leaving)
                options = {"keepDims": True}
                return self._operator(
                    "MEAN", step.name, [image, axes], shape, "ReducerOptions", **options
                )
            case _:
                tensor, fused = reads, "NONE"
        return tensor if fused != "NONE" else self._activated(step, tensor, kind, slope)

    def _activated(self, step: Step, tensor: int, kind: str, slope: float) -> int:
        if kind == "linear":
            return tensor
        name, shape = f"{step.name}/{kind}", self._shape(tensor)
        if kind == "leaky_relu":
            options = {"alpha": slope}
            return self._operator(
                "LEAKY_RELU", name, [tensor], shape, "LeakyReluOptions", **options
            )
        operator = {"sigmoid": "LOGISTIC"}.get(kind, kind.upper())
        return self._operator(operator, name, [tensor], shape)

    def _weights(self, step: Step) -> tuple[int, int]:
        assert step.w is not None
        assert step.b is not None
        w = step.w
        if isinstance(step.layer, DepthwiseConv2d):
            w = np.moveaxis(w, 0, -1)[None]
        return self._constant(f"{step.name}/w", w), self._constant(f"{step.name}/b", step.b)

    def _convolution(self, step: Step, reads: int, activation: int) -> int:
        depthwise = isinstance(step.layer, DepthwiseConv2d)
        reads, options = self._windowed(step, reads, None)
        kind, table = "CONV_2D", "Conv2DOptions"
        options |= {"fusedActivationFunction": activation}
        options |= {"dilationWFactor": 1, "dilationHFactor": 1}
        if depthwise:
            kind, table = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"
            options["depthMultiplier"] = 1
        inputs = [reads, *self._weights(step)]
        return self._operator(kind, step.name, inputs, (1, *step.leaving), table, **options)

    def _pool(self, step: Step, reads: int) -> int:
        layer, window = step.layer, step.window
        lowest = LOWEST if isinstance(layer, MaxPool2d) else None
        counts = isinstance(layer, AveragePool2d) and layer.count_padding
        padded = window.padding != NO_PADDING
        reads, options = self._windowed(step, reads, lowest, explicit=counts and padded)
        options |= {"filterHeight": window.size[0], "filterWidth": window.size[1]}
        kind = "MAX_POOL_2D" if isinstance(layer, MaxPool2d) else "AVERAGE_POOL_2D"
        shape = (1, *step.leaving)
        tensor = self._operator(kind, step.name, [reads], shape, "Pool2DOptions", **options)
        explicit = padded and options["padding"] == self._schema.Padding.VALID
        if kind == "AVERAGE_POOL_2D" and explicit and not counts:
            # The zeros count here: the mean of the others is that much more.
            rows, columns = (
                _inside(*axis) for axis in zip(
                    step.leaving, step.entering, window.size, window.stride, window.padding,
                    strict=False,
                )
            )  # fmt: skip
            inside = np.outer(rows, columns)[None, :, :, None]
            more = (np.prod(window.size) / inside).astype(np.float32)
            factors = self._constant(f"{step.name}/factors", more)
            name = f"{step.name}/inside"
            return self._operator("MUL", name, [tensor, factors], shape, "MulOptions")
        return tensor

    def _windowed(
        self, step: Step, reads: int, fill: NDArray[np.float32] | None, *, explicit: bool = False
    ) -> tuple[int, dict[str, Any]]:
        """What a window reads, and the options that all windows have. TensorFlow Lite knows no
        padding and SAME; all other padding, or where it has to be `explicit`, is an operator."""
        window, schema = step.window, self._schema
        options = {"strideH": window.stride[0], "strideW": window.stride[1]}
        options["padding"] = schema.Padding.VALID
        if window.padding == NO_PADDING:
            return reads, options
        assert isinstance(step.layer, Windowed)
        same = step.layer.model_copy(update={"padding": "same"}).window(step.entering)
        if same.padding == window.padding and not explicit:
            return reads, options | {"padding": schema.Padding.SAME}
        return self._padded(step, reads, window.padding, fill), options

    def _padded(
        self, step: Step, reads: int, sides: Sides, fill: NDArray[np.float32] | None
    ) -> int:
        name = f"{step.name}/padding"
        pads = self._constant(f"{name}/sides", np.array([(0, 0), *sides, (0, 0)], np.int32))
        lengths = [n + sum(axis) for n, axis in zip(step.entering, sides, strict=False)]
        shape = (1, *lengths, step.entering.channels)
        if fill is None:
            return self._operator("PAD", name, [reads, pads], shape, "PadOptions")
        reach = zip(sides, step.window.size, step.entering, strict=False)
        if all(max(axis) <= min(size // 2, length) for axis, size, length in reach):
            # The image mirrored at its edge: a window sees there what it sees in the image as well.
            mode = self._schema.MirrorPadMode.SYMMETRIC
            table = "MirrorPadOptions"
            return self._operator("MIRROR_PAD", name, [reads, pads], shape, table, mode=mode)
        value = self._constant(f"{name}/fill", fill)
        return self._operator("PADV2", name, [reads, pads, value], shape, "PadV2Options")


def _inside(
    places: int, length: int, size: int, stride: int, padding: tuple[int, int]
) -> NDArray[np.int64]:
    """Pixels of the image under each place of a window, one way."""
    first = np.arange(places) * stride - padding[0]
    return np.minimum(first + size, length) - np.maximum(first, 0)
