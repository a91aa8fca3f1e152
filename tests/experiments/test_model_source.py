"""[model] with an ONNX file, or another run's weights."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from conftest import SMALL, FindReal
from onnx_networks import Builder
from running import execute
from tinymetafed import settings
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import model_source, runner
from tinymetafed.experiments.experiment import Experiment, read
from tinymetafed.places import PROJECT
from tinymetafed.results.store import Store
from tinymetafed.tasks import datasets
from tinymetafed.tasks.keywords import Card

EXPERIMENT = SMALL.partition("[model]")[0] + '[model]\nonnx = "net.onnx"\n'


def net() -> onnx.ModelProto:
    """On a value of the sine."""
    return Builder((1,)).dense(1, 6).add("Tanh").dense(6, 5).add("Relu").dense(5, 1).model()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an experiment and its file; and the store in it."""
    (tmp_path / "net.onnx").write_bytes(net().SerializeToString())
    (tmp_path / "small.toml").write_text(EXPERIMENT)
    monkeypatch.setattr(model_source, "STORE", tmp_path / "runs")
    return tmp_path


def experiment(place: Path, *changes: str) -> Experiment:
    return read(place / "small.toml", changes)


def vectors() -> list[np.ndarray]:
    found = [onnx.numpy_helper.to_array(one).ravel() for one in net().graph.initializer]
    return [np.concatenate(found[i : i + 2]) for i in (0, 2, 4)]


def test_layers_and_weights_are_the_files(place: Path):
    settings = experiment(place)
    assert [getattr(one, "units", 0) for one in settings.model.layers] == [6, 5, 1]
    assert [one.name for one in settings.model.layers] == ["gemm0", "gemm2", "gemm4"]
    assert (settings.built_model.initial(1) == np.concatenate(vectors())).all()
    assert settings.model.sha256 is not None
    assert settings.model.weights == "file"


def test_only_the_layers_where_no_weights_are_wanted(place: Path):
    model = experiment(place, "model.weights=none").built_model
    drawn = model.initial(1)
    assert not drawn[-6:].any()  # the last layer's
    assert not (drawn == np.concatenate(vectors())).any()


def test_local_and_frozen_layers_by_name_and_number(place: Path):
    model = experiment(place, "model.frozen=['gemm0']", "model.local=[2]").built_model
    first, second, third = vectors()
    assert (model.backbone == first).all()
    assert (model.initial(1) == np.concatenate([second, third])).all()
    assert model.global_mask.tolist() == [True] * 35 + [False] * 6


def test_layers_of_the_experiment_follow_the_files(place: Path):
    changes = ("model.layers=[{units=3, activation='tanh'}, {units=1}]", "model.frozen=[0, 1, 2]")
    model = experiment(place, *changes).built_model
    assert (model.backbone == np.concatenate(vectors())).all()
    assert model.parameters == 6 + 4
    drawn = model.initial(3)
    assert drawn[:6].all()
    assert not drawn[6:].any()


def test_a_probability_at_the_end_goes_into_the_loss(place: Path):
    file = place / "net.onnx"
    net = Builder((4,)).dense(4, 3).add("Softmax").model()
    file.write_bytes(net.SerializeToString())
    iris = (
        "task={name='tabular', data='iris'}",
        "devices.seen=3",
        "evaluation.query=6",
        "evaluation.devices=2",
    )
    settings = experiment(place, *iris)
    assert settings.model.loss == "softmax_cross_entropy"
    with pytest.raises(
        TinyMetaFedError, match="model.loss: the file ends as softmax_cross_entropy"
    ):
        experiment(place, *iris, "model.loss=mse")
    net = Builder((1,)).dense(1, 1).add("Sigmoid").model()
    file.write_bytes(net.SerializeToString())
    kept = experiment(place, "model.loss=mse").model.layers[0]
    assert kept.model_dump()["activation"] == "sigmoid"
    with pytest.raises(TinyMetaFedError, match="binary_cross_entropy does not judge"):
        experiment(place)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("model.onnx='gone.onnx'", "gone.onnx: cannot be read: No such file or directory"),
        ("model.tflite='net.tflite'", "model.tflite: there is model.onnx as well; leave out one"),
        ("model.onnx=3", "small.toml: model.onnx: 3 is not allowed"),
        ("model.weights='all'", "small.toml: model.weights: 'all' is not allowed"),
        (
            "model.frozen=['gemm9']",
            "model.frozen: no layer 'gemm9' has parameters; those that have",
        ),
        ("model.frozen=[7]", "model.frozen: no layer 7 has parameters; those that have some: 0 'g"),
        ("model.sha256='1'", "model.sha256: a run's row has it; leave it out"),
        ("model.from_run=7", "no run '7'; there is none yet"),
        ("model={layers=[{units=1}], weights='file'}", "model.weights: there is no file"),
        ("model={layers=[{units=1}], frozen=[0]}", "model.frozen: these layers say it themselves"),
        (
            "model={layers=[{units=2, frozen=true}, {units=1}]}",
            "model.layers: a frozen layer needs",
        ),
        ("model.frozen=[0, 1, 2]", "model.layers: no layer has parameters, so there is nothing"),
    ],
)
def test_what_does_not_fit_is_named(place: Path, change: str, says: str):
    with pytest.raises(TinyMetaFedError) as caught:
        experiment(place, change)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_frozen_layers_without_weights(place: Path):
    with pytest.raises(TinyMetaFedError, match="model.layers: a frozen layer needs weights"):
        experiment(place, "model.weights=none", "model.frozen=[0]")


