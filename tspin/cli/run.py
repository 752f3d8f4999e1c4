"""Commands on a whole run: run, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tspin.cli.options import ConfigFile, Overrides, run_config

__all__ = ["COMMANDS", "PANEL", "report", "run"]

PANEL = "The whole run"


def run(config: ConfigFile, overrides: Overrides = None) -> None:
    """Generate, build triplets, train, evaluate, iteration after iteration; or continue."""
    settings = run_config(config, overrides)
    from tspin.cli.table import iteration_table
    from tspin.selfplay import run as play

    folder = play(settings)
    console = Console()
    console.print(iteration_table(folder))
    console.print(f"report: {folder.report}", soft_wrap=True)


def report(
    run_dir: Annotated[Path, typer.Argument(help="A run folder.", show_default=False)],
) -> None:
    """Write the run's report, one HTML page that needs no network."""
    from tspin.report import write_report

    typer.echo(write_report(run_dir))


COMMANDS = (run, report)
