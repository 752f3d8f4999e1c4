"""Commands around a project: init, doctor, dvc sync."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tspin.cli.options import LOCAL_PATH, PATH, Overrides, Overwrite
from tspin.config import load_config
from tspin.outputs import check_output, never_ours

__all__ = ["COMMANDS", "PANEL", "app", "doctor", "init"]


PANEL = "Around it"


def init(
    folder: Annotated[
        Path, typer.Argument(help="A new folder.", **LOCAL_PATH | {"metavar": "FOLDER"})
    ],
    overwrite: Overwrite = False,
) -> None:
    """Make a project folder that works as it is: configuration, sample data, small model."""
    from tspin.project.init import init_project

    check_output(folder, never_ours, folder=True, overwrite=overwrite)
    init_project(folder)
    typer.echo(f"cd {folder} && tspin run --config params.yaml")


def doctor(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Also: does this run fit here?", **LOCAL_PATH),
    ] = None,
    overrides: Overrides = None,
    registry: Annotated[
        str | None,
        typer.Option(help="Also: could a model be promoted to it from here?", **PATH),
    ] = None,
) -> None:
    """Say what is installed, what this machine has, and what would not work."""
    from tspin.doctor import doctor_report

    settings = load_config(config, overrides or []) if config else None
    checks = doctor_report(settings, registry)
    table = Table("", "", "", show_header=False)
    marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}
    for check in checks:
        table.add_row(marks[check.status], escape(check.name), escape(check.detail))
    Console().print(table)
    if any(check.status == "fail" for check in checks):
        sys.exit(1)


app = typer.Typer(help="Stages of `dvc repro`.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Stages of `dvc repro`."""


@app.command()
def sync(
    folder: Annotated[
        Path, typer.Option("--folder", help="Of params.yaml and dvc.yaml.", **LOCAL_PATH)
    ] = Path(),
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit code 2 if something would.")
    ] = False,
) -> None:
    """Write the stages of the run that params.yaml describes into dvc.yaml."""
    from tspin.project import sync_stages

    changed = sync_stages(folder, check=check)
    typer.echo(f"{folder / 'dvc.yaml'}: {'written' if changed else 'up to date'}")


COMMANDS = (init, doctor)
