"""Arguments and options that several commands take."""

from typing import Annotated

import typer

OverrideOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. nodes.count=8."),
]
"""Changes to the settings of an experiment file."""

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help='Its number, or "last".')]
"""A run in the store."""
