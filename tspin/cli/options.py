"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tspin.config import RunConfig, load_config

__all__ = [
    "AnnotatedFile",
    "ConfigFile",
    "Iteration",
    "Overrides",
    "StepConfigFile",
    "run_config",
    "step_config",
]

ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", help="Run configuration (YAML).", show_default=False)
]
StepConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Run configuration (YAML); without it, the defaults."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value over the configuration; may be repeated."),
]
AnnotatedFile = Annotated[
    Path, typer.Option("--annotated", help="Annotated records (JSON Lines).", show_default=False)
]
Iteration = Annotated[int, typer.Option(min=0, help="Number of the iteration, from 0.")]


def run_config(path: Path, overrides: list[str] | None) -> RunConfig:
    """The configuration of a whole run."""
    return load_config(path, overrides or [])


def step_config(
    path: Path | None, overrides: list[str] | None, *, model: str, annotated: Path | None
) -> RunConfig:
    """The configuration of a single step, which needs no file: its inputs are options."""
    defaults = {
        "run_dir": ".",
        "model": {"path": model},
        "data": {"annotated": str(annotated or "unused")},
    }
    return load_config(path, overrides or [], defaults=defaults)
