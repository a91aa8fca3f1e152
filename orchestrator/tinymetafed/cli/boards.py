"""Commands about boards."""

import asyncio
import json as json_text
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..errors import TinyMetaFedError, printable
from ..nodes.settings import NodeSettings
from ..places import ZEPHYR_IMAGES, require_checkout
from .terminal import console

if TYPE_CHECKING:  # it imports pyserial, for which other commands need not wait
    from ..nodes.boards import Board


def boards(
    ports: Annotated[
        list[str] | None, typer.Argument(metavar="[PORT]...", help="Besides those that are found.")
    ] = None,
    baud: Annotated[int, typer.Option(min=9600, max=4_000_000, help="Speed of the ports.")] = (
        NodeSettings.model_fields["baud"].default
    ),
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for an answer.")] = 3.0,
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """List the serial ports and the nodes that answer there.

    Each port is sent a frame that asks who is there. Exit status 1 where no node answers.
    """
    from ..nodes import boards as looking

    names = list(dict.fromkeys([*looking.ports(), *(ports or ())]))
    found = asyncio.run(looking.ask(names, baud, timeout))
    if json:
        rows = json_text.dumps([_row(one) for one in found], indent=2)
        console.print(rows, soft_wrap=True, markup=False, highlight=False)
    elif found:
        console.print(_table(found))
    else:
        raise TinyMetaFedError("this machine has no serial port; plug a board in, or name a port")
    if not any(one.hello for one in found):
        raise typer.Exit(1)


def flash(
    board: Annotated[str, typer.Argument(metavar="BOARD", help="Its build's name: nucleo_l476rg.")],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- OPTION...]", help="For 'west flash', as --runner pyocd."),
    ] = None,
) -> None:
    """Flash the node on Zephyr that was built for a board, by west and the board's programmer."""
    require_checkout("tinymetafed flash")
    folder = ZEPHYR_IMAGES / board
    if not (folder / "build.ninja").is_file():
        built = ", ".join(sorted(one.parent.name for one in ZEPHYR_IMAGES.glob("*/build.ninja")))
        raise TinyMetaFedError(
            f"{board}: it was not built in {ZEPHYR_IMAGES}, where there is {built or 'nothing'}; "
            "docs/boards.md says how"
        )
    beside = Path(sys.executable).with_name("west")
    west = str(beside) if beside.is_file() else shutil.which("west")
    if west is None:
        raise TinyMetaFedError("west is not installed; 'make zephyr' or 'pip install west' does it")
    done = subprocess.run([west, "flash", "-d", str(folder), *(options or ())], check=False)
    if done.returncode != 0:
        raise TinyMetaFedError(
            f"'west flash' for {board} ended with exit status {done.returncode}; is its programmer "
            "plugged in, and are west's tools for it installed?"
        )


def _row(board: "Board") -> dict[str, Any]:
    hello = board.hello
    return {
        "port": board.port,
        "description": board.description,
        "firmware": hello and hello.version,
        "board": board.name or None,
        "memory": hello and hello.memory,
        "build": hello and hello.build.hex(),
        "problem": board.problem or None,
    }


def _table(found: "list[Board]") -> Table:
    table = Table()
    for column in ("port", "firmware", "board", "memory", "build"):
        table.add_column(column, justify="right" if column == "memory" else "left", overflow="fold")
    for one in found:
        if one.hello is None:
            table.add_row(one.port, f"[yellow]{_plain(one.problem)}[/]", one.description)
            continue
        memory = f"{one.hello.memory / 1024:.0f} KiB"
        name = one.name or one.description or "built elsewhere"
        table.add_row(one.port, one.hello.version, name, memory, one.hello.build.hex()[:12])
    return table


def _plain(text: str) -> str:
    return printable(text).replace("[", r"\[")
