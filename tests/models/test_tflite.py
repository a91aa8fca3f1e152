"""The networks of the field as TensorFlow Lite files."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

import onnx_networks as networks
from predicting import built, predict
from tinymetafed.models import tflite_runner, tflite_writer
from tinymetafed.models.model import ModelSettings
from tinymetafed.models.network import Network
from tinymetafed.models.onnx_reader import read

pytest.importorskip("ai_edge_quantizer", reason="the extra tflite is not installed")

NETWORKS = [networks.ds_cnn, networks.mobilenet, networks.windows, networks.resnet]


@pytest.mark.parametrize("make", NETWORKS)
def test_float_and_eight_bits(make: Callable[[], onnx.ModelProto]):
    imported = read(make().SerializeToString(), "f")
    model, theta = built(imported)
    assert imported.shape is not None
    shaped = {"layers": imported.layers, "shape": tuple(imported.shape)}
    network = Network.of(ModelSettings.model_validate(shaped), model, theta, {"run": "1"})
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
