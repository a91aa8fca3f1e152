"""Networks of runs as files: what other tools make of them is what a node makes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from conftest import UseCard
from running import execute
from tiny import make_table
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import parse
from tinymetafed.experiments.exporting import Exported
from tinymetafed.models import tflite_runner
from tinymetafed.nodes import standalone
from tinymetafed.places import FIRMWARE, MPS2_IMAGE
from tinymetafed.results.store import Run, Store

HEAD = """
name = "test"
rounds = 2
nodes = {{ backend = "host", count = 2 }}
strategy = {{ name = "tinymetafed", support = 4, query = 6 }}
evaluation = {{ devices = 3, every = 2, support = 4, steps = 3, query = 8 }}
{rest}
"""

SINE = """
[task]
name = "sine"
[model]
layers = [
    { units = 6, activation = "tanh" }, { name = "before", units = 4, activation = "leaky_relu" },
    { units = 4 }, { type = "add", source = "before" }, { type = "relu6" },
    { units = 1, local = true },
]
"""

# Rows of values, seen as images.
IMAGES = """
[task]
name = "tabular"
data = "iris"
rows = 5
validation = 0.4
[model]
loss = "softmax_cross_entropy"
shape = [2, 2, 1]
layers = [
    { type = "conv2d", filters = 3, padding = 1, activation = "relu", name = "first" },
    { type = "depthwise_conv2d", size = [1, 2], padding = [[0, 0], [1, 0]] },
    { type = "add", source = "first" },
    { type = "max_pool2d", size = [2, 1], stride = 1, padding = [[1, 0], [0, 0]] },
    { type = "average_pool2d", size = 2, stride = 1, padding = [[0, 1], [0, 1]] },
    { type = "sigmoid", name = "second" },
    { type = "route", source = "first" },
    { type = "add", source = "second" },
    { units = 3 },
]
"""


@pytest.fixture(autouse=True)
def _table(data: Path, use_card: UseCard) -> None:
    use_card(make_table(data)[0])


def finished(folder: Path, rest: str, *changes: str) -> tuple[Store, Run]:
    return execute(parse(HEAD.format(rest=rest), "test", changes), folder)


FEW = tuple(f"{part}={n}" for part, n in (
    ("devices.seen", 3), ("strategy.support", 2), ("strategy.query", 3), ("evaluation.support", 2),
    ("evaluation.query", 3), ("evaluation.devices", 1), ("evaluation.unseen", 2),
))  # fmt: skip
NETWORKS = {"sine": (SINE, ()), "images": (IMAGES, FEW)}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("device", [None, 1])
def test_onnx_gives_what_a_node_gives(tmp_path: Path, name: str, device: int | None):
    rest, changes = NETWORKS[name]
    exported = Exported(*finished(tmp_path, rest, *changes), device)
    list(exported.write(tmp_path / "net.onnx"))
    model = onnx.load(tmp_path / "net.onnx")
    inputs = exported.samples[1].inputs
    dims = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    given = inputs.reshape(len(inputs), *dims)
    wanted = exported.predicted(inputs)
    # As many products as a layer has inputs, summed in another order.
    for outputs in (_reference(model, given), _runtime(model, given)):
        np.testing.assert_allclose(outputs, wanted, rtol=1e-5, atol=1e-6)


def _reference(model: onnx.ModelProto, inputs: np.ndarray) -> np.ndarray:
    if any(node.op_type.endswith("Pool") for node in model.graph.node):
        return _runtime(model, inputs)  # onnx.reference 1.23 gets pools with padding wrong
    return np.asarray(ReferenceEvaluator(model).run(None, {"input": inputs})[0])  # type: ignore[index]


def _runtime(model: onnx.ModelProto, inputs: np.ndarray) -> np.ndarray:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(model.SerializeToString())
    return session.run(None, {"input": inputs})[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_comes_in_again_is_judged_the_same(tmp_path: Path, name: str):
    rest, changes = NETWORKS[name]
    store, run = finished(tmp_path, rest, *changes)
    list(Exported(store, run).write(tmp_path / "net.onnx"))
    task, _, _ = rest.partition("[model]")
    again = task + '[model]\nonnx = "net.onnx"\n'
    if name == "sine":
        again += 'local = ["dense_5"]\n'
    else:
        again += 'loss = "softmax_cross_entropy"\n'
    settings = parse(HEAD.format(rest=again), "again", changes, tmp_path)
    assert (settings.built_model.initial(1) == run.weights).all()
    other, second = execute(settings, tmp_path / "again")

    def judged(store: Store, run: Run, done: int) -> list[tuple[object, ...]]:
        rows = [one for one in store.evaluations(run.id) if one.round == done]
        rows = [one for one in rows if one.part == "validation"]
        return [tuple(vars(row).values())[1:] for row in rows]

    assert judged(other, second, 0) == judged(store, run, 2)


def test_adaptation_is_that_of_the_evaluation(tmp_path: Path):
    store, run = finished(tmp_path, SINE)
    start = Exported(store, run)
    assert np.array_equal(start.theta, run.weights)
    for device in range(3):
        exported = Exported(store, run, device)
        assert not np.array_equal(exported.theta, run.weights)
        _, query = exported.samples
        outputs = exported.predicted(query.inputs)
        loss = np.mean((outputs - query.targets) ** 2)
        rows = [row for row in store.evaluations(run.id) if row.part == "unseen"]
        assert rows[device].loss_after == pytest.approx(float(loss), rel=1e-5)
        assert exported.network.metadata["weights"] == f"adapted to unseen device {device}"


def test_metadata_say_where_a_network_comes_from(tmp_path: Path):
    store, run = finished(tmp_path, IMAGES, *FEW)
    exported = Exported(store, run)
    list(exported.write(tmp_path / "net.onnx"))
    list(exported.write(tmp_path / "net.npz"))
    model = onnx.load(tmp_path / "net.onnx")
    about = {one.key: one.value for one in model.metadata_props}
    assert about["run"] == str(run.id)
    assert about["seed"] == "1"
    assert about["strategy"] == "tinymetafed"
    assert about["weights"] == "initialisation"
    for key, value in json.loads(run.versions).items():
        assert about[f"with {key}"] == value
    with np.load(tmp_path / "net.npz") as arrays:
        assert json.loads(str(arrays["metadata"]))["run"] == str(run.id)
        names = [one["name"] for one in json.loads(str(arrays["layers"]))]
        assert names[:3] == ["first", "depthwise_conv2d_1", "add_2"]
        assert arrays["first.weight"].shape == (3, 3, 3, 1)
        assert (arrays["dense_8.bias"] == run.weights[-3:]).all()


def test_what_cannot_be_exported(tmp_path: Path):
    store, run = finished(tmp_path, SINE)
    with pytest.raises(TinyMetaFedError, match="--device 3: run 1 was judged on 3 unseen devices"):
        Exported(store, run, 3)
    with pytest.raises(TinyMetaFedError, match="net.onnx: cannot be written: No such file"):
        list(Exported(store, run).write(tmp_path / "gone" / "net.onnx"))
    with store._transaction():
        store._db.execute("UPDATE run SET done = 1")
    with pytest.raises(TinyMetaFedError, match="run 1: 1 of 2 rounds are done; 'tinymetafed run"):
        Exported(store, store.run("1"))


@pytest.mark.parametrize("name", NETWORKS)
def test_c_gives_on_a_cortex_m_what_a_node_gives_bit_for_bit(tmp_path: Path, name: str):
    rest, changes = NETWORKS[name]
    exported = Exported(*finished(tmp_path, rest, *changes), 0)
    list(exported.write(tmp_path / "net.c"))
    compiler = shutil.which("arm-none-eabi-gcc")
    assert compiler, "'make setup' installs the compiler"
    firmware, port = FIRMWARE / "core", FIRMWARE / "ports/mps2"
    sources = [port / f"{one}.c" for one in ("predict", "startup", "uart")]
    command = [
        compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off",
        "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-nostartfiles",
        "--specs=nano.specs", "-ffunction-sections", "-Wl,--gc-sections", "-Wl,--build-id=sha1",
        f"-T{port / 'mps2.ld'}", f"-I{firmware}", f"-I{port}",
        f'-DTMF_NETWORK_HEADER="{tmp_path / "net.h"}"', tmp_path / "net.c", *sources,
        *(MPS2_IMAGE.parent / f"libtmf_{one}.a" for one in ("core", "protocol")),
        "-o", tmp_path / "net.elf",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    said = standalone.run(tmp_path / "net.elf").output.split()
    outputs = exported.predicted(exported.samples[1].inputs[:1])[0]
    assert said == [f"{bits:08x}" for bits in outputs.view(np.uint32)]


@pytest.mark.parametrize("name", NETWORKS)
def test_tensorflow_lite_gives_what_a_node_gives(tmp_path: Path, name: str):
    pytest.importorskip("ai_edge_litert", reason="the extra tflite is not installed")
    rest, changes = NETWORKS[name]
    exported = Exported(*finished(tmp_path, rest, *changes), 0)
    lines = list(exported.write(tmp_path / "net.tflite"))
    assert lines[1].startswith("float32: ")
    data = (tmp_path / "net.tflite").read_bytes()
    inputs = exported.samples[1].inputs
    got = tflite_runner.run(data, inputs)
    np.testing.assert_allclose(got, exported.predicted(inputs), rtol=1e-5, atol=1e-6)
    assert f'"run": "{exported.network.metadata["run"]}"'.encode() in data


def test_eight_bits_come_close(tmp_path: Path):
    pytest.importorskip("ai_edge_quantizer", reason="the extra tflite is not installed")
    whole = ("task.validation=0", "evaluation.devices=0", "evaluation.unseen=3")
    exported = Exported(*finished(tmp_path, IMAGES, *FEW, *whole), 0)
    lines = list(exported.write(tmp_path / "net.tflite", int8=True))
    assert [line.partition(":")[0] for line in lines[:3]] == ["node", "float32", "int8"]
    inputs = exported.samples[1].inputs
    got = tflite_runner.run((tmp_path / "net.tflite").read_bytes(), inputs)
    wanted = exported.predicted(inputs)
    assert np.abs(got - wanted).max() < 0.1 * np.abs(wanted).max()


def test_tensorflow_lite_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    exported = Exported(*finished(tmp_path, SINE))
    with pytest.raises(TinyMetaFedError, match=r"pip install 'tinymetafed\[tflite\]'"):
        list(exported.write(tmp_path / "net.tflite"))
