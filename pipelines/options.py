"""Options of the commands, and the plan that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.plan import Plan
from pipelines.profile import load_profile
from tspin.config import load_config

__all__ = [
    "Cache",
    "ConfigFile",
    "IterationNumber",
    "Model",
    "Overrides",
    "PipelineName",
    "ProfileName",
    "Registry",
    "Shards",
    "make_plan",
]

ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", help="Run configuration (YAML).", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value over the configuration; may be repeated."),
]
ProfileName = Annotated[
    str,
    typer.Option("--profile", help="A shipped profile, or your own (*.yaml).", show_default=False),
]
PipelineName = Annotated[str, typer.Option("--pipeline", help="run, iteration or evaluate.")]
Shards = Annotated[int, typer.Option(min=1, help="Pods that share each generation.")]
Cache = Annotated[
    bool | None, typer.Option("--cache/--no-cache", help="Instead of what the profile says.")
]
Registry = Annotated[
    str | None, typer.Option(help="Promote the best model here: a folder or s3:// prefix.")
]
Model = Annotated[
    str | None,
    typer.Option(help="The policy to start from: folder, Hub name or artifact URI."),
]
IterationNumber = Annotated[
    int, typer.Option("--iteration", min=0, help="Which one --pipeline iteration plays.")
]


def make_plan(
    config: Path,
    overrides: list[str] | None,
    profile: str,
    *,
    shards: int = 1,
    cache: bool | None = None,
    registry: str | None = None,
    model: str | None = None,
    iteration: int = 0,
) -> Plan:
    """Load what the options name.

    Args:
        config: Path or URI of the run configuration.
        overrides: `section.key=value` over it.
        profile: Name of a shipped profile, or a path.
        shards: Parallel tasks of a generation.
        cache: Overrides the stages' caching.
        registry: URI that the best model is promoted to, or None.
        model: A policy to start from, for the pipelines that take one.
        iteration: Number of the one iteration, for the pipeline `iteration`.

    Raises:
        InputError: the configuration or the profile is wrong, or there is none.
    """
    return Plan(
        config=load_config(config, overrides or []),
        profile=load_profile(profile),
        shards=shards,
        cache=cache,
        registry=registry,
        model=model,
        iteration=iteration,
    )
