"""A report on runs, and a store that cannot be written."""

import csv
from pathlib import Path

from calling import call
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
    ):
        called = call(folder, "report", *arguments, TMF_RUNS=place)
        assert called.returncode == 1
        assert called.stderr.startswith(says)
        assert len(called.stderr.splitlines()) == 1


def test_a_folder_that_cannot_be_written(folder: Path):
    called = call(folder, "run", "small.toml", TMF_RUNS="/proc/nowhere")
    assert called.returncode == 1
    assert "/proc/nowhere" in called.stderr
