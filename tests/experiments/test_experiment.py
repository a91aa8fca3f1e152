"""Experiment files: what is wrong is said with file, key, and what is allowed."""

import math
import re
from pathlib import Path

import pytest

from conftest import SMALL, MakeExperiment
from running import STRATEGIES
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import Experiment, parse, read
from tinymetafed.places import PROJECT
from tinymetafed.strategies import TinyMetaFed


@pytest.mark.parametrize(
    "path",
    sorted(
        path
        for path in (PROJECT / "experiments").glob("*.toml")
        # else it is a comparison, or starts from a run
        if "[[strategies]]" not in path.read_text() and "from_run" not in path.read_text()
    ),
    ids=lambda p: p.stem,
)
def test_the_experiments_of_the_project_are_valid(path: Path):
    assert isinstance(read(path), Experiment)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("nodes.cuont=4", "f.toml: nodes.cuont: unknown key; known are: backend, options"),
        ("strategy.speed=4", "f.toml: strategy.speed: unknown key; known are: query, "
            "outer_rate, anneal, name, local_rate"),
        ("colour=4", "f.toml: colour: unknown key; known are: name, seed"),
        ("nodes.count=0", "f.toml: nodes.count: 0 is not allowed; use a whole number at least 1 "
            "and at most 10000"),
        ("nodes.count=1.5", "f.toml: nodes.count: 1.5 is not allowed; use a whole number"),
        ("nodes.backend=board", "f.toml: nodes.backend: 'board' is not allowed; use 'qemu', "
            "'renode', 'serial' or 'host'"),
        ("strategy.percent=101", "f.toml: strategy.percent: 101 is not allowed; use a number more "
            "than 0 and at most 100"),
        ("strategy.percent={start=0, end=5}", "f.toml: strategy.percent.start: 0 is not allowed; "
            "use a number more than 0 and at most 100"),
        ("strategy.percent={start=9}", "f.toml: strategy.percent.end: missing"),
        ("strategy.percent={from=9}", "f.toml: strategy.percent.start: missing"),
        ("strategy.percent=few", "f.toml: strategy.percent: 'few' is not allowed; use a number"),
        ("strategy.values=int4", "f.toml: strategy.values: 'int4' is not allowed; use 'float32', "
            "'float16' or 'int8'"),
        ("strategy={name='tinyreptile'}", "f.toml: nodes.per_round: tinyreptile is serial, but 3 "
            "nodes take part; use 1"),
        ("devices.fraction=[0.5, 0.2]", "f.toml: devices.fraction: the second value may not be "),
        ("devices.fraction=[0, 1]", "f.toml: devices.fraction.0: 0 is not allowed; use a number "
            "more than 0 and at most 1"),
        ("devices.fraction=0.5", "f.toml: devices.fraction: 0.5 is not allowed; use a list of "),
        ("strategy.name=sgd", "f.toml: strategy.name: 'sgd' is unknown; use 'fedadam', 'fedavg', "
            "'fedper', 'fedprox', 'fedrep', 'fedyogi', 'local', 'perfedavg', 'reptile', "
            "'scaffold', 'tinymetafed', 'tinyreptile'"),
        ("model.layers=[{units=0}]", "f.toml: model.layers.0.units: 0 is not allowed; use a whole "
            "number at least 1"),
        ("model.layers=[{units=3}]", "f.toml: model.layers.0: the task has 1 outputs, the "
            "last layer 3"),
        ("model.layers=[{type='conv3d'}]", "f.toml: model.layers.0.type: 'conv3d' is unknown; use "
            "'dense', 'conv2d'"),
        ("model.layers=[{type='conv2d', filters=2}]", "f.toml: model.layers.0.size: 3 × 3 is more "
            "than the 1 × 1 pixels"),
        ("model.layers=[{units=1, local=true}]", "f.toml: model.layers: every layer is local"),
        ("model.loss=softmax_cross_entropy", "f.toml: model.loss: softmax_cross_entropy does not"),
        ("nodes.per_round=4", "f.toml: nodes.per_round: 4 nodes take part but nodes.count is 3"),
        ("nodes.link=dma", "f.toml: nodes.link: host nodes have no choice of it; leave it out"),
        ("nodes.link=spi", "f.toml: nodes.link: 'spi' is not allowed; use 'dma' or 'uart'"),
        ("devices.seen=2", "f.toml: devices.seen: 2 devices are too few"),
        ("nodes.emulate=5", "f.toml: nodes.emulate: 5 of 4 rounds"),
        ("nodes={backend='qemu', emulate=1}", "f.toml: nodes.emulate: every round of qemu nodes"),
        ("task.x=[5, -5]", "f.toml: task.x: the first value has to be below the second"),
        ("task.name=cosine", "f.toml: task.name: 'cosine' is unknown; use 'keywords', 'omniglot', "
            "'sine', 'tabular'"),
        ("name=a/b", "f.toml: name: 'a/b' is not allowed; use a string matching"),
        ("rounds=many", "f.toml: rounds: 'many' is not allowed; use a whole number at least 1"),
        ("nodes=4", "f.toml: nodes: 4 is not allowed"),
    ],
)  # fmt: skip
def test_a_setting_that_is_wrong(override: str, says: str):
    with pytest.raises(TinyMetaFedError) as caught:
        parse(SMALL, "f.toml", (override,))
    assert str(caught.value).startswith(says)


