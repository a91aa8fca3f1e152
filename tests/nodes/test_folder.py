"""Private folders, and what becomes of them when their process ends as it should not."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tinymetafed.errors import TinyMetaFedError
from tinymetafed.nodes import folder
from tinymetafed.nodes.folder import private_directory


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of this process and its children."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return place


KILLED = """
import os, signal
from tinymetafed.nodes.folder import private_directory
with private_directory() as directory:
    (directory / "inner").mkdir()
    (directory / "inner/node-0.log").write_text("something")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_start_removes_what_a_dead_process_left(temporary: Path):
    with private_directory() as living:
        subprocess.run([sys.executable, "-c", KILLED], check=False)
        assert len(list(temporary.iterdir())) == 2
        others = {temporary / f"{folder.PREFIX}{name}" for name in ("being-made", "file")}
        for other in others:
            other.mkdir()
        (temporary / f"{folder.PREFIX}link").symlink_to(living)
        with private_directory() as own:
            kept = {living, own, temporary / f"{folder.PREFIX}link", *others}
            assert set(temporary.iterdir()) == kept
            assert stat.S_IMODE(own.stat().st_mode) == 0o700


def test_a_folder_of_somebody_else_is_left_alone(temporary: Path, monkeypatch: pytest.MonkeyPatch):
    subprocess.run([sys.executable, "-c", KILLED], check=False)
    (left,) = temporary.iterdir()
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    with private_directory():
        assert left.exists()


def test_logs_that_say_something_stay_after_an_error(temporary: Path):
    with pytest.raises(TinyMetaFedError), private_directory() as directory:  # noqa: PT012
        for name in ("uart", "dma"):
            (directory / name).mkdir()
            (directory / name / "node-0.counts").touch()
            (directory / name / "node-0.log").write_text("no kernel\n" if name == "uart" else "")
        raise TinyMetaFedError
    (left,) = (path for path in temporary.rglob("*") if path.is_file())
    assert left.name == "node-0.log"
    assert left.parent.name == "uart"
    with private_directory():  # nor does the next start remove them
        assert left.exists()


def test_nothing_stays_after_anything_else(temporary: Path):
    with pytest.raises(KeyboardInterrupt), private_directory() as directory:  # noqa: PT012
        (directory / "node-0.log").write_text("something")
        raise KeyboardInterrupt
    assert not list(temporary.iterdir())


def test_a_short_path_where_the_usual_one_is_long(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
):
    assert len(str(temporary)) < 200
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / ("long" * 40)))
    Path(tempfile.gettempdir()).mkdir()
    with private_directory(short=True) as directory:
        assert len(os.fsencode(directory)) <= folder.SHORT
    monkeypatch.setattr(folder, "PLACES", ())
    with (
        pytest.raises(TinyMetaFedError, match="path is too long.*TMPDIR"),
        private_directory(short=True),
    ):
        pass


def test_no_place_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with (
        pytest.raises(TinyMetaFedError, match=r"no folder for .*nowhere.*TMPDIR"),
        private_directory(),
    ):
        pass