class _Stopped(Exception):
    pass


def test_a_run_goes_on_without_the_file(place: Path):
    settings = experiment(place, "model.frozen=[0]")
    _, whole = execute(settings, place / "whole")
    store = Store(place / "runs")

    def stop(done: int, doing: str) -> None:
        if (done, doing) == (2, "training"):
            raise _Stopped

    with pytest.raises(_Stopped):
        runner.execute(settings, store, None, stop)
    stopped = store.run("last")
    (place / "net.onnx").unlink()
    again = Experiment.model_validate_json(stopped.settings)
    run, _ = runner.execute(again, store, stopped, lambda done, doing: None)
    assert run.done == settings.rounds
    assert run.theta == whole.theta
    assert (store.backbone(run.id) == vectors()[0]).all()
    kept = json.loads(run.settings)["model"]
    assert kept["onnx"] == "net.onnx"
    assert len(kept["layers"]) == 3
    assert (model_source.experiment_of(store, run).built_model.backbone == vectors()[0]).all()


def test_another_runs_weights(place: Path):
    store, run = execute(experiment(place, "model.local=[2]"), place / "runs")
    name = f"model.from_run={run.id}"
    (place / "small.toml").write_text(SMALL.partition("[model]")[0])
    same = experiment(place, name)
    assert (same.built_model.initial(1) == run.weights).all()
    assert same.model.layers == model_source.experiment_of(store, run).model.layers
    frozen = experiment(
        place, name, "model.frozen=['gemm0', 'gemm2']", "model.local=[]"
    ).built_model
    assert (frozen.backbone == run.weights[:-6]).all()
    assert (frozen.initial(1) == run.weights[-6:]).all()
    with pytest.raises(TinyMetaFedError, match="model.from_run: the run has other layers"):
        experiment(place, name, "model.layers=[{units=2}, {units=1}]")
    with pytest.raises(TinyMetaFedError, match="model.from_run: the weights are to be the file's"):
        experiment(place, name, "model.onnx='net.onnx'", "model.weights=file")


def test_a_run_by_its_name_or_the_last_one(place: Path):
    _, older = execute(experiment(place, "name=base"), place / "runs")
    _, newer = execute(experiment(place, "name=base", "seed=2"), place / "runs")
    _, last = execute(experiment(place), place / "runs")
    (place / "small.toml").write_text(SMALL.partition("[model]")[0])
    for which, run in (("base", newer), ("last", last), (str(older.id), older)):
        found = experiment(place, f"model.from_run={which}")
        assert (found.built_model.initial(1) == run.weights).all()
        assert found.model.from_run == run.id  # whatever is the newest when the run goes on
    with pytest.raises(TinyMetaFedError, match="no run 'gone'; there are: 1, 2, 3"):
        experiment(place, "model.from_run=gone")


def test_a_run_that_may_have_learnt_from_unseen_devices(
    place: Path, caplog: pytest.LogCaptureFixture
):
    execute(experiment(place), place / "runs")
    (place / "small.toml").write_text(SMALL.partition("[model]")[0])
    experiment(place, "model.from_run=last")
    assert not caplog.messages
    experiment(place, "model.from_run=last", "seed=77")
    assert "it may have learnt from devices that are not seen here" in caplog.text


def test_a_run_that_has_not_ended_gives_no_weights(place: Path):
    store = Store(place / "runs")

    def stop(done: int, doing: str) -> None:
        if (done, doing) == (2, "training"):
            raise _Stopped

    with pytest.raises(_Stopped):
        runner.execute(experiment(place), store, None, stop)
    (place / "small.toml").write_text(SMALL.partition("[model]")[0])
    says = "model.from_run: of run 1, 2 of . rounds are done; 'tinymetafed run --resume 1' goes on"
    with pytest.raises(TinyMetaFedError, match=says):
        experiment(place, "model.from_run=last")


def test_a_backbone_of_another_run(place: Path, real_data: FindReal):
    """The experiments of a network whose lower layers another one has learned."""
    real_data(settings.read(Card, datasets.FOLDER / "fsdd.toml").file)
    folder = PROJECT / "experiments"
    small = ("rounds=1", "devices.seen=4", "evaluation.devices=1", "evaluation.steps=1")
    fewer = ("strategy.support=5", "strategy.query=5", "evaluation.support=5", "evaluation.query=5")
    _, trained = execute(read(folder / "ds-cnn.toml", small + fewer), place / "runs")
    frozen = read(folder / "ds-cnn-frozen.toml", small + fewer)
    model = frozen.built_model
    before = 656 + 3 * (160 + 272)
    assert (model.backbone == trained.weights[:before]).all()
    _, run = execute(frozen, place / "runs")
    assert (run.weights != trained.weights[before:]).any()
    assert (Store(place / "runs").backbone(run.id) == model.backbone).all()
