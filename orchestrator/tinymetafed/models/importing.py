"""[model] of an experiment whose layers come from a file: the table with the layers in it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layers import Layer, LayerWithParameters, Shape
from .model import Origin

Vectors = list[NDArray[np.float32]]
"""Of each layer that has parameters W row-major, then b, as in θ."""


def from_file(origin: Origin, table: dict[str, Any], path: Path) -> tuple[dict[str, Any], Vectors]:
    """The table with the file's layers before its own, the shape of a sample and the loss; and the
    file's weights, none where only its layers are wanted.

    Raises TinyMetaFedError that names the file, the node and why; ValueError that begins with the
    key of what does not fit.
    """
    from . import onnx_file, onnx_reader, tflite_reader  # import onnx, which is slow to import

    data = onnx_file.read_bytes(path)
    parse = onnx_file.parse if origin.tflite is None else tflite_reader.parse
    shape = table.get("shape")
    known = Shape(*shape) if isinstance(shape, list | tuple) and len(shape) == 3 else None
    imported = onnx_reader.read_graph(parse(data, str(path)), str(path), known)
    layers = list(imported.layers)
    more = list(table.get("layers", ()))
    found: dict[str, Any] = {}
    if imported.softmax:
        if more:
            raise ValueError("layers: the file ends with a softmax, which no layer can follow")
        found["loss"] = "softmax_cross_entropy"
    elif not more and imported.output.size == 1 and table.get("loss") != "mse":
        layers, stripped = _without_sigmoid(layers)
        if stripped:
            found["loss"] = "binary_cross_entropy"
    if table.get("loss", found.get("loss")) != found.get("loss", table.get("loss")):
        raise ValueError(f"loss: the file ends as {found['loss']} has it; leave it out")
    if imported.shape is not None:
        found["shape"] = tuple(imported.shape)
    vectors = [vector for vector in imported.weights if len(vector)]
    found["layers"] = [*marked(layers, origin), *more]
    found["sha256"] = hashlib.sha256(data).hexdigest()
    found["weights"] = origin.weights or ("file" if origin.from_run is None else "none")
    return table | found, vectors if found["weights"] == "file" else []


def _without_sigmoid(layers: Sequence[Layer]) -> tuple[list[Layer], bool]:
    """Without the last sigmoid, which is the loss's own; whether there was one."""
    *before, last = layers
    if getattr(last, "type", None) == "sigmoid":
        return before, True
    if isinstance(last, LayerWithParameters) and last.activation == "sigmoid":
        return [*before, last.model_copy(update={"activation": "linear"})], True
    return list(layers), False


def marked(layers: Sequence[Layer], origin: Origin) -> list[dict[str, Any]]:
    """The layers as an experiment file has them, local and frozen as told. Raises ValueError."""
    found = [layer.model_dump(mode="json") for layer in layers]
    for key in ("local", "frozen"):
        if (which := getattr(origin, key)) is None:
            continue
        chosen = {_find(layers, one, key) for one in which}
        for i, layer in enumerate(layers):
            if isinstance(layer, LayerWithParameters):
                found[i][key] = i in chosen
    return found


def _find(layers: Sequence[Layer], which: str | int, key: str) -> int:
    trainable = {i: one for i, one in enumerate(layers) if isinstance(one, LayerWithParameters)}
    if which in trainable:
        return int(which)
    for i, layer in trainable.items():
        if layer.name == which:
            return i
    known = ", ".join(f"{i} {one.name!r}" for i, one in trainable.items())
    raise ValueError(f"{key}: no layer {which!r} has parameters; those that have some: {known}")
