"""`python -m pipelines`: compile, publish the components, submit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import (
    Cache,
    ConfigFile,
    IterationNumber,
    Model,
    Overrides,
    PipelineName,
    ProfileName,
    Registry,
    Shards,
    make_plan,
)

__all__ = ["app"]

app = typer.Typer(
    name="pipelines",
    help="Self-play fine-tuning as Kubeflow pipelines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command(name="compile")
def compile_command(
    config: ConfigFile,
    profile: ProfileName,
    out: Annotated[Path, typer.Option(help="The YAML file.", show_default=False)],
    pipeline: PipelineName = "run",
    overrides: Overrides = None,
    shards: Shards = 1,
    cache: Cache = None,
    registry: Registry = None,
    model: Model = None,
    iteration: IterationNumber = 0,
) -> None:
    """Compile a pipeline for a profile into one YAML file."""
    from pipelines.compile import compile_pipeline

    plan = make_plan(
        config,
        overrides,
        profile,
        shards=shards,
        cache=cache,
        registry=registry,
        model=model,
        iteration=iteration,
    )
    compile_pipeline(pipeline, plan, out)
    typer.echo(f"{out}: pipeline '{pipeline}' for profile '{profile}'")


@app.command(name="components")
def components_command(
    profile: ProfileName,
    out: Annotated[Path, typer.Option(help="A folder.", show_default=False)],
) -> None:
    """Write each component as YAML of its own, for pipelines that are not ours."""
    from pipelines.profile import load_profile
    from pipelines.publish import publish_components

    for path in publish_components(load_profile(profile), out):
        typer.echo(path)
