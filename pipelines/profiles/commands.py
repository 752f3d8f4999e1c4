"""`tspin pipeline profiles`: list, show, copy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tspin.errors import InputError
from tspin.files import atomic_file
from tspin_pipelines.options import LOCAL_PATH, PATH, Overwrite

__all__ = ["app"]

app = typer.Typer(help="Where each stage runs, by kind of cluster.", invoke_without_command=True)

Name = Annotated[str, typer.Argument(help="A shipped profile, or your own (*.yaml).", **PATH)]


@app.callback()
def list_profiles(context: typer.Context) -> None:
    """List the shipped profiles."""
    if context.invoked_subcommand is not None:
        return
    from tspin_pipelines.profiles.profile import load_profile, profile_names

    names = profile_names()
    width = max(map(len, names))
    for name in names:
        typer.echo(f"{name:{width}}  {load_profile(name).description}")


@app.command()
def show(name: Name) -> None:
    """Print a profile as it is written, after checking it."""
    from tspin_pipelines.profiles.profile import load_profile, profile_path

    load_profile(name)
    typer.echo(profile_path(name).read_text(encoding="utf-8"), nl=False)


@app.command()
def copy(
    name: Name,
    out: Annotated[
        Path | None, typer.Argument(help="A new file; NAME.yaml by default.", **LOCAL_PATH)
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Copy a profile to a file of your own, which `--profile` takes by its path."""
    from tspin.outputs import check_output, equal_to
    from tspin_pipelines.profiles.profile import load_profile, profile_path

    load_profile(name)
    source = profile_path(name)
    target = out or Path(source.name)
    if target.suffix not in (".yaml", ".yml"):
        raise InputError(f"{target}: the file of a profile ends with .yaml, or it is not known")
    check_output(target, equal_to(source), inputs=[source], overwrite=overwrite)
    with atomic_file(target) as file:
        file.write(source.read_bytes())
    typer.echo(target)
