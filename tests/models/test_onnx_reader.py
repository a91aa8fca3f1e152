"""ONNX files as layers: a node's outputs are those of ONNX's reference."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings

import onnx_networks as networks
from onnx_networks import Builder
from predicting import built, by_node, by_reference, by_runtime, inputs_of
from tinymetafed.models.layers import Shape
from tinymetafed.models.onnx_reader import read

FILES = sorted((Path(__file__).parent / "onnx").glob("*.onnx"))


def assert_close(got: np.ndarray, wanted: np.ndarray) -> None:
    """Within float32 rounding: sums of at most a few hundred products of values near 1, in another
    order; folded normalisation rounds once more. 2^-23 × 200 is 2.4e-5."""
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_exporters_write(path: Path):
    model = onnx.load(path)
    inputs = inputs_of(model)
    wanted = by_reference(model, inputs)
    assert np.ptp(wanted, axis=0).max() > 1e-3  # it does depend on the inputs
    assert_close(by_node(path.read_bytes(), inputs), wanted)


@pytest.mark.parametrize(
    "make", [networks.ds_cnn, networks.mobilenet, networks.windows, networks.resnet]
)
def test_the_networks_of_the_field(make: Callable[[], onnx.ModelProto]):
    model = make()
    inputs = inputs_of(model)
    got = by_node(model.SerializeToString(), inputs)
    assert np.ptp(got, axis=0).max() > 1e-2
    for oracle in (by_reference, by_runtime):
        assert_close(got, oracle(model, inputs))


@settings(max_examples=80)
@given(networks.images())
def test_any_chain_of_operators(chain: tuple[Builder, Shape]):
    net, shape = chain
    model = net.model()
    inputs = inputs_of(model)
    assert_close(by_node(model.SerializeToString(), inputs, shape), by_runtime(model, inputs))


def test_a_dense_layer_after_flatten_is_permuted_and_the_sample_too():
    net = Builder((2, 3, 4)).conv(2, 2, (1, 1)).add("Flatten")
    model = net.dense(24, 24).model()
    imported = read(model.SerializeToString(), "f")
    assert imported.shape == Shape(3, 4, 2)
    assert imported.sample.tolist()[:4] == [0, 12, 1, 13]
    w = onnx.numpy_helper.to_array(model.graph.initializer[2])
    dense = imported.weights[1][: 24 * 24].reshape(24, 24)
    assert (dense[:, :4] == w[:, [0, 12, 1, 13]]).all()


@pytest.mark.parametrize(
    ("shape", "given_", "sample"),
    [
        ((6,), None, range(6)),
        ((1, 2, 3), None, range(6)),
        ((2, 3, 1), None, range(6)),
        ((6,), Shape(2, 3, 1), range(6)),
        ((2, 3), Shape(1, 2, 3), range(6)),  # a length of 2, 3 channels, these last
        ((2, 3), Shape(1, 3, 2), [0, 3, 1, 4, 2, 5]),  # 2 channels first
        ((3, 1, 2), Shape(1, 2, 3), [0, 2, 4, 1, 3, 5]),
    ],
)
def test_samples_of_a_network_that_sees_no_image(
    shape: tuple[int, ...], given_: Shape | None, sample: object
):
    model = Builder(shape).add("Flatten").dense(6, 2).model()
    data = model.SerializeToString()
    assert read(data, "f", given_).sample.tolist() == list(sample)  # type: ignore[call-overload]
    inputs = inputs_of(model)
    assert_close(by_node(data, inputs, given_), by_reference(model, inputs))


def test_padding_that_stands_alone_goes_into_the_window_behind_it():
    for kind in ("Conv", "MaxPool", "AveragePool"):
        net = Builder((2, 5, 6)).conv(2, 2, (1, 1)).add("Relu")
        pads = net.constant(np.array([0, 0, 1, 0, 0, 0, 0, 1]))
        net.add("Pad", net.name, pads)
        if kind == "Conv":
            net.conv(2, 3, (2, 2), pads=[0, 1, 0, 0])
        else:
            net.add(kind, kernel_shape=[2, 2], strides=[2, 1])
        model = net.model()
        inputs = inputs_of(model)
        assert_close(by_node(model.SerializeToString(), inputs), by_runtime(model, inputs))


def test_an_output_that_is_an_image_keeps_its_place():
    model = Builder((2, 4, 4)).conv(2, 3, (3, 3)).model()
    inputs = inputs_of(model)
    assert_close(by_node(model.SerializeToString(), inputs), by_reference(model, inputs))


def test_branches_are_joined_in_an_order_that_needs_the_fewest_routes():
    imported = read(networks.resnet().SerializeToString(), "f")
    kinds = [getattr(one, "type", "") for one in imported.layers]
    assert kinds.count("route") == 1
    assert kinds.count("add") == 2


def test_names_are_those_of_the_nodes_and_differ():
    net = Builder((1, 4, 4)).conv(1, 2, (2, 2)).conv(2, 2, (1, 1))
    for node in net.nodes:
        node.name = "input"
    imported = read(net.model().SerializeToString(), "f")
    assert [one.name for one in imported.layers] == ["input_2", "input_3"]
    built(imported)
