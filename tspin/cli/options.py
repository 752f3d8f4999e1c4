"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from tspin.config import RunConfig, load_config
from tspin.store import fetch, is_remote

__all__ = [
    "AnnotatedFile",
    "ConfigFile",
    "Iteration",
    "Overrides",
    "StepConfigFile",
    "local_model",
    "run_config",
    "step_config",
]

ConfigFile = Annotated[
    str, typer.Option("--config", "-c", help="Run configuration (YAML).", show_default=False)
]
StepConfigFile = Annotated[
    str | None,
    typer.Option("--config", "-c", help="Run configuration (YAML); without it, the defaults."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value over the configuration; may be repeated."),
]
AnnotatedFile = Annotated[
    str, typer.Option("--annotated", help="Annotated records (JSON Lines).", show_default=False)
]
Iteration = Annotated[int, typer.Option(min=0, help="Number of the iteration, from 0.")]


def run_config(path: str, overrides: list[str] | None) -> RunConfig:
    """The configuration of a whole run."""
    return load_config(fetch(path), overrides or [])


def step_config(
    path: str | None, overrides: list[str] | None, *, model: str, annotated: str | None
) -> RunConfig:
    """The configuration of a single step, which needs no file: its inputs are options."""
    defaults = {
        "run_dir": ".",
        "model": {"path": model},
        "data": {"annotated": str(annotated or "unused")},
    }
    return load_config(None if path is None else fetch(path), overrides or [], defaults=defaults)


def local_model(model: str) -> str:
    """A model as steps take it: remote ones are copied to this machine, with their manifest."""
    return str(fetch(model)) if is_remote(model) else model
