"""Commands on a registry: promote, rollback, retrain, registry list, fetch, verify and so on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tspin.cli.options import LOCAL_PATH, PATH, Overwrite
from tspin.errors import InputError
from tspin.outputs import begins_with, check_output, registry_folder
from tspin.registry.record import Record
from tspin.store import fetch

if TYPE_CHECKING:
    from tspin.retrain import Outcome

__all__ = ["app", "promote", "retrain", "rollback"]

app = typer.Typer(help="Models that were promoted.", no_args_is_help=True)

RegistryUri = Annotated[
    str, typer.Option("--registry", help="A folder or s3://bucket/prefix.", **PATH)
]
By = Annotated[str | None, typer.Option(help="Who; the user of this process by default.")]
MinGain = Annotated[
    float, typer.Option(help="How much better, in the metric's unit; below 0 allows a loss.")
]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Or leave when a Kubeflow run is submitted.")
]
Since = Annotated[
    str | None, typer.Option(help="Commit before the push; does nothing if only docs changed.")
]
ProjectFolder = Annotated[Path, typer.Option(help="Of the project.", **LOCAL_PATH)]
Certain = Annotated[
    bool,
    typer.Option(
        "--certain/--by-value", help="The gain's whole interval counts, or its value alone."
    ),
]
MIRROR = typer.Option(
    "--mirror",
    envvar="TSPIN_MIRRORS",
    help="Show the champion there, too: model-registry=URL or mlflow=URL; may be repeated.",
)
Mirrors = Annotated[list[str] | None, MIRROR]
MirrorName = Annotated[
    str | None,
    typer.Option(
        envvar="TSPIN_MIRROR_NAME",
        help="Of the registered model there; made of the registry's URI by default.",
    ),
]


def promote(
    candidate: Annotated[str, typer.Option(help="The model's folder.", **PATH)],
    metrics: Annotated[str, typer.Option(help="Its metrics.json.", **PATH)],
    registry: RegistryUri,
    metric: Annotated[str, typer.Option(help="A name in metrics.json.")] = "nll_per_token",
    direction: Annotated[Literal["max", "min"], typer.Option(help="What is better.")] = "min",
    min_gain: MinGain = 0.0,
    certain: Certain = True,
    by: By = None,
    run: Annotated[str | None, typer.Option(help="Where the model comes from.")] = None,
    mirrors: Mirrors = None,
    mirror_name: MirrorName = None,
) -> None:
    """Make a model the champion if it beats the champion; exit code 3 if it does not."""
    from tspin.mirrors.following import mirrored
    from tspin.registry import promote as step

    with mirrored(registry, mirrors or [], mirror_name):
        record = step(
            fetch(candidate),
            metrics=fetch(metrics),
            registry=registry,
            metric=metric,
            direction=direction,
            min_gain=min_gain,
            certain=certain,
            by=by,
            run=run,
        )
        _tell_champion(registry, record)


def rollback(
    registry: RegistryUri,
    to: Annotated[
        int | None, typer.Option(help="Number of a champion; the one before by default.")
    ] = None,
    by: By = None,
    mirrors: Mirrors = None,
    mirror_name: MirrorName = None,
) -> None:
    """Make an earlier champion the champion again."""
    from tspin.mirrors.following import mirrored
    from tspin.registry import rollback as step

    with mirrored(registry, mirrors or [], mirror_name):
        record = step(registry, to=to, by=by)
        _tell_champion(registry, record)


@app.command(name="list")
def list_command(
    registry: RegistryUri,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """All champions, the last one is today's."""
    from tspin.registry import Registry

    opened = Registry(registry)
    for record in opened.records():
        if as_json:
            images = {"images": [note.image for note in opened.images.of(record.model)]}
            typer.echo(json.dumps(record.model_dump(mode="json") | images))
            continue
        value = record.metrics[record.metric].value
        told = f"{record.metric} {value:.4g}  by {record.by}  {record.run or ''}"
        typer.echo(f"{record.number:4}  {record.at}  {record.kind:8}  {record.model:.12}  {told}")


