"""The way to the nodes, from their own process and from others."""

import atexit
import os
import threading
from contextlib import ExitStack, suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TinyMetaFedError
from ..nodes.folder import private_directory
from .nodes import Answer, Nodes


class Door:
    """Where nodes are asked. A copy in another process asks through a socket, which is there from
    the first copy on."""

    def __init__(self, nodes: Nodes | None = None, socket: Path | None = None) -> None:
        self._nodes = nodes
        self._socket = socket
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._resources = ExitStack()
        if nodes is not None:
            atexit.register(self.close)

    def __reduce__(self) -> Any:
        with self._lock:
            if self._socket is None:
                self._socket = self._open()
        return Door, (None, self._socket)

    @property
    def nodes(self) -> Nodes:
        """Those of this process. Raises TinyMetaFedError where they are another's."""
        if self._nodes is None or os.getpid() != self._process:
            raise TinyMetaFedError("the nodes are another process's: ask where the app was made")
        return self._nodes

    def ask(self, what: str, node: int, number: int, theta: NDArray[np.float32]) -> Answer:
        """What came of it; see Nodes.ask. Raises TinyMetaFedError."""
        if self._nodes is not None:
            return self._nodes.ask(what, node, number, theta)
        try:
            with Client(str(self._socket), "AF_UNIX") as connection:
                connection.send((what, node, number, theta))
                found = connection.recv()
        except (OSError, EOFError):
            raise TinyMetaFedError("the process that has the nodes has ended") from None
        if isinstance(found, str):
            raise TinyMetaFedError(found)
        return found

    def close(self) -> None:
        """Ends the nodes and the socket."""
        if self._nodes is not None and os.getpid() == self._process:
            atexit.unregister(self.close)
            self._nodes.close()
            self._resources.close()

    def _open(self) -> Path:
        assert self._nodes is not None
        folder = self._resources.enter_context(private_directory(short=True))
        path = folder / "flower.sock"
        listener = Listener(str(path), "AF_UNIX", backlog=128)
        self._resources.callback(listener.close)
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
        return path

    def _serve(self, listener: Listener) -> None:
        with suppress(OSError):  # it was closed
            while True:
                connection = listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        assert self._nodes is not None
        with connection, suppress(OSError, EOFError):  # who asked is gone
            try:
                found: Answer | str = self._nodes.ask(*connection.recv())
            except TinyMetaFedError as error:
                found = str(error)
            connection.send(found)
