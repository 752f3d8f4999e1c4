"""The command's entry: subcommands, exit codes, one message for each error."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import Annotated

import typer
from rich.logging import RichHandler

import tspin
from tspin.cli.contents import Contents
from tspin.errors import TspinError
from tspin.processes.runner import end_with_runner
from tspin.progress.console import draws_bars, stderr_console
from tspin.progress.logs import LOG_FORMAT, formatter
from tspin.progress.status import where_failed
from tspin.records.process_start import count_process_start

__all__ = ["app", "main"]

log = logging.getLogger(__name__)

app = typer.Typer(
    name="tspin",
    cls=Contents,
    help="Triplet self-play fine-tuning of language models (arXiv 2601.08198).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(flag: bool) -> None:
    if flag:
        typer.echo(f"tspin {tspin.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    """Triplet self-play fine-tuning of language models (arXiv 2601.08198)."""


def _log_to_stderr() -> None:
    console = stderr_console()
    if draws_bars(console):
        handler: logging.Handler = RichHandler(console=console, show_path=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(formatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("tspin").setLevel(logging.INFO)
    logging.captureWarnings(capture=True)


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong input, 3 a gate refused."""
    if os.getpid() == 1:
        # The kernel spares a container's first process every signal that it has no handler for.
        signal.signal(signal.SIGTERM, _stop)
    try:
        _log_to_stderr()
        count_process_start()
        end_with_runner()
        app()
    except TspinError as error:
        _say(error)
        sys.exit(error.exit_code)
    except OSError as error:
        # The machine, not the program: no space, no permission, a path that is a folder.
        _say(error)
        sys.exit(1)


def _say(error: Exception) -> None:
    """The one message of an error; a line of the log where lines have another form than plain."""
    if os.environ.get(LOG_FORMAT, "plain") == "plain" or not logging.getLogger().handlers:
        typer.echo(f"tspin: {error}", err=True)
    else:
        log.error("%s", error, extra=where_failed(error))
