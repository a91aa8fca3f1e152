"""What is logged for TensorBoard is what is in the store."""

import importlib
import math
import struct
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from conftest import SMALL
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import runner
from tinymetafed.experiments.experiment import parse
from tinymetafed.results.store import Store
from tinymetafed.tasks.base import Part
from tinymetafed.tensorboard import TensorBoard

Event = importlib.import_module("tensorboardX.proto.event_pb2").Event  # its types are not known
Curves = dict[str, dict[int, float]]


def _read(folder: Path) -> Curves:
    """Of all event files in a folder: records of a length, its checksum, data, and theirs."""
    curves: Curves = defaultdict(dict)
    for path in folder.iterdir():
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack_from("<Q", data)
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                assert event.step not in curves[value.tag]
                curves[value.tag][event.step] = value.simple_value
    return curves


def test_curves_of_a_run_that_went_on(tmp_path: Path):
    experiment, store = parse(SMALL, "SMALL"), Store(tmp_path / "runs")

    def stop(done: int, doing: str) -> None:
        if (done, doing) == (3, "training"):
            raise InterruptedError

    with TensorBoard(tmp_path / "log") as board, pytest.raises(InterruptedError):
        runner.execute(experiment, store, None, stop, on_round=board)
    with TensorBoard(tmp_path / "log") as board:
        runner.execute(experiment, store, store.run("1"), lambda *_: None, on_round=board)
    curves = _read(tmp_path / "log/run-1")
    rows = store.node_rounds(1)
    for way in ("down", "up"):
        assert curves[f"bytes/{way}"] == {
            number: sum(getattr(row, f"bytes_{way}") for row in rows if row.round == number)
            for number in (1, 2, 3, 4)
        }
    parts: tuple[tuple[str, Part, set[int]], ...] = (
        ("loss", "validation", {2, 4}), ("unseen_loss", "unseen", {4}),
    )  # fmt: skip
    for tag, part, rounds in parts:
        judged = {one.round: one for one in store.judged(1, part) if one.round}
        assert set(judged) == rounds
        for when in ("before", "after"):
            found = curves[f"{tag}/{when}_adaptation"]
            assert found == pytest.approx(
                {number: getattr(one, f"loss_{when}") for number, one in judged.items()}, rel=1e-6
            )
    assert sum(curves["seconds"].values()) <= store.run("1").seconds
    assert not any(math.isnan(value) for curve in curves.values() for value in curve.values())
    assert "accuracy/after_adaptation" not in curves
    other = Store(tmp_path / "other")
    with (
        TensorBoard(tmp_path / "log") as board,
        pytest.raises(TinyMetaFedError, match="run-1: has the rounds of another store's run 1"),
    ):
        runner.execute(experiment, other, None, lambda *_: None, on_round=board)


def test_what_is_missing_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    with pytest.raises(TinyMetaFedError, match="file/log: cannot be written: Not a directory"):
        TensorBoard(tmp_path / "file/log")
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(TinyMetaFedError, match=r"pip install 'tinymetafed\[tensorboard\]'"):
        TensorBoard(tmp_path / "log")
