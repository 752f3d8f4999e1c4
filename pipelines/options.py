"""Options of the commands, and the plan that they make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tspin.files import expanded
from tspin_pipelines.packages import require_kubeflow

if TYPE_CHECKING:
    from tspin_pipelines.plan import Plan

__all__ = [
    "LOCAL_PATH",
    "PATH",
    "CaFile",
    "Cache",
    "CompiledForm",
    "ConfigFile",
    "Cron",
    "Every",
    "Experiment",
    "Host",
    "InCluster",
    "InsecureToken",
    "IterationNumber",
    "Model",
    "Namespace",
    "Overrides",
    "Overwrite",
    "PipelineName",
    "PipelineRoot",
    "ProfileName",
    "ProjectProfile",
    "Registry",
    "RunName",
    "Shards",
    "Tags",
    "Timeout",
    "TokenCommand",
    "TokenFile",
    "Wait",
    "make_plan",
]

PATH: dict[str, Any] = {"parser": expanded, "metavar": "PATH", "show_default": False}
"""Settings of every option that is a path or a URI."""
LOCAL_PATH = PATH | {"parser": lambda text: Path(expanded(str(text)))}
"""Of those that must be a path."""

ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", help="Run configuration (YAML).", **LOCAL_PATH)
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Move what is in the output's way to NAME.replaced-TIME."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value over the configuration; may be repeated."),
]
ProfileName = Annotated[
    str,
    typer.Option("--profile", help="A shipped profile, or your own (*.yaml).", **PATH),
]
ProjectProfile = Annotated[
    Path, typer.Option("--profile", help="The profile of a project.", **LOCAL_PATH)
]
PipelineName = Annotated[str, typer.Option("--pipeline", help="run, iteration or evaluate.")]
CompiledForm = Annotated[
    Literal["pipeline", "crd"],
    typer.Option("--format", help="For Kubeflow's API, or objects for kubectl and GitOps."),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", help="KEY=VALUE of the version, with --format crd; may be repeated."),
]
Shards = Annotated[int, typer.Option(min=1, help="Pods that share each generation.")]
Cache = Annotated[
    bool | None, typer.Option("--cache/--no-cache", help="Instead of what the profile says.")
]
Registry = Annotated[
    str | None, typer.Option(help="Promote the best model here: a folder or s3:// prefix.", **PATH)
]
Model = Annotated[
    str | None,
    typer.Option(help="The policy to start from: folder, Hub name or artifact URI.", **PATH),
]
IterationNumber = Annotated[
    int, typer.Option("--iteration", min=0, help="Which one --pipeline iteration plays.")
]
Host = Annotated[str | None, typer.Option(help="URL of the server; or KFP_HOST.")]
Namespace = Annotated[str | None, typer.Option(help="The profile's by default.")]
TokenFile = Annotated[
    Path | None, typer.Option(help="File with a bearer token; or KFP_TOKEN.", **LOCAL_PATH)
]
TokenCommand = Annotated[
    str | None,
    typer.Option(envvar="KFP_TOKEN_COMMAND", help="Prints a bearer token; run when one is needed."),
]
InsecureToken = Annotated[
    bool, typer.Option("--insecure-token", help="Send the token over plain http to another host.")
]
InCluster = Annotated[bool, typer.Option("--in-cluster", help="With the pod's service account.")]
CaFile = Annotated[Path | None, typer.Option(help="Certificates of the server.", **LOCAL_PATH)]
PipelineRoot = Annotated[
    str | None,
    typer.Option(help="Where artifacts go: s3://, gs:// or minio://; else the namespace's own."),
]
Experiment = Annotated[str, typer.Option(help="Made where it is not there.")]
RunName = Annotated[str | None, typer.Option(help="Of the run.")]
Cron = Annotated[str | None, typer.Option(help="Recurring: six fields, seconds first.")]
Wait = Annotated[bool, typer.Option("--wait", help="Until the end; 1 if it fails.")]
Timeout = Annotated[float | None, typer.Option(min=0, help="Seconds to wait; the run goes on.")]
Every = Annotated[float, typer.Option(min=0.05, help="Seconds between two looks.")]


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
        config: File of the run configuration.
        overrides: `section.key=value` over it.
        profile: Name of a shipped profile, or a path.
        shards: Parallel tasks of a generation.
        cache: Overrides the stages' caching.
        registry: URI that the best model is promoted to, or None.
        model: A policy to start from, for the pipelines that take one.
        iteration: Number of the one iteration, for the pipeline `iteration`.

    Raises:
        InputError: the configuration or the profile is wrong, or there is none; or kfp is not
            installed.
    """
    require_kubeflow()
    from tspin.config import load_config
    from tspin_pipelines.plan import Plan
    from tspin_pipelines.profiles.profile import load_profile

    return Plan(
        config=load_config(config, overrides or []),
        profile=load_profile(profile),
        shards=shards,
        cache=cache,
        registry=registry,
        model=model,
        iteration=iteration,
    )
