"""Standard error as rich writes to it: a terminal where there is one, and nowhere else."""

from __future__ import annotations

import sys

from rich.console import Console

from tspin.progress.logs import log_format

__all__ = ["draws_bars", "stderr_console"]


def stderr_console() -> Console:
    """A console on standard error.

    rich takes `FORCE_COLOR` for a terminal. Jupyter's kernel and many a CI set it, and there a bar
    is thousands of lines of cursor movements (rich 15, `Console.is_terminal`).
    """
    return Console(stderr=True, force_terminal=None if sys.stderr.isatty() else False)


def draws_bars(console: Console) -> bool:
    """Whether a console moves its cursor, and nobody asked for lines that programs read."""
    return console.is_terminal and log_format() == "plain"
