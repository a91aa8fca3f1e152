"""Networks as TensorFlow Lite files, and as ONNX again."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings

import onnx_networks as networks
from predicting import Values, built, by_runtime, predict
from tinymetafed.models import onnx_writer, tflite_runner, tflite_writer
from tinymetafed.models.layers import Shape
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.models.network import Network
from tinymetafed.models.onnx_reader import read

pytest.importorskip("ai_edge_quantizer", reason="the extra tflite is not installed")

NETWORKS = [networks.ds_cnn, networks.mobilenet, networks.windows, networks.resnet]


def taken(data: bytes, shape: Shape | None = None) -> tuple[Network, Model, Values]:
    """A file's network, on samples of that shape where it sees no image."""
    imported = read(data, "f", shape)
    model, theta = built(imported)
    entering = imported.shape or Shape(1, 1, model.inputs)
    shaped = {"layers": imported.layers, "shape": tuple(entering)}
    return (
        Network.of(ModelSettings.model_validate(shaped), model, theta, {"run": "1"}),
        model,
        theta,
    )


@settings(max_examples=60)
@given(networks.images())
def test_any_chain_of_layers(chain: tuple[networks.Builder, Shape]):
    """Of both files that are written: windows have padding of all kinds."""
    net, shape = chain
    network, model, theta = taken(net.model().SerializeToString(), shape)
    inputs = np.random.default_rng(3).normal(size=(3, model.inputs)).astype(np.float32)
    wanted = predict(model, theta, inputs)
    close: dict[str, Any] = {"rtol": 2e-5, "atol": 2e-5 * max(1.0, float(np.abs(wanted).max()))}
    np.testing.assert_allclose(
        tflite_runner.run(tflite_writer.write(network), inputs), wanted, **close
    )
    written = onnx.load_model_from_string(onnx_writer.write(network))
    dims = [dim.dim_value for dim in written.graph.input[0].type.tensor_type.shape.dim[1:]]
    np.testing.assert_allclose(by_runtime(written, inputs.reshape(-1, *dims)), wanted, **close)


@pytest.mark.parametrize("make", NETWORKS)
def test_float_and_eight_bits(make: Callable[[], onnx.ModelProto]):
    network, model, theta = taken(make().SerializeToString())
    data = tflite_writer.write(network)
    inputs = np.random.default_rng(2).normal(size=(16, model.inputs)).astype(np.float32)
    wanted = predict(model, theta, inputs)
    spread = np.ptp(wanted, axis=0).max()
    assert spread > 0.05
    np.testing.assert_allclose(tflite_runner.run(data, inputs), wanted, rtol=2e-5, atol=2e-5)
    eight = tflite_runner.quantised(data, inputs)
    # Eight bits of each layer's values round by 1/255 of their range, over up to ten layers.
    assert np.abs(tflite_runner.run(eight, inputs) - wanted).max() < 0.2 * spread
    for one in (data, eight):
        if (arena := tflite_runner.arena(one)) is not None:
            assert max(step.leaving.values for step in network.steps) < arena < 1 << 16
