"""Experiments that come with the bench are found by name."""

from pathlib import Path

import pytest

from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import comparison, experiment, shipped
from tinymetafed.places import EXPERIMENTS


def test_each_has_one_kind():
    experiments, comparisons = shipped.names("experiment"), shipped.names("comparison")
    assert "demo" in experiments
    assert "paper" in comparisons
    assert sorted(experiments + comparisons) == sorted(p.stem for p in EXPERIMENTS.glob("*.toml"))


def test_an_experiment_by_name_is_the_one_of_the_file():
    by_name = experiment.read(Path("demo"), ("rounds=3",))
    assert by_name == experiment.read(EXPERIMENTS / "demo.toml", ("rounds=3",))


def test_a_comparison_by_name_is_the_one_of_the_file():
    assert comparison.read(Path("comparison")) == comparison.read(EXPERIMENTS / "comparison.toml")


@pytest.mark.parametrize("given", ["demo.toml", "/demo", "other/demo", "../demo"])
def test_a_path_is_no_name(given: str):
    assert shipped.find(Path(given), "experiment") == Path(given)


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert shipped.find(Path("demo"), "experiment") == EXPERIMENTS / "demo.toml"
    (tmp_path / "reptile").write_text("")
    assert shipped.find(Path("reptile"), "experiment") == Path("reptile")


def test_a_wrong_name_lists_those_of_its_kind():
    with pytest.raises(TinyMetaFedError) as error:
        experiment.read(Path("dmeo"))
    assert str(error.value) == (
        "dmeo: no such file, and no experiment of this name comes with the bench; there are: "
        + ", ".join(shipped.names("experiment"))
    )
    with pytest.raises(
        TinyMetaFedError, match="no comparison of this name.*: .*, comparison, .*paper"
    ):
        comparison.read(Path("papre"))


def test_a_name_of_the_other_kind_says_the_command():
    with pytest.raises(TinyMetaFedError, match="a comparison; use 'tinymetafed compare"):
        experiment.read(Path("paper"))
    with pytest.raises(TinyMetaFedError, match="an experiment; use 'tinymetafed run"):
        comparison.read(Path("demo"))
