"""ONNX files that cannot be read: one line each, with the file, the node and why."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_networks import Builder, resnet
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.models import onnx_file
from tinymetafed.models.onnx_file import read_bytes
from tinymetafed.models.onnx_reader import read


def small() -> Builder:
    return Builder((1, 6, 6)).conv(1, 2, (3, 3)).add("Relu").add("Flatten").dense(32, 3)


def conv(**attributes: Any) -> Builder:
    return Builder((2, 6, 6)).conv(2, 2, (3, 3), **attributes)


def grouped() -> Builder:
    net = Builder((4, 6, 6))
    return net.add("Conv", net.name, net.random(4, 2, 3, 3), group=2)


def multiplied() -> Builder:
    net = Builder((2, 6, 6))
    return net.add("Conv", net.name, net.random(4, 1, 3, 3), group=2)


def long() -> Builder:
    net = Builder((4,))
    for _ in range(33):
        net.dense(4, 4)
    return net


def limited() -> Builder:
    net = small()
    return net.add("Clip", net.name, net.constant(np.float32(-1)), net.constant(np.float32(1)))


def laid_anew() -> Builder:
    net = Builder((4,)).dense(4, 16)
    return net.add("Reshape", net.name, net.constant(np.array([1, 1, 4, 4]))).conv(1, 1, (2, 2))


def in_the_middle() -> Builder:
    return Builder((4,)).dense(4, 4).add("Softmax").dense(4, 2)


def product() -> Builder:
    net = Builder((4,)).dense(4, 4)
    return net.add("Mul", net.name, net.name)


def quantised() -> Builder:
    net = small()
    return net.add("QuantizeLinear", net.name, net.constant(np.float32(0.1)))


def grows() -> Builder:
    """A constant that doubles with each node: 2^40 values if anybody worked it out."""
    net = small()
    last, name = net.name, net.constant(np.zeros(2, np.float32))
    for _ in range(40):
        name = net.add("Concat", name, name, axis=0).name
    return net.add("Add", last, name)


def spread_out() -> Builder:
    net = small()
    last = net.name
    shape = net.constant(np.array([1 << 40]))
    return net.add("Add", last, net.add("ConstantOfShape", shape).name)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: conv(dilations=[2, 2]), "node 'conv0' (Conv): dilations [2, 2]; only 1"),
        (
            lambda: conv(strides=[0, 1], auto_pad="SAME_UPPER"),
            "node 'conv0' (Conv): kernel [3, 3] and strides [0, 1]; both are at least 1",
        ),
        (grouped, "node 'conv0' (Conv): 2 groups for 4 channels and 4 filters"),
        (multiplied, "node 'conv0' (Conv): 2 groups for 2 channels and 4 filters"),
        (lambda: conv(pads=[3, 0, 0, 0]), "node 'conv0' (Conv): padding: 3 is not less than the"),
        (lambda: small().add("Erf"), "node 'erf4' (Erf): no layer of a node computes this"),
        (limited, "node 'clip4' (Clip): values between -1 and 1; 0 to 6, or from 0 on, are"),
        (long, "node 'gemm32' (Gemm): more than 32 layers"),
        (laid_anew, "node 'conv2' (Conv): it sees an image of 4 × 4 × 1"),
        (in_the_middle, "node 'gemm2' (Gemm): it reads a softmax"),
        (product, "node 'mul1' (Mul): of two inputs that are no constants"),
        (quantised, "node 'quantizelinear4' (QuantizeLinear): the model is quantised"),
        (lambda: Builder((4,)).add("Relu"), "no layer has parameters"),
        (lambda: Builder((1 << 11, 1 << 11)).dense(1 << 11, 1), "'input' has more than 1048576"),
        (grows, "(Concat): it works on constants"),
        (spread_out, "(ConstantOfShape): it works on constants"),
        (lambda: Builder((3, 8, 8)).add("Flatten").dense(192, 2), "'input': nothing says how"),
        (lambda: Builder((3, 5, 5, 5)).conv(3, 2, (2, 2, 2)), "(Conv): its input has 3 axes"),
    ],
)  # fmt: skip
def test_an_operator_that_is_no_layer(make: Callable[[], Builder], says: str):
    refused(make().model(), says)


def refused(model: onnx.ModelProto | bytes, says: str) -> None:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(TinyMetaFedError) as caught:
        read(data, "net.onnx")
    assert str(caught.value).startswith("net.onnx: ")
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_shapes_that_are_not_known():
    refused(small().model(batch=8), "a batch of 8; export it with a batch of 1")
    model = small().model()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    refused(model, "input 'input': dimension 2 (height) is dynamic; only the batch may be")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 0
    refused(model, "dimension 2 is dynamic")


def test_numbers_that_are_not_float32():
    for kind, name in ((TensorProto.FLOAT16, "FLOAT16"), (TensorProto.DOUBLE, "DOUBLE")):
        model = small().model()
        model.graph.input[0].type.tensor_type.elem_type = kind
        refused(model, f"input 'input' is {name}; nodes compute in float32")
    model = small().model()
    values = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float64)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w0"))
    refused(model, "w0 is DOUBLE; nodes compute in float32")
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(values.astype(np.float32) * np.inf, "w0")
    )
    refused(model, "w0 has values that are not finite")


def test_several_inputs_and_outputs():
    model = small().model()
    model.graph.input.add().CopyFrom(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    refused(model, "2 inputs (input, more); a node has one")
    model = small().model()
    model.graph.output.add().CopyFrom(
        helper.make_tensor_value_info("relu1", TensorProto.FLOAT, [1])
    )
    refused(model, "2 outputs (gemm3, relu1); a node has one")


def test_operator_sets():
    refused(_with_opset(1000), "operator set 1000; 7 to ")
    refused(_with_opset(6), "operator set 6; 7 to ")


def _with_opset(version: int) -> onnx.ModelProto:
    model = small().model()
    model.opset_import[0].version = version
    return model


def test_weights_in_another_file(tmp_path: Path):
    path = tmp_path / "net.onnx"
    model = small().model()
    onnx.save(model, path, save_as_external_data=True, location="data", size_threshold=0)
    refused(path.read_bytes(), "weights 'w0' are in another file; save the model with the data")


def test_a_cycle_and_a_branch():
    model = small().model()
    model.graph.node[0].input[0] = "flatten2"
    refused(model, "must be topologically sorted")
    model = small().model()
    branch = helper.make_node("If", ["gemm3"], ["out"], "if", then_branch=model.graph)
    model.graph.node.append(branch)
    refused(model, "")


def test_functions_within_functions_are_counted_first():
    """Of 30 that each call the one before twice: 2^30 nodes if anybody wrote them out."""
    model = small().model()
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.opset_import.append(opset[1])
    for i in range(19):
        domain, called = ("own", f"f{i - 1}") if i else ("", "Relu")
        nodes = [helper.make_node(called, [a], [b], domain=domain) for a, b in ("xy", "yz")]
        model.functions.append(helper.make_function("own", f"f{i}", ["x"], ["z"], nodes, opset))
    model.graph.node[1].domain, model.graph.node[1].op_type = "own", "f18"
    refused(model, "nodes; 2000 are the limit")


def test_functions_take_their_place():
    model = small().model()
    opset = [helper.make_opsetid("", 17)]
    model.opset_import.append(helper.make_opsetid("own", 1))
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    model.functions.append(helper.make_function("own", "f", ["x"], ["y"], nodes, opset))
    wanted = read(model.SerializeToString(), "f")
    model.graph.node[1].domain, model.graph.node[1].op_type = "own", "f"
    got = read(model.SerializeToString(), "f")
    assert [one.name for one in got.layers] == [one.name for one in wanted.layers]


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for data in (b"", b"\0" * 100, b"not an onnx file", small().model().SerializeToString()[:-200]):
        refused(data, "not a")
    with pytest.raises(TinyMetaFedError, match="gone.onnx: cannot be read: No such file"):
        read_bytes(tmp_path / "gone.onnx")
    monkeypatch.setattr(onnx_file, "LARGEST", 1000)
    (tmp_path / "net.onnx").write_bytes(bytes(1001))
    with pytest.raises(TinyMetaFedError, match="net.onnx: more than 0 MiB; no node has room"):
        read_bytes(tmp_path / "net.onnx")


def test_bytes_that_are_wrong_are_an_error_or_another_network():
    files = [make().SerializeToString() for make in (lambda: small().model(), resnet)]
    rng = np.random.default_rng(15)
    lines: list[int] = []
    for i in range(300):
        data = np.frombuffer(files[i % 2], np.uint8).copy()
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(0, 256)
        try:
            read(data.tobytes(), "net.onnx")
        except TinyMetaFedError as error:
            lines.append(len(str(error).splitlines()))
    assert len(lines) > 20
    assert set(lines) == {1}
