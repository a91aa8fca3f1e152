"""Executes a notebook in its folder, in a process of its own: python executing.py NOTEBOOK."""

import asyncio
import sys
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient


def execute(path: Path) -> None:
    """With its outputs in place of those that were there. The kernel listens on no TCP port."""
    notebook = nbformat.read(path, as_version=4)
    manager = AsyncKernelManager(kernel_name="python3", transport="ipc")
    manager.connection_file = str(path.with_name("kernel.json"))
    client = NotebookClient(
        notebook, km=manager, timeout=60, resources={"metadata": {"path": str(path.parent)}}
    )
    asyncio.run(client.async_execute())
    nbformat.write(notebook, path)


if __name__ == "__main__":
    execute(Path(sys.argv[1]))
