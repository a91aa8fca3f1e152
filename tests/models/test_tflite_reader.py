"""TensorFlow Lite files as layers: a node's outputs are those of ai-edge-litert."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import onnx_networks as networks
from predicting import Values, built, predict
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.models import onnx_reader, tflite_reader, tflite_runner, tflite_writer
from tinymetafed.models.layers import Shape
from tinymetafed.models.model import ModelSettings
from tinymetafed.models.network import Network
from tinymetafed.models.onnx_reader import Imported

pytest.importorskip("ai_edge_quantizer", reason="the extra tflite is not installed")

FILES = sorted((Path(__file__).parent / "onnx").glob("*.tflite"))


CHECKED = tflite_reader.found_wrong


@pytest.fixture(autouse=True)
def _looked_at_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process for each of many files takes its time."""

    def found_wrong(data: bytes) -> str | None:
        try:
            tflite_runner._interpreter(data)
        except (ValueError, RuntimeError) as error:
            return " ".join(str(error).split())
        return None

    monkeypatch.setattr(tflite_reader, "found_wrong", found_wrong)


def read(data: bytes, shape: Shape | None = None) -> Imported:
    return onnx_reader.read_graph(tflite_reader.parse(data, "net.tflite"), "net.tflite", shape)


def softmax(values: Values) -> Values:
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_tensorflows_converter_writes(path: Path):
    data = path.read_bytes()
    imported = read(data)
    model, theta = built(imported)
    inputs = np.random.default_rng(4).normal(size=(4, model.inputs)).astype(np.float32)
    assert (imported.sample == np.arange(model.inputs)).all()  # channels last there too
    wanted = tflite_runner.run(data, inputs)
    assert np.ptp(wanted, axis=0).max() > 1e-3
    got = predict(model, theta, inputs)
    got = softmax(got) if imported.softmax else got
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(networks.images())
def test_what_is_written_comes_in_again(chain: tuple[networks.Builder, Shape]):
    """Where padding is not "same" other operators stand for it, which may not come in."""
    net, shape = chain
    first = onnx_reader.read(net.model().SerializeToString(), "f", shape)
    model, theta = built(first)
    shaped = {"layers": first.layers, "shape": tuple(first.shape or shape)}
    network = Network.of(ModelSettings.model_validate(shaped), model, theta, {})
    try:
        again = read(tflite_writer.write(network), first.shape or shape)
    except TinyMetaFedError as error:
        assert "PAD" in str(error) or "MUL" in str(error)  # noqa: PT017
        return
    model_again, theta_again = built(again)
    inputs = np.random.default_rng(5).normal(size=(3, model.inputs)).astype(np.float32)
    wanted = predict(model, theta, inputs)
    close: dict[str, Any] = {"rtol": 2e-5, "atol": 2e-5 * max(1.0, float(np.abs(wanted).max()))}
    np.testing.assert_allclose(predict(model_again, theta_again, inputs), wanted, **close)


def test_eight_bits_do_not_come_in():
    data = FILES[0].read_bytes()
    inputs = np.random.default_rng(6).normal(size=(4, len(read(data).sample))).astype(np.float32)
    with pytest.raises(TinyMetaFedError, match=r"net.tflite: tensor '.*' is INT8; nodes compute"):
        read(tflite_runner.quantised(_ours(data), inputs))


def _ours(data: bytes) -> bytes:
    """The network as we write it, under the names that the quantiser is told."""
    imported = read(data)
    model, theta = built(imported)
    assert imported.shape is not None
    shaped = {"layers": imported.layers, "shape": tuple(imported.shape)}
    return tflite_writer.write(
        Network.of(ModelSettings.model_validate(shaped), model, theta, {"run": "1"})
    )


def test_a_file_is_opened_in_another_process_first(monkeypatch: pytest.MonkeyPatch):
    data = FILES[0].read_bytes()
    assert CHECKED(data) is None
    assert "model" in (CHECKED(data[:100]) or "").lower()
    monkeypatch.setattr(tflite_reader, "CHECK", "import os; os.kill(os.getpid(), 11)")
    assert CHECKED(data) == "it cannot be opened"


def test_bytes_that_are_wrong_are_an_error_or_another_network():
    whole = FILES[0].read_bytes()
    rng = np.random.default_rng(16)
    lines: list[int] = []
    for i in range(300):
        data = np.frombuffer(whole, np.uint8).copy()
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(0, 256)
        kept = data.tobytes()[: rng.integers(len(data)) if i % 10 == 0 else None]
        try:
            read(kept)
        except TinyMetaFedError as error:
            lines.append(len(str(error).splitlines()))
    assert len(lines) > 20
    assert set(lines) == {1}
