"""The weights that the project's experiments end with are those that were recorded, bit for bit: of
each experiment's first rounds, and of each strategy on each task of the comparisons."""

from pathlib import Path

import pytest

import recording
from conftest import FindReal
from tinymetafed.tasks import datasets

SHORT = recording.RECORDED["short"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the tests share: what is made of a data set takes longer than a run."""
    return tmp_path_factory.mktemp("prepared")


def _check(name: str, backend: str, folder: Path) -> None:
    expected = SHORT[name]
    found = recording.play(recording.short(name, expected["rounds"], backend), folder)
    assert found.sha256 == expected["sha256"]
    # Of adaptation, which leaves no trace in the weights.
    assert found.loss == pytest.approx(expected["loss_after"], rel=1e-6)


@pytest.mark.parametrize("name", SHORT)
def test_weights_are_those_recorded(
    tmp_path: Path,
    real_data: FindReal,
    monkeypatch: pytest.MonkeyPatch,
    prepared: Path,
    name: str,
):
    for file in recording.files(recording.experiment(name)):
        real_data(file)
    monkeypatch.setattr(datasets, "CACHE", prepared)
    _check(name, "host", tmp_path / "runs")


@pytest.mark.parametrize("name", ["demo", "reptile", "smoke"])
def test_emulated_nodes_end_in_the_same(tmp_path: Path, name: str):
    _check(name, "qemu", tmp_path)


def test_every_experiment_is_recorded():
    """That of a comparison by its first seed."""
    names = [name for name in recording.names() if "/" not in name or name.endswith("/1")]
    assert sorted(SHORT) == sorted(names)
