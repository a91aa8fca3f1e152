"""Commands about the firmware's images."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..nodes.settings import NodeSettings
from .terminal import console

app = typer.Typer(help="Images of the firmware.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Images of the firmware."""


def build(
    model: Annotated[
        str,
        typer.Option(metavar="SOURCE", help="An experiment's file, or a run: number or 'last'."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="IMAGE", help="What is written.")
    ] = Path("node.elf"),
    firmware: Annotated[
        Literal["bare", "zephyr"], typer.Option(help="As nodes.firmware.")
    ] = "bare",
    board: Annotated[
        Literal["mps2_an386", "nrf52840dk", "arduino_nano_33_ble"],
        typer.Option(help="As nodes.board."),
    ] = "mps2_an386",
) -> None:
    """Build a node's image with the frozen weights of a model in its flash, for nodes.image."""
    from ..experiments import firmware as building
    from ..experiments.plan import footprint

    built = building.build(model, output, NodeSettings(firmware=firmware, board=board))
    parameters, checksum = built.frozen_weights
    flash, _ = footprint(output)
    console.print(
        f"{output}: {flash} bytes of flash, {4 * parameters} of them frozen weights, CRC-32 "
        f"{checksum:08x}",
        soft_wrap=True, highlight=False,
    )  # fmt: skip
