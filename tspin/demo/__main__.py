"""Write the demo's model and data: `python -m tspin.demo build/demo`."""

from pathlib import Path
from typing import Annotated

import typer

from tspin.demo.demo import write_demo
from tspin.errors import TspinError


def main(folder: Annotated[Path, typer.Argument(help="Folder to write to.")]) -> None:
    """Write the demo's base model, annotated pairs and held-out pairs."""
    try:
        write_demo(folder)
    except TspinError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
    typer.echo(f"wrote {folder}")


if __name__ == "__main__":
    typer.run(main)
