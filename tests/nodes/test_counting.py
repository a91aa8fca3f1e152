"""What a node executed is counted for what it was asked, or reported as not counted."""

import asyncio
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import namespaces
from learning import full, load
from tinymetafed.energy.profile import COUNTED, BlockCounts, Pricing
from tinymetafed.energy.program import Program
from tinymetafed.energy.timing import Timing
from tinymetafed.experiments.experiment import read
from tinymetafed.nodes.backends import make_nodes, private_directory
from tinymetafed.nodes.host import HostTransport
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.program import Select, Send, Train
from tinymetafed.nodes.usage import Usage
from tinymetafed.places import MPS2_IMAGE, PROJECT

DEMO = PROJECT / "experiments/demo.toml"
PROGRAM = Program.read(MPS2_IMAGE)


class _Counted(HostTransport):
    """A host node whose counts are those of a list, one for each look."""

    def __init__(self, counts: Sequence[int], lost: int = 0) -> None:
        super().__init__()
        self._left = iter(counts)
        self._lost = lost

    def counts(self) -> BlockCounts:  # pyright: ignore[reportIncompatibleMethodOverride]
        start = np.array([PROGRAM.functions["main"]], np.uint32)
        left = np.zeros((1 + len(PROGRAM.phases), 1, 3), np.int64)
        left[0, 0, 0] = next(self._left)
        return BlockCounts.of(start, start + 2, left, np.zeros(len(left), np.int64), self._lost)


async def _take(node: Node, times: int) -> list[Usage]:
    model = read(DEMO).built_model
    await node.start()
    usages: list[Usage] = []
    for _ in range(times):
        await load(node, model)
        usages.append(node.take_usage())
    await node.close()
    return usages


def _usages(counts: Sequence[int], lost: int = 0) -> list[Usage]:
    async def open_transport() -> HostTransport:
        return _Counted(counts, lost)

    node = Node("node-0", open_transport, pricing=Pricing(PROGRAM, Timing.all()))
    return asyncio.run(_take(node, len(counts)))


def _instructions(usage: Usage) -> int | None:
    return None if usage.profile is None else int(usage.profile.instructions.sum())


def test_each_look_takes_what_came_since_the_last():
    assert [_instructions(usage) for usage in _usages([5, 12, 13])] == [5, 7, 1]


@pytest.mark.parametrize(
    ("counts", "lost", "taken", "problem"),
    [
        ([5, 3, 10], 0, [5, None, 7], "its counters went back"),
        ([5, 5, 10], 0, [5, None, 5], "its counters stand still although it answers"),
        ([5], 1, [None], "it executed more blocks of code than can be counted"),
    ],
)
def test_counters_that_cannot_be_right_are_reported_and_not_summed(
    caplog: pytest.LogCaptureFixture,
    counts: list[int],
    lost: int,
    taken: list[int | None],
    problem: str,
):
    with caplog.at_level(logging.WARNING):
        usages = _usages(counts, lost)
    assert [_instructions(usage) for usage in usages] == taken
    assert f"node-0: {problem}; what it executed is not counted" in caplog.text
    missing = taken.index(None)
    assert usages[missing].uncounted
    assert usages[missing].bytes_down > 0  # but its bytes are
    assert (usages[0] + usages[missing]).profile is None


def test_a_node_that_was_started_again_is_reported(caplog: pytest.LogCaptureFixture):
    async def open_transport() -> HostTransport:
        return _Counted([7])

    async def restart() -> Usage:
        node = Node("node-0", open_transport, pricing=Pricing(PROGRAM, Timing.all()))
        await node.start()
        await node.restart()
        return node.take_usage()

    usage = asyncio.run(restart())
    assert usage.profile is None
    assert "node-0: it was started again; what it executed is not counted" in caplog.text


def _qemu_node(work: Callable[[Node], object], *changes: str) -> None:
    async def run() -> None:
        settings = read(DEMO, ("nodes.count=1", *changes)).nodes
        with private_directory() as directory:
            (node,) = make_nodes(settings, directory)
            await node.start()
            try:
                await work(node)  # pyright: ignore[reportGeneralTypeIssues]
            finally:
                await node.close()

    asyncio.run(run())


def test_the_same_request_executes_the_same_five_times(tmp_path: Path):
    """Instructions by class and cycles of reconstruct, learn and select; to the last."""
    experiment = read(DEMO)
    model = experiment.built_model
    support, query = experiment.task.device(1, 0, 16, 32)
    program = (
        Train("support", rate=0.01, frozen=model.frozen(local=False)),
        Train("query", rate=0.01, frozen=model.frozen(local=True)),
        Select(860), Send(),
    )  # fmt: skip
    found: list[tuple[list[object], ...]] = []

    async def work(node: Node) -> None:
        await load(node, model)
        for _ in range(5):
            await node.run(program, support, query, full(model.initial(1)))
            profile = node.take_usage().profile
            assert profile is not None
            rows = [profile.phases.index(name) for name in ("reconstruct", "learn", "select")]
            found.append(
                (
                    profile.counts[rows].tolist(),
                    *(c[rows].tolist() for c in profile.cycles.values()),
                )
            )

    _qemu_node(work)
    assert all(min(row) > 0 for row in found[0][1])  # pyright: ignore[reportArgumentType]
    assert all(turn == found[0] for turn in found)


def test_by_dma_a_broadcast_and_its_answer_interrupt_a_node_once_each_and_not_for_each_byte():
    model = read(DEMO).built_model
    found: list[Usage] = []

    async def work(node: Node) -> None:
        await load(node, model)
        node.take_usage()
        await node.set_weights(full(model.initial(1)))
        await node.predict(np.zeros((1, 1), np.float32))  # then all of it has been counted
        found.append(node.take_usage())

    for link in ("dma", "uart"):
        _qemu_node(work, f"nodes.link={link}")
    dma, uart = found
    assert (dma.bytes_down, dma.bytes_up) == (uart.bytes_down, uart.bytes_up)
    exceptions = [
        int(one.profile.counts[:, COUNTED.index("exception")].sum()) if one.profile else 0
        for one in found
    ]
    # Two may be taken as one. How many bytes a UART's interrupt finds depends on this machine.
    assert 1 <= exceptions[0] <= min(10, exceptions[1])


NODE = """
import asyncio, sys, tempfile
from pathlib import Path
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.energy.program import Program
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.qemu import QemuTransport
from tinymetafed.places import MPS2_IMAGE

async def main():
    folder, program = Path(sys.argv[1]), Program.read(MPS2_IMAGE)
    node = Node("node-0", lambda: QemuTransport.open(folder, "node-0", program=program))
    try:
        await node.start()
    except TinyMetaFedError as error:
        print(error)
    finally:
        await node.close()

asyncio.run(main())
"""


@pytest.mark.skipif(not namespaces.there(), reason="no namespaces here")
@pytest.mark.parametrize(
    ("size", "says"),
    [
        ("4k", "ended with status 1; no space is left in"),  # nor for the plugin's words
        ("48k", "ended with status 1; it said: libtmf_count: .*counts: No space left on device"),
    ],
)
def test_a_folder_that_is_full_ends_nobody_by_a_signal(tmp_path: Path, size: str, says: str):
    disk = namespaces.with_small_disk(str(tmp_path), size)
    done = subprocess.run(
        [*disk, sys.executable, "-c", NODE, str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(says, done.stdout), done.stdout
