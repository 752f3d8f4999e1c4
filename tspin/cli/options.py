"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tspin.config import ModelConfig, RunConfig, load_config
from tspin.models.folder import find_model
from tspin.records.records import (
    AnnotatedRecord,
    Record,
    Triplet,
    check_first_record,
    is_annotated,
)
from tspin.runs.inputs import fetch_data
from tspin.store import fetch, is_remote

__all__ = [
    "AnnotatedFile",
    "ConfigFile",
    "Iteration",
    "Overrides",
    "StepConfigFile",
    "check_run_inputs",
    "local_model",
    "local_records",
    "local_training_records",
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


# What follows looks at inputs before a command imports its step. A step finds the same faults, but
# torch and transformers are imported first, which takes ten seconds.


def local_model(model: str, config: ModelConfig) -> str:
    """A model as steps take it: remote ones are copied to this machine, with their manifest.

    Raises:
        InputError: there is no such model.
    """
    local = str(fetch(model)) if is_remote(model) else model
    find_model(local, config, weights=False)
    return local


def local_records(location: str, kind: type[Record]) -> Path:
    """A file of records on this machine; its first one is looked at.

    Raises:
        InputError: there is no such file, or its first line is no such record.
    """
    path = fetch(location)
    check_first_record(path, kind)
    return path


def local_training_records(location: str, config: RunConfig) -> Path:
    """As `local_records`: triplets, for sft annotated records too.

    Raises:
        InputError: as `local_records`.
    """
    path = fetch(location)
    if config.train.method == "sft" and is_annotated(path):
        check_first_record(path, AnnotatedRecord)
    else:
        check_first_record(path, Triplet)
    return path


def check_run_inputs(config: RunConfig) -> None:
    """Look at the data and at the model of a whole run.

    Raises:
        InputError: as `local_records` and `local_model`.
    """
    data = fetch_data(config)
    for path in filter(None, (data.annotated, data.heldout)):
        check_first_record(path, AnnotatedRecord)
    local_model(config.model.path, config.model)
