"""Commands on the run configuration: config schema."""

from __future__ import annotations

import json

import typer

from tspin.config import RunConfig

__all__ = ["app"]

app = typer.Typer(help="The run configuration.", no_args_is_help=True)

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@app.callback()
def _config() -> None:
    """The run configuration."""


@app.command()
def schema() -> None:
    """Print the JSON Schema of the run configuration, by which editors check and complete it.

    It knows names, types, ranges and what each setting means. What depends on several settings at
    once, such as a gate that needs held-out records, only `tspin` itself checks.
    """
    description = {"$schema": _DIALECT, **RunConfig.model_json_schema()}
    typer.echo(json.dumps(description, indent=2))
