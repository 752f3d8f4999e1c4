"""What is told of a run: parameters, curves, held-out metrics, hashes; each from the files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tspin.config import NOT_THE_RESULT, RunConfig, resolved
from tspin.records.estimate import estimates_of, read_metrics
from tspin.records.manifest import Manifest, manifest_path
from tspin.tracking.server import Point

__all__ = [
    "HELDOUT",
    "LOSS",
    "config_params",
    "curve",
    "heldout",
    "iteration_params",
    "named",
    "recorded_tags",
]

TRAINING, HELDOUT = "train/", "heldout/"
LOSS = f"{TRAINING}loss"
"""The curve that every training has."""

# What MLflow takes as a name (mlflow/utils/validation.py).
_UNNAMED = re.compile(r"[^\w\-./ :]")
_CHANGING = (*NOT_THE_RESULT, "iterations")
"""What may be another when a run goes on; a parameter never changes."""


def config_params(config: RunConfig) -> dict[str, str]:
    """The run configuration, a parameter a setting, named `section.setting`."""
    asked = {name: value for name, value in resolved(config).items() if name not in _CHANGING}
    return dict(_flat(asked))


def iteration_params(config: RunConfig, iteration: int) -> dict[str, str]:
    """What a training of this iteration is set to, where a configuration has one per iteration.

    Args:
        config: Of the run.
        iteration: From 0; the initial policy, -1, has none.
    """
    if iteration < 0:
        return {}
    settings = config.train
    return {
        "train.learning_rate": str(settings.at("learning_rate", iteration)),
        "train.beta": str(settings.beta_at(iteration)),
    }


def curve(rows: list[dict[str, Any]], time_ms: int) -> Iterator[Point]:
    """The values of rows of train_log.jsonl.

    Args:
        rows: Each with its `step`.
        time_ms: When they were read; a row itself has no time.
    """
    for row in rows:
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                yield Point(named(TRAINING + name), float(value), int(row["step"]), time_ms)


def heldout(metrics: Path) -> Iterator[Point]:
    """The values of a metrics.json by iteration, each with its interval as NAME.low and NAME.high.

    Their time is that of the file: however often they are sent, they are there once.
    """
    content, time_ms = read_metrics(metrics), int(metrics.stat().st_mtime * 1000)
    step = int(content["iteration"])
    for name, estimate in estimates_of(content).items():
        values = {"": estimate.value, ".low": estimate.low, ".high": estimate.high}
        for ending, value in values.items():
            if value is not None and math.isfinite(value):
                yield Point(named(HELDOUT + name + ending), float(value), step, time_ms)


def recorded_tags(output: Path) -> dict[str, str]:
    """The hashes in the manifest of an output, as tags: its own, its inputs', its policy's.

    The output is not read for this: that would take as long as a step, and who reads an output
    for its content compares it anyway.
    """
    path = manifest_path(output)
    if not path.is_file():
        return {}
    manifest = Manifest.model_validate_json(path.read_bytes())
    name = output.name.partition(".")[0]
    tags = {f"tspin.{name}.sha256": manifest.sha256, f"tspin.{name}.key": manifest.key}
    tags |= {f"tspin.{name}.from.{role}": value for role, value in manifest.inputs.items()}
    if manifest.model is not None:
        tags[f"tspin.{name}.policy"] = manifest.model
    return {named(tag): value for tag, value in tags.items()}


def named(name: str) -> str:
    """A name as MLflow takes it."""
    return _UNNAMED.sub("_", name)


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield named(before + name), value if isinstance(value, str) else json.dumps(value)
