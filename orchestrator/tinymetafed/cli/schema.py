"""The command that prints the JSON schema of a kind of file, for editors."""

from typing import Annotated, Literal

import typer


def schema(
    kind: Annotated[Literal["experiment", "comparison"], typer.Argument(help="Of which files.")],
) -> None:
    """Print the JSON schema of experiment or comparison files, for editors that check TOML."""
    from ..experiments.schema import text

    typer.echo(text(kind), nl=False)
