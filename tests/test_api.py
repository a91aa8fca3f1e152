"""The public API: what `tinymetafed` has."""

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import owning
import running
import tinymetafed as tmf
from calling import call
from conftest import SMALL
from owning import OWN
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.exporting import Exported
from tinymetafed.results.store import Store


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    assert [one for one in threading.enumerate() if one.name == "tinymetafed"] == []


@pytest.fixture
def small(folder: Path) -> tmf.Experiment:
    """The experiment in small.toml."""
    return tmf.read_experiment(folder / "small.toml")


def _bits(result: tmf.Result) -> bytes:
    return result.theta.tobytes()


def _expected(experiment: tmf.Experiment, folder: Path) -> bytes:
    return running.weights(experiment, folder / "expected").tobytes()


def test_the_import_is_quick():
    code = (
        "import sys, tinymetafed; print(sorted({'numpy', 'pydantic', 'asyncio'} & {*sys.modules}))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_all_of_it_is_there_and_explained():
    assert sorted(tmf._PLACE) == sorted(tmf.__all__)
    assert {*tmf.__all__} <= {*dir(tmf)}
    for name in tmf.__all__:
        found = getattr(tmf, name)
        if callable(found) and hasattr(found, "__module__") and not hasattr(found, "__origin__"):
            assert found.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'no_such'"):
        tmf.no_such  # noqa: B018


# ---- experiments --------------------------------------------------------------------------------


def test_an_experiment_is_read_with_changes_or_built(folder: Path):
    path = folder / "small.toml"
    by_key = tmf.read_experiment(path, {"nodes.count": 2, "strategy.percent": 20.0})
    assert by_key == tmf.read_experiment(str(path), ["nodes.count=2", "strategy.percent=20"])
    tree = by_key.model_dump()
    assert tmf.build_experiment(tree) == by_key


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"nodes.cuont": 2}, r"small.toml: nodes.cuont: unknown key"),
        ({"rounds.x": 2}, r"rounds.x: rounds is neither a table nor a list"),
        ({"model.layers.9.units": 1}, r"model.layers.9.units: no index '9' of a list"),
    ],
)
def test_a_change_that_is_wrong(folder: Path, changes: dict[str, object], says: str):
    with pytest.raises(TinyMetaFedError, match=says):
        tmf.read_experiment(folder / "small.toml", changes)


def test_what_is_built_is_relative_to_its_folder(tmp_path: Path, small: tmf.Experiment):
    owning.write(tmp_path)
    tree = small.model_dump() | {"strategy": {"name": "./momentum.py:Momentum"}}
    built = tmf.build_experiment(tree, tmp_path)
    assert built.strategy.name == f"{tmp_path}/momentum.py:Momentum"
    with pytest.raises(TinyMetaFedError, match=r"experiment: strategy.name: .*cannot be read"):
        tmf.build_experiment(tree, tmp_path / "elsewhere")


# ---- runs ---------------------------------------------------------------------------------------


def test_a_run(small: tmf.Experiment, folder: Path):
    seen: list[tmf.RoundReport] = []
    result = tmf.run(small, on_round=seen.append, store=folder)
    assert _bits(result) == _expected(small, folder)
    assert [one.number for one in seen] == [1, 2, 3, 4]
    assert {one.accuracy for one in seen} == {None}  # there are no classes
    assert [one.loss is None for one in seen] == [True, False, True, False]
    curve = result.learning_curve
    assert curve.index.tolist() == [0, 2, 4]
    assert [one.loss for one in seen if one.loss is not None] == pytest.approx(
        curve["loss_after"].tolist()[1:]
    )
    sums = [one["bytes_up"].to_numpy().sum() for _, one in result.bytes.groupby("round")]
    assert [one.bytes_up for one in seen] == sums
    assert (result.done, result.rounds, result.name) == (4, 4, "test")
    assert result.experiment == small


def test_a_run_by_the_name_of_its_file_in_the_usual_store(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder)
    result = tmf.run("small.toml")
    assert result.folder.resolve() == tmf.result().folder.resolve()
    assert [one.id for one in tmf.runs()] == [1]
    shown = call(folder, "show", "1")
    assert shown.returncode == 0


