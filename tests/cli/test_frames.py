"""The listing of recorded frames."""

import json
from pathlib import Path

import pytest

from calling import call
from conftest import SMALL
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.report.frames import read

GOOD = {
    "time": 0.5, "round": 1, "node": 0, "direction": "down", "bytes": "0102", "sequence": 3,
    "messages": [{"kind": "train", "size": 1, "rate": 0.25}],
}  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the frames of a run in f.jsonl."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "small.toml").write_text(SMALL)
    ran = call(folder, "run", "small.toml", "--frames", "f.jsonl")
    assert ran.returncode == 0, ran.stderr
    return folder


def test_frames_are_listed_filtered_and_added_up(recorded: Path):
    every = call(recorded, "frames", "f.jsonl")
    assert every.returncode == 0, every.stderr
    lines = [json.loads(line) for line in (recorded / "f.jsonl").read_text().splitlines()]
    listed = [line for line in every.stdout.splitlines() if "↓" in line[:30] or "↑" in line[:30]]
    assert len([line for line in listed if line[0] != "│"]) == len(lines)
    some = call(
        recorded, "frames", "f.jsonl", "--node", "2", "--round", "3", "--kind", "train", "--bytes"
    )
    (line,) = [
        one for one in lines
        if (one["node"], one["round"], one["direction"]) == (2, 3, "down")
    ]  # fmt: skip
    head, shown, data, *_ = some.stdout.splitlines()
    assert head.split() == ["seconds", "round", "node", "bytes", "frame", "messages"]
    assert shown.split()[1:4] == ["3", "2", "↓"]
    assert "train rate=0.01 frozen=" in shown
    assert data.split() == [line["bytes"]]
    none = call(recorded, "frames", "f.jsonl", "--kind", "fault")
    assert (none.returncode, none.stdout) == (0, "No frame is such.\n")


def test_the_sums_are_of_all_bytes(recorded: Path):
    lines = [json.loads(line) for line in (recorded / "f.jsonl").read_text().splitlines()]
    down = sum(len(one["bytes"]) // 2 for one in lines if one["direction"] == "down")
    shown = call(recorded, "frames", "f.jsonl", "--summary").stdout
    (row,) = [line for line in shown.splitlines() if "↓" in line and "all frames" in line]
    assert row.replace("│", " ").split()[-1] == f"{down:,}"


def test_a_last_line_that_is_not_whole_is_left_out(recorded: Path):
    whole = call(recorded, "frames", "f.jsonl").stdout
    cut = (recorded / "f.jsonl").read_text() + json.dumps(GOOD)[:40]
    (recorded / "cut.jsonl").write_text(cut)
    called = call(recorded, "frames", "cut.jsonl")
    assert (called.returncode, called.stdout) == (0, whole)
    assert "the last line is not whole" in called.stderr


@pytest.mark.parametrize(
    "line",
    [
        "", "[]", "null", "17", "{}", '{"time": 1', "\xff", json.dumps({**GOOD, "node": "0"}),
        json.dumps({**GOOD, "bytes": "0"}), json.dumps({**GOOD, "direction": "left"}),
        json.dumps({**GOOD, "messages": [1]}), json.dumps({**GOOD, "messages": "abc"}),
        json.dumps({**GOOD, "sequence": None}), json.dumps({**GOOD, "refused": 3}), "[" * 100_000,
    ],
)  # fmt: skip
def test_a_line_that_is_no_frame_is_named(tmp_path: Path, line: str):
    file = tmp_path / "f.jsonl"
    file.write_text(f"{json.dumps(GOOD)}\n{line}\n", encoding="latin-1")
    with pytest.raises(TinyMetaFedError, match=f"^{file}, line 2: no frame; name a file that"):
        list(read(file))


def test_what_is_damaged_is_shown_as_such_and_moves_no_terminal(folder: Path):
    refused = {**GOOD, "refused": "not COBS \x1b[2J", "messages": [], "sequence": None}
    lost = {**GOOD, "lost": True, "messages": [{"kind": "[red]\x1b", "size": 1}]}
    (folder / "f.jsonl").write_text(f"{json.dumps(refused)}\n{json.dumps(lost)}\n")
    called = call(folder, "frames", "f.jsonl")
    assert called.returncode == 0, called.stderr
    _, first, second, *table = called.stdout.splitlines()
    assert first.endswith(r"refused: not COBS \x1b[2J")
    assert second.endswith(r"lost: [red]\x1b")
    assert any("refused" in line for line in table)
    assert call(folder, "frames", "f.jsonl", "--kind", "lost").stdout.count("lost: ") == 1


def test_wrong_arguments(folder: Path):
    called = call(folder, "frames", "f.jsonl", "--kind", "weigths")
    assert called.returncode == 2
    assert "is no message" in called.stderr
    called = call(folder, "frames", "none.jsonl")
    assert called.stderr == "error: none.jsonl: cannot be read: No such file or directory\n"
