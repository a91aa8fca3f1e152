"""The command that writes a run's network as a file for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import TinyMetaFedError
from ..places import STORE
from ..results.store import Store
from .arguments import RunArgument
from .terminal import console

SUFFIXES = (".onnx", ".npz", ".c", ".h", ".tflite")


def export(
    which: RunArgument,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="One of .onnx .npz .c .h .tflite"),
    ],
    device: Annotated[
        int | None,
        typer.Option(min=0, help="After adaptation to this unseen device, from 0 on."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help=".tflite only: 8 bit integers.")] = False,
) -> None:
    """Write the network of a run that has ended, for other tools or for a board."""
    if output.suffix not in SUFFIXES:
        raise TinyMetaFedError(f"{output}: write one of {', '.join(SUFFIXES)}")
    if int8 and output.suffix != ".tflite":
        raise TinyMetaFedError(f"{output}: --int8 is for .tflite alone")
    from ..experiments.exporting import Exported

    store = Store(STORE)
    exported = Exported(store, store.run(which), device)
    for line in exported.write(output, int8=int8):
        console.print(line, soft_wrap=True, highlight=False)