def test_a_run_in_a_loop_that_is_running(small: tmf.Experiment, folder: Path):
    async def in_a_notebook() -> bytes:
        result = tmf.run(small, store=folder)
        assert result.adapt(0).predict([[1.0]]).shape == (1, 1)
        return _bits(result)

    assert asyncio.run(in_a_notebook()) == _expected(small, folder)


def test_runs_in_threads(small: tmf.Experiment, folder: Path):
    found: list[bytes] = []

    def work() -> None:
        found.append(_bits(tmf.run(small, store=folder)))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == [_expected(small, folder)] * 3


def test_a_run_that_is_stopped_goes_on(small: tmf.Experiment, folder: Path):
    def stop(report: tmf.RoundReport) -> None:
        if report.number == 2:
            report.stop()

    stopped = tmf.run(small, on_round=stop, store=folder)
    assert stopped.done == 2
    resumed = tmf.resume(stopped.id, store=folder)
    assert (resumed.id, resumed.done) == (stopped.id, 4)
    assert _bits(resumed) == _expected(small, folder)


def test_a_loop_over_rounds_that_is_left_goes_on(small: tmf.Experiment, folder: Path):
    rounds = tmf.rounds(small, store=folder)
    with pytest.raises(TinyMetaFedError, match="has not begun"):
        _ = rounds.result
    for report in rounds:
        if report.number == 3:
            break
    assert rounds.result.done == 3
    assert [report.number for report in rounds] == [4]
    assert _bits(rounds.result) == _expected(small, folder)
    assert [report.number for report in rounds] == []


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_what_the_caller_raises_ends_the_run(
    small: tmf.Experiment, folder: Path, error: type[BaseException]
):
    def fail(report: tmf.RoundReport) -> None:
        if report.number == 2:
            raise error

    with pytest.raises(error):
        tmf.run(small, on_round=fail, store=folder)
    assert tmf.result(store=folder).done == 2
    assert _bits(tmf.resume(store=folder)) == _expected(small, folder)


def test_ctrl_c_amid_a_round(small: tmf.Experiment, folder: Path):
    (folder / "own.py").write_text(
        "import _thread\nfrom tinymetafed import MiniBatchSGD\n"
        "class Own(MiniBatchSGD):\n"
        "    def program(self, state, model, at):\n"
        "        if at.number == 2:\n"
        "            _thread.interrupt_main()\n"
        "        return super().program(state, model, at)\n"
    )
    changes = {"strategy": {"name": "./own.py:Own", "query": 6}, "rounds": 100_000}
    experiment = tmf.read_experiment(folder / "small.toml", changes)
    with pytest.raises(KeyboardInterrupt):
        tmf.run(experiment, store=folder)
    assert 2 <= tmf.result(store=folder).done < 100_000


def test_what_is_wrong_is_raised_where_it_is_run(folder: Path):
    owning.write(folder)
    text = owning.MOMENTUM.replace("self.momentum *", "self.mom *")
    (folder / "momentum.py").write_text(text)
    (folder / "own.toml").write_text(SMALL)
    experiment = tmf.read_experiment(folder / "own.toml", [OWN])
    with pytest.raises(tmf.PluginError, match=r"momentum.py:18: AttributeError") as caught:
        tmf.run(experiment, store=folder)
    assert isinstance(caught.value.__cause__, AttributeError)
    with pytest.raises(TinyMetaFedError, match="no run '99'"):
        tmf.result(99, store=folder)


# ---- results ------------------------------------------------------------------------------------


