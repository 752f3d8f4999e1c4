"""Compiles a pipeline for a profile into one YAML file: pipeline spec and platform spec."""

from __future__ import annotations

import tempfile
from pathlib import Path

from kfp import compiler

from pipelines.graphs import evaluation
from pipelines.profile import Profile
from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.files import atomic_file

__all__ = ["PIPELINES", "compile_pipeline"]

PIPELINES: tuple[str, ...] = ("run", "iteration", "evaluate")


def compile_pipeline(
    name: str,
    config: RunConfig,
    profile: Profile,
    out: Path,
    *,
    shards: int = 1,
    cache: bool | None = None,
    registry: str | None = None,
) -> None:
    """Write the pipeline `name` to `out`, whole or not at all.

    Args:
        name: One of `PIPELINES`; only `evaluate` can be compiled so far.
        config: Becomes the default of the pipeline's parameters.
        profile: Where each stage runs.
        out: The YAML file, two documents.
        shards: Parts that generation is split into; `evaluate` has no such step.
        cache: Overrides caching of every stage.
        registry: Where a promoted model goes; `evaluate` promotes none.

    Raises:
        InputError: no such pipeline, or arguments that it cannot take.
    """
    if name not in PIPELINES:
        raise InputError(f"unknown pipeline '{name}'; there are {', '.join(PIPELINES)}")
    if name != "evaluate":
        raise InputError(f"pipeline '{name}' cannot be compiled yet; only 'evaluate' can")
    if shards != 1:
        raise InputError(f"shards is {shards}; pipeline 'evaluate' takes 1")
    if registry is not None:
        raise InputError(f"registry is {registry!r}; pipeline 'evaluate' promotes no model")
    if config.data.heldout is None:
        raise InputError("data.heldout is not set; pipeline 'evaluate' measures on it")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(evaluation(config, profile, cache), str(made))
        with atomic_file(out) as file:
            file.write(made.read_bytes())
