"""Backend `host`: the firmware's core in-process, through the same frames as everywhere."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import cffi
import numpy as np
from numpy.typing import NDArray

from ..errors import TinyMetaFedError
from ..places import FIRMWARE, HOST_LIBRARY
from .transport import NodeLost

ANSWER_SIZE = 65536
"""Bytes read at a time."""


class _Library:
    """The core, and the memory of nodes that is not in use."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise TinyMetaFedError(f"{path}: no host build of the firmware; run 'make firmware'")
        self.ffi = cffi.FFI()
        for header in ("core/tmf_sizes.h", "ports/host/tmf_host.h"):
            lines = (FIRMWARE / header).read_text().splitlines()
            self.ffi.cdef("\n".join(line for line in lines if not line.startswith("#")))
        self.lib: Any = self.ffi.dlopen(str(path))
        self.build = hashlib.sha1(path.read_bytes()).digest()
        self.answer = self.ffi.new(f"uint8_t[{ANSWER_SIZE}]")
        self._free: list[Any] = []

    def take(self) -> Any:
        """Memory for one node; what is in it is another's."""
        if self._free:
            return self._free.pop()
        host = self.lib.tmf_host_new(self.build)
        if host == self.ffi.NULL:
            raise TinyMetaFedError("not enough memory for another host node")
        return self.ffi.gc(host, self.lib.tmf_host_free)

    def give_back(self, host: Any) -> None:
        """For the next node."""
        self._free.append(host)


_library = cache(_Library)


def library_build(path: Path = HOST_LIBRARY) -> bytes:
    """SHA-1 of the library, as its nodes' hello has it. Raises TinyMetaFedError."""
    return _library(path).build


class HostTransport:
    """A node as a handle of the shared library. It works inside `write` and never waits."""

    immediate = True

    def __init__(self, library: Path = HOST_LIBRARY) -> None:
        self._library = _library(library)
        self._lib = self._library.lib
        self._host = self._library.take()
        self._lib.tmf_host_boot(self._host)

    async def write(self, data: bytes) -> None:
        """See Transport."""
        self._lib.tmf_host_write(self._host, data, len(data))

    async def read(self) -> bytes:
        """See Transport. Raises TimeoutError where nothing is there: nothing is on its way either,
        however long the caller would wait."""
        answer = self._library.answer
        size = self._lib.tmf_host_read(self._host, answer, ANSWER_SIZE)
        if size == 0:
            raise TimeoutError
        return bytes(self._library.ffi.buffer(answer, size))

    def rest(self) -> None:
        """See PooledTransport."""
        if self._host is not None:
            self._library.give_back(self._host)
            self._host = None

    def wake(self, load: bytes, theta: NDArray[np.float32] | None, version: int) -> None:
        """See PooledTransport."""
        ffi = self._library.ffi
        self._host = self._library.take()
        weights = ffi.NULL if theta is None else ffi.from_buffer("float[]", theta.data)
        if not self._lib.tmf_host_wake(self._host, load, len(load), weights, version):
            raise NodeLost("a host node cannot be woken: it had no model")

    def sizes(self) -> dict[str, int]:
        """Bytes that the last model loaded takes, whether it fits or not: struct tmf_sizes."""
        sizes = self._lib.tmf_host_sizes(self._host)
        return {name: getattr(sizes, name) for name, _ in self._library.ffi.typeof(sizes).fields}

    def counts(self) -> None:
        """None: the host's processor is not the node's."""
        return None

    def said(self) -> str:
        """See Transport."""
        return "it runs in this process"

    async def close(self) -> None:
        """See Transport."""
        self.rest()
