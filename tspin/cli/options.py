"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from tspin.config import ModelConfig, RunConfig, load_config
from tspin.files import expanded
from tspin.models.folder import find_model
from tspin.models.quantization import check_quantization
from tspin.monitoring.monitored import check_endpoint
from tspin.records.records import (
    AnnotatedRecord,
    Record,
    Triplet,
    check_first_record,
    is_annotated,
)
from tspin.runs.inputs import fetch_data
from tspin.store import fetch, is_remote
from tspin.tracking.trackers import check_trackers

__all__ = [
    "LOCAL_PATH",
    "PATH",
    "AnnotatedFile",
    "ConfigFile",
    "Iteration",
    "Overrides",
    "Overwrite",
    "StepConfigFile",
    "check_run_inputs",
    "local_model",
    "local_records",
    "local_training_records",
    "model_identity",
    "run_config",
    "run_inputs",
    "step_config",
]

PATH: dict[str, Any] = {"parser": expanded, "metavar": "PATH", "show_default": False}
"""Settings of every option and argument that is a path or an `s3://` URI."""
LOCAL_PATH = PATH | {"parser": lambda text: Path(expanded(str(text)))}
"""Of those that must be a path."""


ConfigFile = Annotated[
    str, typer.Option("--config", "-c", help="Run configuration (YAML).", **PATH)
]
StepConfigFile = Annotated[
    str | None,
    typer.Option("--config", "-c", help="Run configuration (YAML); else the defaults.", **PATH),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Move what is in the output's way to NAME.replaced-TIME."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value over the configuration; may be repeated."),
]
AnnotatedFile = Annotated[
    str, typer.Option("--annotated", help="Annotated records (JSON Lines).", **PATH)
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
        InputError: there is no such model, or the package that would quantise it.
    """
    check_quantization(config)
    local = str(fetch(model)) if is_remote(model) else model
    find_model(local, config, weights=False)
    return local


def model_identity(model: str, config: ModelConfig) -> Callable[[], str]:
    """What a manifest calls a local or Hub model; looked at when it is called."""
    return lambda: find_model(model, config, weights=False).identity(config)


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
    """Look at the data and at the model of a whole run, and whether its trackers are there.

    Raises:
        InputError: as `local_records` and `local_model`, a tracker is not installed, or the port
            for Prometheus is not to be had.
    """
    check_trackers(config)
    check_endpoint(config)
    data = fetch_data(config)
    for path in filter(None, (data.annotated, data.heldout)):
        check_first_record(path, AnnotatedRecord)
    local_model(config.model.path, config.model)


def run_inputs(config: RunConfig, path: str) -> list[str | None]:
    """What a whole run reads, its configuration file included."""
    data, tasks = config.data, config.evaluate.harness.task_folder
    return [path, data.annotated, data.heldout, config.model.path, tasks]
