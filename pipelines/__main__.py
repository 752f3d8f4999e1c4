"""`python -m pipelines`: exit codes as those of `tspin`."""

from __future__ import annotations

import logging
import sys

import typer

from pipelines.commands import app
from tspin.errors import TspinError

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong input."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        app(prog_name="pipelines")
    except TspinError as error:
        typer.echo(f"pipelines: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        typer.echo(f"pipelines: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
