"""NumPy out: a network's arrays by layer, in an .npz file."""

import io
import json

import numpy as np

from .network import Network


def write(network: Network) -> bytes:
    """The file: of each layer that has weights NAME.weight and NAME.bias, float32, in the shapes of
    network.Step; `layers`, all layers as an experiment file has them, and `metadata`, as JSON."""
    arrays = {}
    for step in network.steps:
        if step.w is not None and step.b is not None:
            arrays |= {f"{step.name}.weight": step.w, f"{step.name}.bias": step.b}
    layers = [
        {"name": step.name, "shape": step.leaving} | step.layer.model_dump(exclude={"name"})
        for step in network.steps
    ]
    about = network.metadata | {"shape": network.shape, "loss": network.loss}
    file = io.BytesIO()
    texts = {"layers": np.array(json.dumps(layers)), "metadata": np.array(json.dumps(about))}
    np.savez(file, allow_pickle=False, **arrays, **texts)
    return file.getvalue()
