"""Links that spoil bytes: which ones, how many, and how."""

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed.nodes.faulty import FaultyLink
from tinymetafed.nodes.transport import NodeLost

DATA = bytes(np.random.default_rng(1).integers(0, 256, 20_000, dtype=np.uint8))


class Echo:
    """A node that sends what it was sent."""

    immediate = False

    def __init__(self) -> None:
        self.data = b""
        self.open = True

    async def write(self, data: bytes) -> None:
        self.data += data

    async def read(self) -> bytes:
        data, self.data = self.data, b""
        return data or b"\0"

    async def executed(self) -> None:
        return None

    async def stand(self) -> None:
        return None

    async def computing(self) -> bool:
        return False

    def counts(self) -> None:
        return None

    def said(self) -> str:
        return "it said nothing"

    async def close(self) -> None:
        self.open = False


async def _link(rate: float, *nodes: Echo, seed: int = 1) -> FaultyLink:
    left = iter(nodes)

    async def open_transport() -> Echo:
        return next(left)

    link = FaultyLink("node-0", open_transport, (seed,))
    link.rate = rate
    await link.open()
    return link


def _sent(rate: float, data: bytes, cuts: list[int], seed: int = 1) -> tuple[bytes, int]:
    """What arrives at the node of data sent in pieces, and how many bytes were spoiled."""

    async def send() -> tuple[bytes, int]:
        node = Echo()
        link = await _link(rate, node, seed=seed)
        for first, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            await link.write(data[first:end])
        return node.data, link.spoiled

    return asyncio.run(send())


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 2000), max_size=8), st.sampled_from([0.0, 0.001, 0.3, 1.0]))
def test_what_is_spoiled_does_not_depend_on_how_the_bytes_are_cut(cuts: list[int], rate: float):
    assert _sent(rate, DATA[:2000], sorted(cuts)) == _sent(rate, DATA[:2000], [])


def test_a_link_without_faults_spoils_nothing():
    assert _sent(0.0, DATA, []) == (DATA, 0)


def test_half_of_what_is_spoiled_is_lost():
    """Binomial; within five standard deviations."""
    arrived, spoiled = _sent(0.1, DATA, [])
    assert abs(spoiled - 2000) < 5 * np.sqrt(20_000 * 0.1 * 0.9)
    assert abs((len(DATA) - len(arrived)) - spoiled / 2) < 5 * np.sqrt(spoiled / 4)


def test_what_is_spoiled_and_not_lost_differs_by_one_bit():
    zeros, spoiled = _sent(1.0, bytes(20_000), [])
    assert spoiled == 20_000
    assert set(zeros) == {1 << bit for bit in range(8)}


def test_another_seed_spoils_other_bytes():
    assert _sent(0.1, DATA, [], seed=1) != _sent(0.1, DATA, [], seed=2)


def test_what_the_node_sends_is_spoiled_too_but_a_read_is_never_empty():
    async def read() -> list[bytes]:
        link = await _link(1.0, Echo())
        return [await link.read() for _ in range(50)]

    found = asyncio.run(read())
    assert all(len(data) == 1 and data != b"\0" for data in found)


def test_a_closed_link_has_lost_its_node_until_it_is_opened_again():
    async def check() -> None:
        first, second = Echo(), Echo()
        link = await _link(0.0, first, second)
        await link.close()
        await link.close()
        assert not first.open
        assert link.counts() is None
        with pytest.raises(NodeLost, match="node-0: it lost its power"):
            await link.write(b"1")
        with pytest.raises(NodeLost, match="node-0: it lost its power"):
            await link.read()
        await link.open()
        await link.write(b"2")
        assert second.data == b"2"

    asyncio.run(check())
