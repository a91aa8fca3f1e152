"""Nodes for which this machine has no room are refused before the first of them boots."""

import resource
from pathlib import Path

import pytest

from conftest import MakeExperiment
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.nodes import limits
from tinymetafed.nodes.backends import make_nodes
from tinymetafed.nodes.limits import MIB

GIB = 1024 * MIB


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with 2 GiB free, no control group, and 1,024 open files of 4,096 allowed."""
    (tmp_path / "meminfo").write_text(
        f"MemTotal: {8 * GIB // 1024} kB\nMemAvailable: {2 * GIB // 1024} kB\nSwapFree: 0 kB\n"
    )
    monkeypatch.setattr(limits, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(limits, "CGROUP", tmp_path)
    monkeypatch.setattr(limits, "_groups", lambda: [tmp_path / "group", tmp_path])
    (tmp_path / "group").mkdir()
    allowed = [1024, 4096]
    monkeypatch.setattr(resource, "getrlimit", lambda what: tuple(allowed))
    monkeypatch.setattr(resource, "setrlimit", lambda what, to: allowed.__setitem__(0, to[0]))
    return tmp_path


def _group(folder: Path, limit: str, current: int, cache: int) -> None:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\nactive_file 0\n")


def test_nodes_that_want_more_memory_than_is_free(
    experiment: MakeExperiment, machine: Path, tmp_path: Path
):
    settings = experiment("nodes.backend=qemu", "nodes.count=200").nodes
    with pytest.raises(TinyMetaFedError, match=r"200 qemu nodes want about 3.4 GiB, and 2.0 GiB"):
        make_nodes(settings, tmp_path)
    limits.check(experiment("nodes.backend=qemu", "nodes.count=100").nodes)
    limits.check(experiment("nodes.backend=host", "nodes.count=1000").nodes)


@pytest.mark.parametrize("where", ["group", "."])
def test_the_limits_of_control_groups_count(machine: Path, where: str):
    _group(machine / "group", "max", 0, 0)
    assert limits.free_memory() == 2 * GIB
    _group(machine / where, str(GIB), 600 * MIB, 100 * MIB)
    assert limits.free_memory() == 524 * MIB


def test_a_sample_s_nodes_are_those_of_a_round(experiment: MakeExperiment):
    changes = ("nodes.backend=host", "nodes.count=1000", "rounds=9", "nodes.emulate=1")
    limits.check(experiment(*changes, "nodes.per_round=20").nodes)
    with pytest.raises(TinyMetaFedError, match=r"200 qemu nodes want"):
        limits.check(experiment(*changes, "nodes.per_round=200").nodes)


def test_more_open_files_are_allowed_where_they_may_be(
    experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(limits, "free_memory", lambda: float("inf"))
    limits.check(experiment("nodes.backend=qemu", "nodes.count=150").nodes)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1024, 4096)
    limits.check(experiment("nodes.backend=qemu", "nodes.count=350").nodes)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1850, 4096)
    with pytest.raises(TinyMetaFedError, match="1000 nodes want about 5,100 open files, and 4,096"):
        limits.check(experiment("nodes.backend=qemu", "nodes.count=1000").nodes)
