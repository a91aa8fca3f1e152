"""The firmware's core as a shared library in this process."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import cffi

from ..errors import TinyMetaFedError
from ..places import BUILT_BY, FIRMWARE, HOST_LIBRARY

HEADERS = (
    "core/tmf_sizes.h", "ports/host/tmf_host.h", "ports/host/tmf_clients.h",
    "ports/host/tmf_floats.h",
)  # fmt: skip


class Library:
    """The core, and the memory of nodes that is not in use.

    Attributes:
        ffi, lib: of cffi.
        build: SHA-1 of the library, as its nodes' hello has it.
    """

    def __init__(self, path: Path) -> None:
        """Raises TinyMetaFedError where there is none."""
        if not path.is_file():
            raise TinyMetaFedError(f"{path}: no host build of the firmware; run '{BUILT_BY}'")
        self.ffi: Any = cffi.FFI()
        declared: set[str] = set()
        for header in HEADERS:
            lines = (FIRMWARE / header).read_text().splitlines()
            kept = [one for one in lines if not one.startswith("#") and one not in declared]
            declared |= {one for one in lines if one == "struct tmf_host;"}
            self.ffi.cdef("\n".join(kept))
        self.ffi.cdef(
            "struct tmf_text { const char *text; size_t size; };"
            "const struct tmf_text *tmf_error_text(int error);"
        )
        self.lib: Any = self.ffi.dlopen(str(path))
        self.build = hashlib.sha1(path.read_bytes()).digest()
        self._free: list[Any] = []
        self._lock = threading.Lock()

    def take(self) -> Any:
        """Memory for one node, whatever is in it. Raises TinyMetaFedError."""
        with self._lock:
            if self._free:
                return self._free.pop()
        host = self.lib.tmf_host_new(self.build)
        if host == self.ffi.NULL:
            raise TinyMetaFedError("not enough memory for another host node")
        return self.ffi.gc(host, self.lib.tmf_host_free)

    def give_back(self, host: Any) -> None:
        """For the next node."""
        with self._lock:
            self._free.append(host)


library = cache(Library)


@cache
def host_library() -> Library:
    """The host build. Raises TinyMetaFedError where there is none."""
    return library(HOST_LIBRARY)


@contextmanager
def node_floats() -> Iterator[None]:
    """Has this thread compute as a node does, whatever another library has set: rounded to nearest,
    with subnormal numbers. Not to be entered where something is awaited."""
    found = host_library()
    before = found.ffi.new("struct tmf_floats *")
    found.lib.tmf_floats_begin(before)
    try:
        yield
    finally:
        found.lib.tmf_floats_end(before)


def library_build(path: Path = HOST_LIBRARY) -> bytes:
    """SHA-1 of the library. Raises TinyMetaFedError where there is none."""
    return library(path).build