@app.command(name="fetch")
def fetch_command(
    registry: RegistryUri,
    out: Annotated[Path, typer.Option(help="The model's folder.", **LOCAL_PATH)],
    number: Annotated[int | None, typer.Option(help="Of a champion; today's by default.")] = None,
    content: Annotated[
        str | None,
        typer.Option("--hash", help="Content hash of a champion's model, or how it begins."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Copy the champion to a folder, checked file by file."""
    from tspin.registry import Registry

    opened = Registry(registry)
    record = opened.find(number=number, model=content)
    opened.fetch(record, out, overwrite=overwrite)
    typer.echo(f"{out}: champion {record.number}, {record.model}")
    if fitted := record.metrics.get("temperature/fitted"):
        typer.echo(
            f"sample at temperature {fitted.value:.4g}, fitted to its held-out records: vllm serve "
            f"... --override-generation-config '{{\"temperature\": {fitted.value:.4g}}}'"
        )


@app.command(name="verify")
def verify_command(
    registry: RegistryUri,
    known: Annotated[
        str | None,
        typer.Option(help="A head that was printed earlier: its history must still be this one's."),
    ] = None,
) -> None:
    """Read everything: records chained without a gap, models as they were put in; 1 if not."""
    from tspin.registry import Registry

    heads = Registry(registry).verify(known=known)
    typer.echo(f"{registry}: {len(heads)} records and their models are what was put in")
    if heads:
        typer.echo(f"head: {heads[-1]}")


@app.command(name="metrics")
def metrics_command(
    registry: RegistryUri,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 9464,
    ci: Annotated[
        str, typer.Option(help="Regular expression: how the run of a promotion by CI begins.")
    ] = "https?://|kfp://|tspin-run",
) -> None:
    """Answer Prometheus about the champions until the command is ended."""
    from tspin.monitoring.monitored import check_client

    check_client()
    try:
        pattern = re.compile(ci)
    except re.error as error:
        raise InputError(f"--ci is {ci!r}, not a regular expression: {error}") from None
    from tspin.monitoring.registry import serve_registry

    serve_registry(registry, port, pattern)


@app.command(name="sync")
def sync_command(
    registry: RegistryUri,
    mirrors: Annotated[list[str], MIRROR],
    mirror_name: MirrorName = None,
) -> None:
    """Make mirrors what the registry says, whatever they missed; 1 if one cannot be reached."""
    from tspin.mirrors.following import Mirrors

    for change in Mirrors.of(registry, mirrors, mirror_name).sync():
        typer.echo(change)


def retrain(
    registry: Annotated[
        str,
        typer.Option(envvar="RETRAIN_REGISTRY", help="A folder or s3://bucket/prefix.", **PATH),
    ],
    mode: Annotated[
        Literal["local", "kubeflow"],
        typer.Option(envvar="RETRAIN_MODE", help="dvc repro here, or a Kubeflow run."),
    ] = "local",
    since: Since = None,
    profile: Annotated[
        str | None, typer.Option(envvar="RETRAIN_PROFILE", help="Of the cluster, for kubeflow.")
    ] = None,
    wait: Wait = True,
    min_gain: MinGain = 0.0,
    certain: Certain = True,
    summary: Annotated[
        Path | None, typer.Option(help="Markdown file for the outcome.", **LOCAL_PATH)
    ] = None,
    run: Annotated[str | None, typer.Option(help="Name or address of the CI's job.")] = None,
    by: By = None,
    mirrors: Mirrors = None,
    mirror_name: MirrorName = None,
    folder: ProjectFolder = Path(),
) -> None:
    """Check what was pushed, run it, report, promote; exit code 3 if the gate refuses."""
    check_output(registry, registry_folder, folder=True, grows=True)
    if summary is not None:
        check_output(summary, begins_with("# Retraining"), inputs=[folder / "params.yaml"])
    from tspin.retrain import Retraining
    from tspin.retrain import retrain as step

    asked = Retraining(
        folder=folder,
        registry=registry,
        mode=mode,
        since=since,
        profile=profile,
        wait=wait,
        min_gain=min_gain,
        certain=certain,
        summary=summary,
        run=run,
        by=by,
        mirrors=tuple(mirrors or []),
        mirror_name=mirror_name,
    )
    _tell_outcome(registry, step(asked))


def _tell_outcome(registry: str, outcome: Outcome | None) -> None:
    if outcome is None:
        typer.echo("nothing to retrain on")
    elif outcome.record is None:
        typer.echo(f"run {outcome.submitted}")
    else:
        _tell_champion(registry, outcome.record)


def _tell_champion(registry: str, record: Record) -> None:
    typer.echo(f"{registry}: champion {record.number} is {record.model}")
