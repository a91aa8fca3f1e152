"""Backend `host`: the firmware's core in-process, through the same frames as everywhere."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..places import HOST_LIBRARY
from .library import library

ANSWER_SIZE = 65536
"""Bytes read at a time."""


class HostTransport:
    """A node as a handle of the shared library. It works inside `write` and never waits."""

    immediate = True

    def __init__(self, path: Path = HOST_LIBRARY) -> None:
        self._library = library(path)
        self._lib = self._library.lib
        self._answer = self._library.ffi.new(f"uint8_t[{ANSWER_SIZE}]")
        self._host = self._library.take()
        self._lib.tmf_host_boot(self._host)

    async def write(self, data: bytes) -> None:
        """See Transport."""
        self._lib.tmf_host_write(self._host, data, len(data))

    async def read(self) -> bytes:
        """See Transport. Raises TimeoutError where nothing is there: nothing is on its way either,
        however long the caller would wait."""
        size = self._lib.tmf_host_read(self._host, self._answer, ANSWER_SIZE)
        if size == 0:
            raise TimeoutError
        return bytes(self._library.ffi.buffer(self._answer, size))

    def sizes(self) -> dict[str, int]:
        """Bytes that the last model loaded takes, whether it fits or not: struct tmf_sizes."""
        sizes = self._lib.tmf_host_sizes(self._host)
        return {name: getattr(sizes, name) for name, _ in self._library.ffi.typeof(sizes).fields}

    def working(self, parameters: int) -> NDArray[np.float32]:
        """The working weights of the last model loaded, which has so many parameters: float32
        [parameters]. No node tells them: its local part is its own."""
        weights = self._lib.tmf_host_working(self._host)
        buffer = self._library.ffi.buffer(weights, 4 * parameters)
        return np.frombuffer(buffer, np.float32).copy()

    async def computing(self) -> bool:
        """See Transport; it has done all when `write` returns."""
        return False

    async def executed(self) -> None:
        """See Transport."""

    async def stand(self) -> None:
        """See Transport."""

    def counts(self) -> None:
        """None: the host's processor is not the node's."""
        return None

    def said(self) -> str:
        """See Transport."""
        return "it runs in this process"

    async def close(self) -> None:
        """See Transport."""
        if self._host is not None:
            self._library.give_back(self._host)
            self._host = None


async def open_host() -> HostTransport:
    """See OpenTransport."""
    return HostTransport()
