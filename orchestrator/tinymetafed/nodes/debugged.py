"""An emulated node under GDB: it stands still when it is asked to, and nobody tires of waiting."""

import asyncio
import math
import os
import shlex
import shutil
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from ..errors import TinyMetaFedError
from ..places import EMULATION, PROJECT
from . import window
from .backends import emulated_image
from .image import checksum
from .node import Node
from .qemu import REST_TIME, QemuTransport, escaped
from .renode import PLATFORMS, Renode, RenodeTransport
from .settings import NodeKind

GDB = ("gdb-multiarch", "arm-none-eabi-gdb")
"""Names of it, whichever is installed."""
GDB_SCRIPT = EMULATION / "renode/gdb.py"
STDIN = 0


class DebuggedNode:
    """A node, not started, whose debugger will find it at `halt`.

    On QEMU GDB's server is on a Unix socket in the private folder; Renode's knows only TCP, and
    listens on 127.0.0.1.

    Attributes:
        node: it is not counted, and nothing limits how long it may compute.
    """

    def __init__(self, settings: NodeKind, directory: Path, name: str) -> None:
        """settings: of emulated nodes. directory: private, of a short path. Raises
        TinyMetaFedError."""
        self._image, built_by = emulated_image(settings)
        checksum(self._image, built_by)
        self._name = name
        self._socket = directory / "gdb"
        self._renode: Renode | None = None
        if settings.backend == "renode":
            self._renode = Renode(directory, self._image, PLATFORMS[settings.board])
            start = partial(RenodeTransport.open, self._renode, name)
        else:
            server = f"socket,id=gdb,path={escaped(self._socket)},server=on,wait=off"
            start = partial(
                QemuTransport.open, directory, name, image=self._image,
                place=window.find(self._image) if settings.uses_dma else None,
                extra=("-chardev", server, "-gdb", "chardev:gdb"),
            )  # fmt: skip
        self.node = Node(name, start, timeout=settings.timeout, image=self._image)

    async def halt(self) -> str:
        """Has the node stand still, until GDB lets it go on, and be waited for from now on. Returns
        the command that starts GDB. Raises TinyMetaFedError."""
        transport = self.node.transport
        assert transport is not None
        with suppress(TimeoutError):  # what it does after its last answer is soon done
            async with asyncio.timeout(REST_TIME):
                while await transport.computing():
                    pass
        if isinstance(transport, QemuTransport):
            await transport.halt()
            target = str(self._socket)
        else:
            assert self._renode is not None
            target = f"127.0.0.1:{await self._renode.serve_gdb(self._name, GDB_SCRIPT)}"
        self.node.timeout = self.node.patience = math.inf
        gdb = next((name for name in GDB if shutil.which(name)), GDB[0])
        return shlex.join(
            [gdb, "-d", str(PROJECT), str(self._image), "-ex", f"target remote {target}"]
        )

    async def talk(self) -> None:
        """Renode's monitor on the terminal, until the input ends or Renode does. Raises
        TinyMetaFedError where the input is a file."""
        assert self._renode is not None
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        process = self._renode.process
        assert process is not None
        assert process.stdin is not None
        to_renode = process.stdin

        def pass_on() -> None:
            if data := os.read(STDIN, 65536):
                to_renode.write(data)
            else:
                loop.remove_reader(STDIN)
                ended.set()

        def show(line: bytes) -> None:
            sys.stdout.write(line.decode(errors="replace"))
            sys.stdout.flush()

        try:
            loop.add_reader(STDIN, pass_on)
        except PermissionError:
            raise TinyMetaFedError("--monitor: the input is a file; use a terminal") from None
        self._renode.echo = show
        ways = [asyncio.ensure_future(one) for one in (ended.wait(), process.wait())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            await self._renode.settled()
        finally:
            loop.remove_reader(STDIN)
            self._renode.echo = None
            for one in ways:
                one.cancel()