def test_tables_are_what_the_store_has(small: tmf.Experiment, folder: Path):
    store, run = running.execute(small, folder)
    result = tmf.result(run.id, store=folder)
    rows = store.node_rounds(run.id)
    assert result.bytes["bytes_down"].tolist() == [one.bytes_down for one in rows]
    assert result.bytes.index.tolist() == [(one.round, one.node) for one in rows]
    evaluated = store.evaluations(run.id)
    assert result.evaluations["loss_after"].tolist() == [one.loss_after for one in evaluated]
    assert np.isnan(result.evaluations["accuracy_after"].to_numpy()).all()
    assert result.evaluations["part"].tolist() == [one.part for one in evaluated]
    for found, part, rounds in (
        (result.learning_curve, "validation", [0, 2, 4]), (result.final, "unseen", [4]),
    ):  # fmt: skip
        assert found.index.tolist() == rounds
        assert found["devices"].tolist() == [5] * len(rounds)
        assert set(found["part"]) == {part}
        losses = [row.loss_after for row in evaluated if row.part == part and row.round == 4]
        mean = np.mean(np.array(losses, np.float64))
        assert found["loss_after"].tolist()[-1] == pytest.approx(mean)
    assert result.energy.empty  # on host nodes
    assert result.events.empty
    assert result.faults.empty
    assert "numpy" in result.versions


def test_the_energy_of_emulated_nodes(folder: Path):
    changes = {"nodes": {"backend": "qemu", "count": 1}, "rounds": 1, "evaluation.devices": 1}
    result = tmf.run(tmf.read_experiment(folder / "small.toml", changes), store=folder)
    store = Store(folder)
    entries = running.ledger(store, store.run("last"))
    assert result.energy["joules"].to_numpy().sum() == pytest.approx(
        sum(one.joules for one in entries)
    )
    assert {"learn", "radio transmit"} <= {*result.energy.index.get_level_values("account")}


def test_events(small: tmf.Experiment, folder: Path):
    experiment = tmf.read_experiment(
        folder / "small.toml", ["faults.links=[{lost_frames=0.3}]", "nodes.timeout=0.05"]
    )
    result = tmf.run(experiment, store=folder)
    assert "repetition" in {*result.events["kind"]}
    assert result.events["text"].str.len().min() > 0
    assert result.faults.empty


def test_weights_by_layer_are_those_of_the_export(small: tmf.Experiment, folder: Path):
    result = tmf.run(small, store=folder)
    store = Store(folder)
    list(Exported(store, store.run("last")).write(folder / "weights.npz"))
    with np.load(folder / "weights.npz") as saved:
        assert result.weights.keys() == {*saved} - {"layers", "metadata"}
        for name, one in result.weights.items():
            assert one.dtype == np.float32
            assert np.array_equal(one, saved[name])


def test_a_device_adapts_and_predicts(small: tmf.Experiment, folder: Path):
    result = tmf.run(small, store=folder)
    adapted = result.adapt(2)
    store = Store(folder)
    exported = Exported(store, store.run("last"), 2)
    assert np.array_equal(adapted.theta, exported.theta)
    support, query = adapted.support, adapted.query
    outputs = adapted.predict(query.inputs)
    assert np.array_equal(outputs, exported.predicted(query.inputs))
    # As the last evaluation has judged it.
    judged = result.evaluations.loc[(4, 1007), "loss_after"]
    assert np.mean((outputs - query.targets) ** 2) == pytest.approx(judged, rel=1e-5)
    own = result.adapt(inputs=support.inputs.tolist(), targets=support.targets.tolist())
    assert np.array_equal(own.theta, adapted.theta)
    assert len(own.query) == 0
    assert not np.array_equal(result.predict(query.inputs), outputs)


def test_what_cannot_be_adapted_to(small: tmf.Experiment, folder: Path):
    result = tmf.run(small, store=folder)
    for wrong, says in (
        ({}, "either device or inputs and targets"),
        ({"device": 1, "inputs": [[1]]}, "either device or inputs and targets"),
        ({"device": 5}, "device 5: there are 5 unseen ones, from 0"),
        ({"inputs": [[1, 2]], "targets": [[1]]}, "the model takes float32 [n, 1]"),
        ({"inputs": [["a"]], "targets": [[1]]}, "numbers are needed"),
        ({"inputs": [[1]], "targets": [[3e38]]}, "these samples: its adaptation diverges"),
    ):
        with pytest.raises(TinyMetaFedError, match=re.escape(says)):
            result.adapt(**wrong)  # type: ignore[arg-type]


def test_without_pandas_it_is_said_what_to_install(
    small: tmf.Experiment, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    result = tmf.run(small, store=folder)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(TinyMetaFedError, match=r"pip install 'tinymetafed\[pandas\]'"):
        _ = result.bytes
    assert result.weights
