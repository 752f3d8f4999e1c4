"""Options that several steps share, and what they print."""

from __future__ import annotations

from typing import Annotated

import typer

from tspin.cli.options import PATH

__all__ = ["Model", "out_option", "print_counts"]

Model = Annotated[
    str,
    typer.Option(help="A folder, s3://bucket/prefix, or a name on the Hub.", **PATH),
]


def out_option(what: str) -> object:
    """The option for where an output goes."""
    return typer.Option("--out", help=what, **PATH)


def print_counts(out: str, counts: dict[str, int]) -> None:
    """Print how many records an output has, by kind."""
    typer.echo(f"{out}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
