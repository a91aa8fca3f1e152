"""Files and arguments that a user may give: one line where they are wrong, the value where not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from calling import call
from conftest import SMALL, MakeExperiment
from printing import printed
from running import execute
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import comparison
from tinymetafed.experiments.experiment import parse, read
from tinymetafed.files import escaped, writing
from tinymetafed.report import summary


def _layers(*changes: str) -> list[dict[str, object]]:
    experiment = parse(SMALL, "SMALL", changes)
    return [json.loads(one.model_dump_json()) for one in experiment.model.layers]


def test_an_index_of_a_list_is_a_key():
    layers = _layers("model.layers.0.units=10", "model.layers.1.activation=tanh")
    assert [one["units"] for one in layers] == [10, 5, 1]
    assert layers[1]["activation"] == "tanh"
    assert _layers("model.layers.0={units=7}")[0]["units"] == 7
    assert parse(SMALL, "SMALL", ("task.x=[0.0, 1.0]", "task.x.1=2.0")).task.model_dump()["x"] == (
        0,
        2,
    )


@pytest.mark.parametrize("index", ["3", "-1", "x", "99999999999999999999", "٣", ""])
def test_an_index_that_is_not_there_is_named(index: str):
    with pytest.raises(TinyMetaFedError) as raised:
        _layers(f"model.layers.{index}.units=10")
    says = str(raised.value)
    assert says.startswith(f"--set model.layers.{index}.units=10: ")
    assert "0 to 2" in says or "expected KEY=VALUE" in says


@pytest.mark.parametrize("given", ["seed", "=3", "a..b=3", ".=1", "seed.x=1", "name.0=x"])
def test_a_change_that_is_none_is_one_line(given: str):
    with pytest.raises(TinyMetaFedError) as raised:
        parse(SMALL, "SMALL", (given,))
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    "encoded",
    [SMALL.encode("utf-8-sig"), SMALL.replace("\n", "\r\n").encode()],
    ids=["byte-order mark", "CRLF"],
)
def test_a_file_of_windows_is_read(tmp_path: Path, encoded: bytes):
    (tmp_path / "small.toml").write_bytes(encoded)
    assert read(tmp_path / "small.toml") == parse(SMALL, "SMALL")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (SMALL.encode("utf-16"), "not UTF-8 text"),
        ("name = 'é'".encode("latin-1"), "not UTF-8 text"),
        (b"a = " + b"[" * 100_000, "not TOML"),
        (b"#" * 2**21, "larger than 1 MiB"),
        (b"\0", "not TOML"),
        (b"a = " + b"9" * 10_000, "not TOML"),
        (b"", "missing"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_file_that_is_no_experiment(tmp_path: Path, data: bytes, says: str):
    path = tmp_path / "file.toml"
    path.write_bytes(data)
    with pytest.raises(TinyMetaFedError, match=says):
        read(path)


def test_a_file_of_another_kind_names_its_command(tmp_path: Path, folder: Path):
    (tmp_path / "both.toml").write_text("name = 'x'\nseeds = [1]\n")
    (tmp_path / "card.toml").write_text("name = 'x'\nlicence = 'y'\ncitation = 'z'\n")
    with pytest.raises(
        TinyMetaFedError, match=r"a comparison; use 'tinymetafed compare .*both\.toml'"
    ):
        read(tmp_path / "both.toml")
    with pytest.raises(
        TinyMetaFedError, match=r"an experiment; use 'tinymetafed run .*small\.toml'"
    ):
        comparison.read(folder / "small.toml")
    with pytest.raises(TinyMetaFedError, match="a data set's card"):
        read(tmp_path / "card.toml")
    with pytest.raises(TinyMetaFedError, match="use 'tinymetafed run --resume 12'"):
        read(Path("12"))
    with pytest.raises(TinyMetaFedError, match="Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        "rounds=0", "seed=-1", f"seed={2**63}", "name=''", "name='a/b'", "name='\\u001b[31m'",
        f"name='{'x' * 10_000}'", "strategy.outer_rate=nan", "strategy.outer_rate=inf",
        "task.x=[0.0, inf]", "nodes.count=0", "evaluation.devices=0",
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_one_short_line(change: str):
    with pytest.raises(TinyMetaFedError) as raised:
        parse(SMALL, "SMALL", (change,))
    says = str(raised.value)
    assert len(says.splitlines()) == 1
    assert len(says) < 500
    assert says.isprintable()


@pytest.mark.parametrize("interval", ["inf", "1e10"])
def test_a_price_out_of_range(folder: Path, experiment: MakeExperiment, interval: str):
    store, _ = execute(experiment(), folder / "runs")
    store.close()
    called = call(folder, "energy", "1", "--interval", interval)
    assert called.returncode == 1
    assert called.stderr.startswith("error: energy: interval: ")


def test_a_loss_of_zero_at_the_start(tmp_path: Path, experiment: MakeExperiment):
    store, run = execute(experiment(), tmp_path)
    store._db.execute("UPDATE evaluation SET loss_after = 0 WHERE round = 0")
    text = printed(*summary.summary(store, run, None))
    assert "at the start" in text
    assert "│ – │" in " ".join(text.split())


@pytest.mark.parametrize("cell", ["=1+1", "+1+1", "-x", "@SUM(A1)", "\tx", "\rx", "=", "-", "--1"])
def test_a_formula_is_text(cell: str):
    assert escaped([cell]) == [f"'{cell}"]


def test_numbers_and_other_text_stay():
    cells = [-1, -1.5, "-1.5", "+2e-3", "-inf", "x=1", "", None, True]
    assert escaped(cells) == cells


def test_a_new_file_is_its_user_s_alone_whatever_the_mask_is(tmp_path: Path):
    path = tmp_path / "page.html"
    mask = os.umask(0)
    try:
        with writing(path) as file:
            file.write("what runs came to")
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]


def test_a_file_that_cannot_be_written_whole_stays(tmp_path: Path):
    path = tmp_path / "page.html"
    path.write_text("before")
    path.chmod(0o640)

    def fill(path: Path) -> None:
        with writing(path) as file:
            file.write("half of it")
            if path.is_file():
                raise OSError(28, "No space left on device")

    with pytest.raises(TinyMetaFedError, match=r"page\.html: cannot be written: No space"):
        fill(path)
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text() == "before"
    with writing(path) as file:
        file.write("after")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("after", 0o640)
    with pytest.raises(TinyMetaFedError, match="/dev/full: cannot be written: No space"):
        fill(Path("/dev/full"))
    assert Path("/dev/full").is_char_device()


def test_an_empty_variable_is_none(folder: Path):
    called = call(folder, "runs", TMF_RUNS="")
    assert called.returncode == 0
    assert not (folder / "runs.sqlite").exists()
    called = call(folder, "show", TMF_RUNS="")
    assert called.stderr == "error: runs/runs.sqlite: no run 'last'; there is none yet\n"


@pytest.mark.parametrize("output", ["full", "pipe"])
def test_output_that_nobody_takes_is_no_traceback(folder: Path, output: str):
    if output == "full":
        target = os.open("/dev/full", os.O_WRONLY)
    else:
        end, target = os.pipe()
        os.close(end)
    try:
        called = subprocess.run(
            [sys.executable, "-m", "tinymetafed", "runs"],
            cwd=folder, stdout=target, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    finally:
        os.close(target)
    assert called.returncode == 1
    expected = "error: standard output: No space left on device\n" if output == "full" else ""
    assert called.stderr == expected
