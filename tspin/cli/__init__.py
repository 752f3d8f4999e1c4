"""The `tspin` command."""

from tspin.cli.main import main

__all__ = ["main"]
