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
    table = iteration_table(folder)
    # A narrow terminal wraps long lines, which is better than numbers cut in the middle.
    console.width = max(console.width, Console(width=1000).measure(table).maximum)
    console.print(table)
    console.print(f"report: {folder.report}", soft_wrap=True, highlight=False)


def report(
    run_dir: Annotated[Path, typer.Argument(help="A run folder.", show_default=False)],
) -> None:
    """Write the run's report, one HTML page that needs no network."""
    from tspin.report import write_report

    typer.echo(write_report(run_dir))


COMMANDS = (run, report)
