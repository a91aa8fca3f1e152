"""Backend `host`: the firmware's core in-process, through the same frames as everywhere."""

import asyncio
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import cffi

from ..errors import TinyMetaFedError
from ..places import FIRMWARE, HOST_LIBRARY


@cache
def _library(path: Path) -> tuple[cffi.FFI, Any, bytes, Any]:
    """The library, its hash, and a buffer for what a node has sent, which all nodes share."""
    if not path.is_file():
        raise TinyMetaFedError(f"{path}: no host build of the firmware; run 'make firmware'")
    ffi = cffi.FFI()
    for header in ("core/tmf_sizes.h", "ports/host/tmf_host.h"):
        lines = (FIRMWARE / header).read_text().splitlines()
        ffi.cdef("\n".join(line for line in lines if not line.startswith("#")))
    return (
        ffi,
        ffi.dlopen(str(path)),
        hashlib.sha1(path.read_bytes()).digest(),
        ffi.new("uint8_t[65536]"),
    )


class HostTransport:
    """A node as a handle of the shared library. It works inside `write` and never waits."""

    def __init__(self, library: Path = HOST_LIBRARY) -> None:
        self._ffi, self._lib, build, self._buffer = _library(library)
        host = self._lib.tmf_host_new(build)
        if host == self._ffi.NULL:
            raise TinyMetaFedError("not enough memory for another host node")
        self._host = self._ffi.gc(host, self._lib.tmf_host_free)

    async def write(self, data: bytes) -> None:
        """See Transport."""
        self._lib.tmf_host_write(self._host, data, len(data))

    async def read(self) -> bytes:
        """See Transport."""
        size = self._lib.tmf_host_read(self._host, self._buffer, len(self._buffer))
        if size == 0:  # nothing is on its way either: wait for the caller's time-out
            await asyncio.get_running_loop().create_future()
        return bytes(self._ffi.buffer(self._buffer, size))

    def sizes(self) -> dict[str, int]:
        """Bytes that the last model loaded takes, whether it fits or not: struct tmf_sizes."""
        sizes = self._lib.tmf_host_sizes(self._host)
        return {name: getattr(sizes, name) for name, _ in self._ffi.typeof(sizes).fields}

    def counts(self) -> None:
        """None: the host's processor is not the node's."""
        return None

    def said(self) -> str:
        """See Transport."""
        return "it runs in this process"

    async def close(self) -> None:
        """See Transport."""
        self._ffi.release(self._host)
