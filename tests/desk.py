"""A board on the desk, for tests: a pseudo-terminal, and a node on QEMU behind it."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import tty
from pathlib import Path

from tinymetafed.nodes.process import dies_with_this_process
from tinymetafed.nodes.qemu import MACHINE, QEMU
from tinymetafed.places import MPS2_IMAGE

OPENED = termios.TIOCPKT_FLUSHREAD
"""What a pseudo-terminal in packet mode says when its input is flushed: whoever opens a port does
that."""


class Board:
    """A board whose port is the link `path`, as udev's links by the board's name are.

    resets: it starts again whenever its port is opened, as one whose reset hangs at DTR. loses:
    bytes to it that are lost after an opening. says: that it says then. image: None for a port at
    which nobody is.
    """

    def __init__(
        self,
        path: Path,
        *,
        image: Path | None = MPS2_IMAGE,
        machine: tuple[str, ...] = MACHINE,
        resets: bool = False,
        loses: int = 0,
        says: bytes = b"",
    ) -> None:
        self.path = path
        self.openings = 0
        self._image, self._machine = image, machine
        self._resets, self._loses, self._says = resets, loses, says
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self.plug_in()

    def plug_in(self) -> None:
        """The board has power, and its port is there."""
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        fcntl.ioctl(self._master, termios.TIOCPKT, b"\1\0\0\0")
        self._stop, self._stopped = os.pipe()
        self._boot()
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()
        new = self.path.with_suffix(".new")
        new.symlink_to(os.ttyname(self._slave))
        new.rename(self.path)

    def unplug(self) -> None:
        """The board has no power, and its port is gone."""
        if self._thread is None:
            return
        self.path.unlink()
        os.close(self._stopped)
        self._thread.join()
        self._thread = None
        self._end()
        for descriptor in (self._master, self._slave, self._stop):
            os.close(descriptor)

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    def _boot(self) -> None:
        self._uart, end = socket.socketpair()
        if self._image is not None:
            with end:
                self._process = subprocess.Popen(
                    [QEMU, *self._machine, "-kernel", str(self._image), "-monitor", "none",
                     "-chardev", f"socket,id=uart,fd={end.fileno()},mux=on",
                     "-serial", "chardev:uart", "-echr", "0x100"],
                    stdin=subprocess.DEVNULL, pass_fds=[end.fileno()],
                    preexec_fn=dies_with_this_process(),
                )  # fmt: skip
        else:
            self._nobody = end  # it is open, and not read

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        else:
            self._nobody.close()
        self._uart.close()

    def _carry(self) -> None:
        """Bytes, both ways, until it is unplugged."""
        lost = 0
        while True:
            ready, _, _ = select.select([self._stop, self._master, self._uart], [], [])
            if self._stop in ready:
                return
            if self._uart in ready:
                data = self._uart.recv(4096)
                if not data:
                    return
                os.write(self._master, data)
            if self._master in ready:
                kind, *data = os.read(self._master, 4096)
                if kind & OPENED:
                    self.openings += 1
                    lost = self._loses
                    if self._resets:
                        self._end()
                        self._boot()
                    os.write(self._master, self._says)
                if kind == 0:
                    data = bytes(data)
                    arrives, lost = data[lost:], max(0, lost - len(data))
                    with contextlib.suppress(OSError):
                        self._uart.sendall(arrives)


if __name__ == "__main__":
    with Board(Path(sys.argv[1])):
        print(f"A board is at {sys.argv[1]}, until Ctrl-C or kill.", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
