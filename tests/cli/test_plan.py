"""What a plan shows before an experiment runs."""

from pathlib import Path

from calling import call
from tinymetafed.places import PROJECT


def test_a_plan_before_the_run(folder: Path):
    called = call(folder, "plan", str(PROJECT / "experiments/smoke.toml"))
    assert called.returncode == 0, called.stderr
    titles = (
        "Layers", "A node's memory", "Devices", "Bytes of a round", "Thousands of cycles",
        "Milliseconds of a later round, BLE 1M", "Millijoules", "Radios",
    )  # fmt: skip
    places = [called.stdout.index(title) for title in titles]
    assert places == sorted(places)
    assert not (folder / "runs").exists()


def test_a_plan_of_a_model_that_does_not_fit(folder: Path):
    called = call(folder, "plan", "small.toml", "--set", "model.layers=[{units=30000},{units=1}]")
    assert called.returncode == 1
    assert called.stderr == (
        "error: small.toml: model.layers: the model and its training need 960016 bytes of a node's "
        "RAM, 221184 are available, so no round can be played\n"
    )
    for text in ("dense", "90,001", "bytes of RAM too few", "weights being trained"):
        assert text in called.stdout
    assert "Bytes of a round" not in called.stdout
