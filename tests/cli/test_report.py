"""A report on runs, and a store that cannot be written."""

import csv
import os
from contextlib import closing
from pathlib import Path

import pytest

from calling import call
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.report import following
from tinymetafed.results.store import Store


def test_a_report_on_runs_by_name_and_number(folder: Path, compared: Store):
    place = str(compared.folder)
    called = call(folder, "report", "reptile", "2", "7", "--figures", "figures", TMF_RUNS=place)
    assert called.returncode == 0, called.stderr
    files = list((folder / "figures").iterdir())
    assert called.stdout == f"Page report.html\n{len(files)} files in figures\n"
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")
    with (folder / "figures/runs.csv").open() as file:
        assert [row["run"] for row in csv.DictReader(file)] == ["2", "6", "7"]
    for arguments, says in (
        (("8",), f"error: {place}/runs.sqlite: no run '8'; there are: 1, 2, 3, 4, 5, 6, 7\n"),
        (("1", "-o", "no/page.html"), "error: no/page.html: cannot be written: No such file"),
        (("1", "--baseline", "x"), "error: --baseline x: no such strategy; there are: tinymetafed"),
        (("1", "none.toml"), "error: give one comparison file, or numbers and names of runs"),
        (("paper",), f"error: {place}/runs.sqlite: no run 'paper'; there are"),
    ):
        called = call(folder, "report", *arguments, TMF_RUNS=place)
        assert called.returncode == 1
        assert called.stderr.startswith(says)
        assert len(called.stderr.splitlines()) == 1


COMPARISON = """
name = "two"
seeds = [1, 2]
tasks = [{ label = "waves", experiment = "small.toml", target = 3.0 }]
strategies = [
    { label = "P = 50%, <whole>", name = "tinymetafed" },
    { label = "Reptile", name = "reptile", query = 6 },
]
"""


def test_a_comparison_is_shown_under_the_labels_of_its_file(folder: Path):
    """By 'compare', by 'report' from the file or, where that is gone, by its name, and, once it has
    changed, what of it is there."""
    (folder / "two.toml").write_text(COMPARISON)
    (folder / "broken").mkdir()
    (folder / "broken/vl_convert.py").write_text("raise ImportError(name='vl_convert')\n")
    without = {"PYTHONPATH": _first(folder / "broken")}
    wrong = call(folder, "compare", "two.toml", "--report", "page.html", **without)
    assert wrong.returncode == 1
    assert "pip install 'tinymetafed[report]'" in wrong.stderr
    assert not (folder / "runs").exists()  # nothing has run for it
    none = call(folder, "report", "two.toml")
    assert (none.returncode, none.stdout) == (1, "")
    asked = ("--report", "page.html", "--figures", "figures", "--width", "7.16")
    called = call(folder, "compare", "two.toml", *asked, "--baseline", "Reptile")
    assert called.returncode == 0, called.stderr
    assert "Page page.html\n" in called.stdout
    with (folder / "figures/waves-1-result.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["strategy"] for row in rows] == ["P = 50%, <whole>", "Reptile"]
    assert "rounds to loss ≤ 3" in rows[0]
    assert rows[1]["bytes ÷ Reptile"] == ""
    assert float(rows[0]["bytes ÷ Reptile"].partition("×")[0]) < 1
    called = call(folder, "report", "two.toml", "-o", "other.html", "--baseline", "Reptile")
    assert called.returncode == 0, called.stderr
    assert (folder / "other.html").read_text() == (folder / "page.html").read_text()
    (folder / "two.toml").unlink()
    called = call(folder, "report", "two", "-o", "named.html")
    assert called.returncode == 0, called.stderr
    assert (folder / "named.html").read_text() == (folder / "page.html").read_text()
    called = call(folder, "report", "two", "--target", "1")
    assert called.stderr == "error: --target: the comparison has a target for each task\n"
    more = COMPARISON.replace("[1, 2]", "[1, 2, 3]")
    (folder / "two.toml").write_text(more)
    called = call(folder, "report", "two.toml")
    assert called.returncode == 0, called.stderr
    assert "1 seed not at the end" in (folder / "report.html").read_text()


def test_following_ends_with_the_runs(folder: Path, compared: Store):
    called = call(folder, "report", "1", "--follow", TMF_RUNS=str(compared.folder))
    assert called.returncode == 0, called.stderr
    assert called.stdout.splitlines()[-1] == "Page report.html"
    assert 'id="reload"' not in (folder / "report.html").read_text()


def test_without_the_extra_it_is_named(folder: Path, compared: Store):
    (folder / "vl_convert.py").write_text("raise ImportError(name='vl_convert')\n")
    place = {"TMF_RUNS": str(compared.folder), "PYTHONPATH": _first(folder)}
    called = call(folder, "report", "1", **place)
    assert called.returncode == 1
    assert called.stderr == (
        "error: a report needs the extra report (vl_convert is not installed): pip install "
        "'tinymetafed[report]'\n"
    )


def _first(folder: Path) -> str:
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH", ""))))


def test_a_folder_that_cannot_be_written(folder: Path):
    called = call(folder, "run", "small.toml", TMF_RUNS="/proc/nowhere")
    assert called.returncode == 1
    assert "/proc/nowhere" in called.stderr


def test_who_names_no_run_is_told_of_comparisons_too(tmp_path: Path):
    with closing(Store(tmp_path)) as store:
        for name in ("two", "paper"):
            store.put_comparison(name, "{}", "[]")
        source = following.Source(store, ["nosuch"])
        with pytest.raises(TinyMetaFedError) as error:
            source.read()
    says = "no run 'nosuch'; there is none yet; comparisons: paper, two"
    assert str(error.value) == f"{tmp_path}/runs.sqlite: {says}"
