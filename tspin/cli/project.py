"""Commands around a project: init, doctor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tspin.cli.options import Overrides
from tspin.config import load_config

__all__ = ["COMMANDS", "PANEL", "doctor", "init"]

PANEL = "Around it"


def init(
    folder: Annotated[Path, typer.Argument(help="A new folder.", show_default=False)],
) -> None:
    """Make a project folder that works as it is: configuration, sample data, small model."""
    from tspin.project.init import init_project

    init_project(folder)
    typer.echo(f"cd {folder} && tspin run --config params.yaml")


def doctor(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Also: does this run fit here?")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Say what is installed, what this machine has, and what would not work."""
    from tspin.doctor import doctor_report

    settings = load_config(config, overrides or []) if config else None
    checks = doctor_report(settings)
    table = Table("", "", "", show_header=False)
    marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}
    for check in checks:
        table.add_row(marks[check.status], escape(check.name), escape(check.detail))
    Console().print(table)
    if any(check.status == "fail" for check in checks):
        sys.exit(1)


COMMANDS = (init, doctor)