CLASSES = (
    "task={name='omniglot'}", "model={loss='softmax_cross_entropy', layers=[{units=5}]}",
    "strategy={name='reptile', query=10}", "evaluation={support=5, query=15}",
)  # fmt: skip


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.loss=mse", "model.loss: mse does not judge the task's targets"),
        ("model.layers=[{units=6}]", "model.layers.0: the task has 5 outputs, the last "
            "layer 6"),
        ("task.ways=4", "model.layers.0: the task has 4 outputs, the last layer 5"),
        ("task.ways=1", "task.ways: 1 is not allowed; use a whole number at least 2"),
        ("task.ways=1001", "task.ways: 1001 is not allowed"),
        ("task.size=15", "task.size: 15 is not allowed; use 14 or 28"),
        ("task.seen=['images']", "task.seen: 'images' is unknown; use images_background, "),
        ("task.unseen=[]", "task.unseen: [] is not allowed; use a list of values at least 1"),
        ("strategy.query=12", "strategy.query: 12 samples cannot be shared out evenly over 5 "
            "classes"),
        ("evaluation.support=4", "evaluation.support: 4 samples cannot be shared out evenly"),
        ("strategy.query=105", "strategy.query: 0 + 105 samples of a device, but the task has 100"),
        ("evaluation.query=100", "evaluation.query: 5 + 100 samples of a device, but the task has "
            "100"),
        ("task={name='keywords', data='fsdd', ways=11}", "task.ways: 11 of the 10 words of fsdd"),
        ("task={name='keywords', data='timit'}", "task.data: 'timit' is not allowed; use "
            "'speech_commands' or 'fsdd'"),
        ("task={name='keywords', data='fsdd', unseen=1}", "task.unseen: 1 is not allowed"),
        ("task={name='tabular', data='iris', rows=91}", "task.rows: 91 of the 90 rows for seen"),
        ("task={name='tabular', data='breast_cancer'}", "model.layers.0: the task has 2"),
    ],
)  # fmt: skip
def test_a_task_with_classes_that_is_wrong(override: str, says: str):
    parse(SMALL, "f.toml", CLASSES)
    with pytest.raises(TinyMetaFedError) as caught:
        parse(SMALL, "f.toml", (*CLASSES, override))
    assert str(caught.value).startswith(f"f.toml: {says}")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("devices.seen=7", "devices.seen: 7 seen devices, but the task has data for 6"),
        (
            "evaluation.devices=3",
            "evaluation.devices: 3 validation devices, but the task has data ",
        ),
        ("evaluation.unseen=3", "evaluation.unseen: 3 unseen devices, but the task has data for 2"),
        ("strategy.query=16", "strategy.query: 0 + 16 samples of a device, but the task has 15"),
        ("evaluation.query=11", "evaluation.query: 5 + 11 samples of a device, but the task has"),
    ],
)
def test_a_table_has_so_many_devices(override: str, says: str):
    table = (
        *CLASSES, "task={name='tabular', data='iris'}", "model.layers=[{units=3}]",
        "devices.seen=6", "evaluation={devices=2, support=5, query=10}",
    )  # fmt: skip
    parse(SMALL, "f.toml", table)
    with pytest.raises(TinyMetaFedError, match=f"f.toml: {re.escape(says)}"):
        parse(SMALL, "f.toml", (*table, override))


