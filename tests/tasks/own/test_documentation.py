"""What the documentation of a user's own data shows is what it says."""

import re
from pathlib import Path

import pytest

from tinymetafed.experiments.experiment import read
from tinymetafed.places import PROJECT
from tinymetafed.tasks import Audio, Images, Signals, Table
from tinymetafed.tasks.base import Part

TEXT = (PROJECT / "docs/your-data.md").read_text("utf-8")


def test_the_first_example_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    exec(re.findall(r"```python\n(.*?)```", TEXT, re.S)[0], {})
    Path("digits.toml").write_text(re.findall(r"```toml\n(.*?)```", TEXT, re.S)[0])
    experiment = read(tmp_path / "digits.toml")
    task = experiment.task
    assert (task.shape, task.outputs) == ((8, 8, 1), 10)
    split: tuple[tuple[Part, int], ...] = (("seen", 28), ("validation", 6), ("unseen", 6))
    for part, devices in split:
        assert task.limits(part=part).devices == devices
    task.prepare(experiment.seed)
    support, query = task.device(experiment.seed, 0, 20, 24, part="unseen")
    assert (len(support), len(query)) == (20, 24)


@pytest.mark.parametrize("kind", [Audio, Images, Signals, Table])
def test_every_setting_is_explained(kind: type[Table]):
    known = set(re.findall(r"`([a-z_]+)[ `=]", TEXT))
    assert set(kind.model_fields) - {"name", "found"} <= known
