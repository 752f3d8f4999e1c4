"""`tspin pipeline`: compile, publish the components, submit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tspin.errors import InputError
from tspin.outputs import check_output
from tspin_pipelines.options import (
    LOCAL_PATH,
    Cache,
    CaFile,
    ConfigFile,
    Cron,
    Every,
    Experiment,
    Host,
    InCluster,
    InsecureToken,
    IterationNumber,
    Model,
    Namespace,
    Overrides,
    Overwrite,
    PipelineName,
    ProfileName,
    Registry,
    RunName,
    Shards,
    Timeout,
    TokenCommand,
    TokenFile,
    Wait,
    make_plan,
)

__all__ = ["app"]

app = typer.Typer(
    name="pipeline",
    help="Self-play fine-tuning as Kubeflow pipelines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command(name="compile")
def compile_command(
    config: ConfigFile,
    profile: ProfileName,
    out: Annotated[Path, typer.Option(help="The YAML file.", **LOCAL_PATH)],
    pipeline: PipelineName = "run",
    overrides: Overrides = None,
    shards: Shards = 1,
    cache: Cache = None,
    registry: Registry = None,
    model: Model = None,
    iteration: IterationNumber = 0,
    overwrite: Overwrite = False,
) -> None:
    """Compile a pipeline for a profile into one YAML file."""
    from tspin_pipelines.compile import compile_pipeline, compiled_pipeline

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
    check_output(out, compiled_pipeline(pipeline), inputs=[config], overwrite=overwrite)
    compile_pipeline(pipeline, plan, out)
    typer.echo(f"{out}: pipeline '{pipeline}' for profile '{profile}'")


@app.command(name="submit")
def submit_command(
    config: ConfigFile,
    profile: ProfileName,
    pipeline: PipelineName = "run",
    overrides: Overrides = None,
    shards: Shards = 1,
    cache: Cache = None,
    registry: Registry = None,
    model: Model = None,
    iteration: IterationNumber = 0,
    host: Host = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    token_command: TokenCommand = None,
    insecure_token: InsecureToken = False,
    in_cluster: InCluster = False,
    ca_file: CaFile = None,
    experiment: Experiment = "tspin",
    name: RunName = None,
    cron: Cron = None,
    wait: Wait = False,
    timeout: Timeout = None,
    every: Every = 5.0,
) -> None:
    """Compile a pipeline and run it on a server, once or on a schedule."""
    from tspin_pipelines.kubeflow.server import Access, Server
    from tspin_pipelines.kubeflow.start_run import start_run

    if wait and cron is not None:
        raise InputError("--wait cannot be given with --cron: a recurring run has no end")
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
    access = Access(token_file, token_command, insecure_token, in_cluster, ca_file)
    server = Server.of(host, namespace or plan.profile.namespace, access)
    run = start_run(plan, pipeline, server, name=name, experiment=experiment, cron=cron)
    typer.echo(f"{'recurring run' if cron else 'run'} {run}")
    if wait:
        from tspin_pipelines.kubeflow.watch import watch

        watch(server, server.connect(), run, say=typer.echo, timeout=timeout, every=every)
        typer.echo(f"run {run} succeeded")


@app.command(name="components")
def components_command(
    profile: ProfileName,
    out: Annotated[Path, typer.Option(help="A folder.", **LOCAL_PATH)],
) -> None:
    """Write each component as YAML of its own, for pipelines that are not ours."""
    from tspin_pipelines.profiles.profile import load_profile
    from tspin_pipelines.publish import publish_components

    for path in publish_components(load_profile(profile), out):
        typer.echo(path)
