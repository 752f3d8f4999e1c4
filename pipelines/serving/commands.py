"""`tspin deploy` writes what a cluster serves; `tspin deploy-check` asks whether it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tspin.errors import InputError
from tspin_pipelines.options import (
    LOCAL_PATH,
    PATH,
    CaFile,
    Namespace,
    Overrides,
    Overwrite,
    ProfileName,
)

if TYPE_CHECKING:
    from tspin.config import RunConfig
    from tspin_pipelines.serving.release import Asked

__all__ = ["app", "check_app"]

_SETTINGS = {
    "invoke_without_command": True,
    "subcommand_metavar": "",
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}
app = typer.Typer(name="deploy", **_SETTINGS)  # type: ignore[arg-type]
check_app = typer.Typer(name="deploy-check", **_SETTINGS)  # type: ignore[arg-type]

RunConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Run configuration (YAML) of the champion.", **LOCAL_PATH),
]
Number = Annotated[int | None, typer.Option(help="Of a champion; today's by default.")]


Target = Annotated[
    Literal["kserve", "inferenceservice", "vllm"],
    typer.Option(help="LLMInferenceService, InferenceService, or a plain Deployment."),
]
Image = Annotated[
    str | None, typer.Option(help="With vLLM; the profile's for generation by default.")
]
Canary = Annotated[
    int | None,
    typer.Option(min=1, max=99, help="Of 100 requests so many; the champion before has the rest."),
]
Base = Annotated[
    str | None, typer.Option(help="Where pods find an adapter's base.", show_default=False)
]
Further = Annotated[
    list[str] | None, typer.Option("--arg", help="Argument of vLLM's server; may be repeated.")
]


@app.callback()
def deploy(
    registry: Annotated[
        str, typer.Option(help="Of the champion: s3://, gs://, az:// or a folder.", **PATH)
    ],
    to: Target,
    profile: ProfileName,
    config: RunConfigFile = None,
    overrides: Overrides = None,
    name: Annotated[str, typer.Option(help="Of the objects, and of the model.")] = "tspin",
    number: Number = None,
    namespace: Namespace = None,
    image: Image = None,
    base: Base = None,
    replicas: Annotated[int, typer.Option(min=1, help="Copies of the server.")] = 1,
    canary: Canary = None,
    arg: Further = None,
    oci: Annotated[
        bool, typer.Option("--oci", help="The model as the image that tspin export --oci made.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="YAML file; otherwise it is printed.", **LOCAL_PATH)
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Bring it into the cluster.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the manifests that serve the champion of a registry; or apply them."""
    from tspin_pipelines.serving.release import Asked

    asked = Asked(name, number, namespace, image, base, replicas, canary, tuple(arg or ()), oci)
    _deploy(registry, to, profile, (config, overrides), asked, out, apply, overwrite)


def _deploy(
    registry: str,
    to: Literal["kserve", "inferenceservice", "vllm"],
    profile: str,
    config: tuple[Path | None, list[str] | None],
    asked: Asked,
    out: Path | None,
    apply: bool,
    overwrite: bool,
) -> None:
    from tspin.files import atomic_file
    from tspin.outputs import begins_with, check_output
    from tspin_pipelines.profiles.profile import load_profile
    from tspin_pipelines.serving.release import HEADER, documents_of, manifest_text, serving_of

    file, overrides = config
    run = _run_config(file, overrides)
    if out is not None:
        check_output(out, begins_with(HEADER), inputs=[registry, file], overwrite=overwrite)
    serving = serving_of(registry, load_profile(profile), run, asked)
    documents = documents_of(to, serving)
    text = manifest_text(serving, documents)
    if out is not None:
        with atomic_file(out) as written:
            written.write(text.encode())
        typer.echo(f"{out}: {text.splitlines()[0].removeprefix('# ')}", err=True)
    if apply:
        _apply(documents, asked.name)
    elif out is None:
        typer.echo(text, nl=False)


def _run_config(file: Path | None, overrides: list[str] | None) -> RunConfig | None:
    from tspin.config import load_config

    if file is None and overrides:
        raise InputError(
            f"--set {overrides[0]}: changes a run configuration; name it with --config"
        )
    return None if file is None else load_config(file, overrides or [])


def _apply(documents: list[dict[str, Any]], name: str) -> None:
    try:
        from tspin_pipelines.serving.cluster import apply_documents
    except ModuleNotFoundError as error:
        raise InputError(
            f"the Python package '{error.name}' is missing; install it: pip install "
            "'tspin[pipelines]'"
        ) from None
    for line in apply_documents(documents, f"{name}-canary"):
        typer.echo(line)


Answers = Annotated[
    Path | None,
    typer.Option(help="metrics.greedy.jsonl of the champion's evaluation.", **LOCAL_PATH),
]
Margin = Annotated[
    float, typer.Option(min=0, max=1, help="By how much a share may be lower than measured.")
]
Records = Annotated[
    int | None, typer.Option(min=1, help="Ask so many, the first ones; all by default.")
]
NewTokens = Annotated[
    int | None, typer.Option(min=1, help="The configuration's by default, or 1024.")
]
Patience = Annotated[
    float, typer.Option(min=0, help="Seconds in which the server may still be starting.")
]


@check_app.callback()
def deploy_check(
    url: Annotated[str, typer.Option(help="Of the endpoint, with or without /v1.")],
    heldout: Annotated[
        Path, typer.Option(help="Held-out records (JSON Lines) to ask.", **LOCAL_PATH)
    ],
    registry: Annotated[str | None, typer.Option(help="Of the champion.", **PATH)] = None,
    number: Number = None,
    answers: Answers = None,
    config: RunConfigFile = None,
    overrides: Overrides = None,
    name: Annotated[str, typer.Option(help="Of the model in requests.")] = "tspin",
    margin: Margin = 0.02,
    records: Records = None,
    max_new_tokens: NewTokens = None,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Requests at a time.")] = 8,
    wait: Patience = 0.0,
    token_file: Annotated[
        Path | None, typer.Option(help="File with a bearer token.", **LOCAL_PATH)
    ] = None,
    ca_file: CaFile = None,
) -> None:
    """Ask what is served held-out prompts; exit code 3 if it answers worse than was measured."""
    from tspin_pipelines.serving.check.check import Check, check_endpoint
    from tspin_pipelines.serving.check.endpoint import Endpoint

    check = Check(
        heldout=heldout,
        registry=registry,
        number=number,
        answers=answers,
        config=_run_config(config, overrides),
        model=name,
        margin=margin,
        records=records,
        max_new_tokens=max_new_tokens,
        parallel=parallel,
        wait=wait,
    )
    endpoint = Endpoint(url, token_file=token_file, ca_file=ca_file)
    check_endpoint(endpoint, check, typer.echo)
