"""Networks of runs as files, by the command line."""

from pathlib import Path

import onnx

from calling import call
from tinymetafed.results.store import Store


def test_a_network_is_written(folder: Path, compared: Store):
    place = str(compared.folder)
    called = call(folder, "export", "1", "-o", "net.onnx", "--device", "4", TMF_RUNS=place)
    assert called.returncode == 0, called.stderr
    size = (folder / "net.onnx").stat().st_size
    assert called.stdout == f"net.onnx: {size} bytes, 53 parameters\n"
    onnx.checker.check_model(folder / "net.onnx", full_check=True)
    called = call(folder, "export", "last", "-o", "net.h", TMF_RUNS=place)
    assert called.stdout.startswith("net.h, net.c: 212 bytes of weights in flash, ")


def test_what_cannot_be_written_is_one_line(folder: Path, compared: Store):
    for arguments, says in (
        (("9", "-o", "a.onnx"), f"{compared.folder}/runs.sqlite: no run '9'; there are: 1, 2, 3"),
        (("1", "-o", "a.txt"), "a.txt: write one of .onnx, .npz, .c, .h, .tflite"),
        (("1", "-o", "no/a.npz"), "no/a.npz: cannot be written: No such file or directory"),
        (("1", "-o", "a.npz", "--int8"), "a.npz: --int8 is for .tflite alone"),
        (("1", "-o", "a.npz", "--device", "5"), "--device 5: run 1 was judged on 5 unseen devices"),
    ):
        called = call(folder, "export", *arguments, TMF_RUNS=str(compared.folder))
        assert called.returncode == 1
        assert called.stderr.startswith(f"error: {says}")
        assert len(called.stderr.splitlines()) == 1
