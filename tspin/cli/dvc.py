"""Commands around DVC: dvc sync."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="Stages of `dvc repro`.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Stages of `dvc repro`."""


@app.command()
def sync(
    folder: Annotated[Path, typer.Option("--folder", help="Of params.yaml and dvc.yaml.")] = Path(),
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit code 2 if something would.")
    ] = False,
) -> None:
    """Write the stages of the run that params.yaml describes into dvc.yaml."""
    from tspin.project import sync_stages

    changed = sync_stages(folder, check=check)
    typer.echo(f"{folder / 'dvc.yaml'}: {'written' if changed else 'up to date'}")