CONVOLUTION = "model.layers=[{type='conv2d', filters=2, stride=2, activation='relu'}, {units=5}]"


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ((), (14, 14)),
        (("task.size=28",), (28, 28)),
        (("model.shape=[49, 2, 2]", "model.layers=[{type='conv2d', filters=2, size=1}, {units=5}]"),
            (49, 2)),
        (("task={name='keywords', data='fsdd', step=20}",), (49, 10)),
    ],
)  # fmt: skip
def test_layers_see_a_sample_as_the_task_or_the_model_says(
    changes: tuple[str, ...], seen: tuple[int, int]
):
    model = parse(SMALL, "f.toml", (*CLASSES, CONVOLUTION, *changes)).built_model
    assert model.layers[0].arguments[:2] == seen
    assert model.inputs == math.prod(seen) * (2 if "shape" in "".join(changes) else 1)


def test_a_shape_of_other_values_than_the_task_s():
    with pytest.raises(TinyMetaFedError, match=r"model.shape: 14 × 7 × 1 are 98 values, a sample"):
        parse(SMALL, "f.toml", (*CLASSES, "model.shape=[14, 7, 1]"))


def test_every_error_has_a_line():
    with pytest.raises(TinyMetaFedError) as caught:
        parse(SMALL, "f.toml", ("nodes.count=0", "seed=-1"))
    assert [line.split(":")[1].strip() for line in str(caught.value).splitlines()] == [
        "seed", "nodes.count",
    ]  # fmt: skip


def test_a_key_that_is_missing():
    with pytest.raises(TinyMetaFedError, match="f.toml: rounds: missing"):
        parse(SMALL.replace("rounds = 4", ""), "f.toml")


@pytest.mark.parametrize("override", ["rounds", "=3", "rounds.more=3"])
def test_an_override_that_cannot_be(override: str):
    with pytest.raises(TinyMetaFedError, match=f"--set {override}"):
        parse(SMALL, "f.toml", (override,))


def test_an_override_of_a_table_by_a_value():
    with pytest.raises(TinyMetaFedError, match="f.toml: model.layers.0: 1 is not allowed; use a t"):
        parse(SMALL, "f.toml", ("model.layers.0=1",))


def test_not_toml():
    with pytest.raises(TinyMetaFedError, match="f.toml: not TOML: .*line 1"):
        parse("rounds = = 3", "f.toml")


def test_a_file_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(TinyMetaFedError, match=r"nowhere\.toml: cannot be read: No such file"):
        read(tmp_path / "nowhere.toml")


def test_overrides_change_what_they_name(experiment: MakeExperiment):
    settings = experiment("nodes.count=8", "strategy.percent=12.5", "name=other")
    assert (settings.nodes.count, settings.name) == (8, "other")
    assert isinstance(settings.strategy, TinyMetaFed)
    assert settings.strategy.percent == 12.5
    assert settings.rounds == 4


@pytest.mark.parametrize("name", STRATEGIES)
def test_settings_are_stored_as_they_are(experiment: MakeExperiment, name: str):
    settings = experiment(*STRATEGIES[name])
    again = Experiment.model_validate_json(settings.model_dump_json())
    assert (again, hash(again)) == (settings, hash(settings))
