"""`tspin pipeline`: compile, publish the components, submit; what surrounds a profile.

Kubeflow's packages are imported by the commands that need them, when these are called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tspin.errors import InputError
from tspin_pipelines.options import (
    LOCAL_PATH,
    Cache,
    CaFile,
    CompiledForm,
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
    PipelineRoot,
    ProfileName,
    ProjectProfile,
    Registry,
    RunName,
    Shards,
    Tags,
    Timeout,
    TokenCommand,
    TokenFile,
    Wait,
    make_plan,
)
from tspin_pipelines.packages import require_kubeflow
from tspin_pipelines.profiles import commands as profiles

if TYPE_CHECKING:
    from tspin_pipelines.kubeflow.server import Server

__all__ = ["app"]

app = typer.Typer(
    name="pipeline",
    help="Self-play fine-tuning as Kubeflow pipelines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(profiles.app, name="profiles")
PROFILE = Path("kubeflow/profile.yaml")
"""Where `tspin init --kubeflow` puts a project's own."""


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
    form: CompiledForm = "pipeline",
    tags: Tags = None,
    overwrite: Overwrite = False,
) -> None:
    """Compile a pipeline for a profile into one YAML file."""
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
    from tspin.outputs import check_output
    from tspin_pipelines.compile import compile_pipeline, compiled_pipeline

    ours = compiled_pipeline(pipeline, form)
    check_output(out, ours, inputs=[config], overwrite=overwrite)
    compile_pipeline(pipeline, plan, out, form, tags=tags or ())
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
    pipeline_root: PipelineRoot = None,
    name: RunName = None,
    cron: Cron = None,
    wait: Wait = False,
    timeout: Timeout = None,
    every: Every = 5.0,
) -> None:
    """Compile a pipeline and run it on a server, once or on a schedule."""
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
    from tspin_pipelines.kubeflow.server import Access, Server
    from tspin_pipelines.kubeflow.start_run import start_run

    access = Access(token_file, token_command, insecure_token, in_cluster, ca_file)
    server = Server.of(host, namespace or plan.profile.namespace, access)
    run = start_run(
        plan, pipeline, server, name=name, experiment=experiment, root=pipeline_root, cron=cron
    )
    typer.echo(f"{'recurring run' if cron else 'run'} {run}")
    if wait:
        _follow(server, run, timeout, every)


@app.command(name="status")
def status_command(
    run: Annotated[str, typer.Argument(help="Its id, as submit prints it.")],
    host: Host = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    token_command: TokenCommand = None,
    insecure_token: InsecureToken = False,
    in_cluster: InCluster = False,
    ca_file: CaFile = None,
) -> None:
    """Print the state of a run: PENDING, RUNNING, SUCCEEDED, FAILED, CANCELED or the like."""
    require_kubeflow()
    from tspin_pipelines.kubeflow.server import Access, Server
    from tspin_pipelines.kubeflow.watch import state_of

    access = Access(token_file, token_command, insecure_token, in_cluster, ca_file)
    server = Server.of(host, namespace or "tspin", access)
    typer.echo(state_of(server, server.connect(), run))


def _follow(server: Server, run: str, timeout: float | None, every: float) -> None:
    from tspin_pipelines.kubeflow.watch import watch

    watch(server, server.connect(), run, say=typer.echo, timeout=timeout, every=every)
    typer.echo(f"run {run} succeeded")


@app.command(name="components")
def components_command(
    profile: ProfileName,
    out: Annotated[Path, typer.Option(help="A folder.", **LOCAL_PATH)],
    described: Annotated[
        bool,
        typer.Option(help="A folder for each, with README.md and metadata.yaml beside its YAML."),
    ] = False,
) -> None:
    """Write each component as YAML of its own, for pipelines that are not ours."""
    require_kubeflow()
    from tspin_pipelines.profiles.profile import load_profile
    from tspin_pipelines.publishing.components import publish_components

    for path in publish_components(load_profile(profile), out, described=described):
        typer.echo(path)


@app.command(name="manifests")
def manifests_command(
    profile: ProjectProfile = PROFILE,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit code 2 if something would.")
    ] = False,
) -> None:
    """Write a project's layer on the overlay of its profile: overlay/ beside the profile."""
    from tspin_pipelines.project.manifests import sync_manifests

    layer = sync_manifests(profile, check=check)
    typer.echo(f"{profile.parent / 'overlay'}: {'up to date' if layer is None else 'written'}")


@app.command(name="environment")
def environment_command(profile: ProjectProfile = PROFILE) -> None:
    """Print what a project's profile says to `tspin retrain`, as NAME=VALUE lines."""
    from tspin_pipelines.project.manifests import load_project

    _, project = load_project(profile)
    for name, value in project.environment(str(profile)).items():
        typer.echo(f"{name}={value}")
