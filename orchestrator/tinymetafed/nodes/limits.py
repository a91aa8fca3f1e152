"""Whether this machine has what so many emulated nodes take, before the first of them boots."""

import resource
from collections import Counter
from pathlib import Path

from ..errors import TinyMetaFedError
from .settings import NodeSettings

MIB = 1 << 20
NODE_MEMORY = {"qemu": 17.4 * MIB, "renode": 10 * MIB}
"""Bytes that a node adds, by backend, measured after its boot (proportional set size)."""
BENCH_MEMORY = {"qemu": 0, "renode": 300 * MIB}
"""Bytes of what nodes share."""
NODE_FILES = {"qemu": 5, "renode": 2}
"""That the orchestrator has open for a node: UART, monitor, counters, window, its process."""
BENCH_FILES = 100
CGROUP = Path("/sys/fs/cgroup")
LIMITS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
"""Files of a control group, of version 2 and of version 1."""
MEMORY = Path("/proc/meminfo")


def check(settings: NodeSettings) -> None:
    """Allows this process as many open files as the nodes need, as far as it may. Raises
    TinyMetaFedError where files, or the memory that is free, are too few for the nodes."""
    counts = Counter[str]()
    for _, kind in settings.fleet:
        if kind.emulated:  # the others take nothing of this machine
            counts[kind.backend] += kind.count
    if settings.emulate:  # these run only as long as their rounds
        counts["qemu"] = min(settings.count, settings.per_round or settings.count)
    if not counts:
        return
    need = sum(BENCH_MEMORY[one] + n * NODE_MEMORY[one] for one, n in counts.items())
    if need > (free := free_memory()):
        nodes = " and ".join(f"{n} {one}" for one, n in counts.items())
        raise TinyMetaFedError(
            f"nodes.count: {nodes} nodes want about {_size(need)}, and {_size(free)} of memory is "
            "free; use fewer nodes, or nodes.backend=host"
        )
    files = sum(n * NODE_FILES[one] for one, n in counts.items())
    _allow_files(counts.total(), BENCH_FILES + files)


def _allow_files(count: int, need: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= need:
        return
    if hard != resource.RLIM_INFINITY and hard < need:
        raise TinyMetaFedError(
            f"nodes.count: {count} nodes want about {need:,} open files, and {hard:,} are allowed; "
            "allow more (ulimit -Hn) or use fewer nodes"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))


def free_memory() -> float:
    """Bytes that this process and its children can still take: what the machine has, and what is
    left of the limits of their control groups."""
    found = [_available()]
    for limit, used in LIMITS:
        found += [_left(folder / limit, folder / used) for folder in _groups()]
    return max(0.0, min(found))


def _available() -> float:
    """Memory that is free or can be freed, and swap."""
    try:
        lines = (line.split() for line in MEMORY.read_text().splitlines())
        kilobytes = {line[0]: int(line[1]) for line in lines if len(line) > 1}
        return 1024.0 * (kilobytes["MemAvailable:"] + kilobytes["SwapFree:"])
    except (OSError, KeyError, ValueError):
        return float("inf")


def _groups() -> list[Path]:
    """The folder of this process's control group, and those above it."""
    try:
        own = next(
            line.partition("::")[2].strip("/")
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            if line.startswith("0::")
        )
    except (OSError, StopIteration):
        own = ""
    folder = CGROUP / own
    return [folder, *(one for one in folder.parents if one.is_relative_to(CGROUP))]


def _left(limit: Path, used: Path) -> float:
    """Of a control group's memory; infinite where it has no limit. Its page cache, which can be
    freed, counts as free."""
    try:
        cache = 0
        for line in (limit.parent / "memory.stat").read_text().splitlines():
            if line.startswith(("inactive_file ", "active_file ")):
                cache += int(line.split()[1])
        return int(limit.read_text()) - int(used.read_text()) + cache
    except (OSError, ValueError):  # "max"
        return float("inf")


def _size(size: float) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / MIB:.0f} MiB"
