"""The command that CI runs after a push: retrain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["COMMANDS", "PANEL", "retrain"]

PANEL = "The registry"


def retrain(
    registry: Annotated[
        str,
        typer.Option(
            envvar="RETRAIN_REGISTRY", help="A folder or s3://bucket/prefix.", show_default=False
        ),
    ],
    mode: Annotated[
        Literal["local", "kubeflow"],
        typer.Option(envvar="RETRAIN_MODE", help="dvc repro here, or a Kubeflow run."),
    ] = "local",
    since: Annotated[
        str | None, typer.Option(help="Commit before the push; does nothing if only docs changed.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(envvar="RETRAIN_PROFILE", help="Of the cluster, for kubeflow.")
    ] = None,
    min_gain: Annotated[
        float, typer.Option(help="How much better than the champion; below 0 allows a loss.")
    ] = 0.0,
    certain: Annotated[
        bool,
        typer.Option(
            "--certain/--by-value", help="The gain's whole interval counts, or its value alone."
        ),
    ] = True,
    summary: Annotated[
        Path | None, typer.Option(help="Markdown file for the outcome.", show_default=False)
    ] = None,
    run: Annotated[str | None, typer.Option(help="Name or address of the CI's job.")] = None,
    by: Annotated[
        str | None, typer.Option(help="Who pushed; the user of this process by default.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Of the project.")] = Path(),
) -> None:
    """Check what was pushed, run it, report, promote; exit code 3 if the gate refuses."""
    from tspin.retrain import Retraining
    from tspin.retrain import retrain as step

    record = step(
        Retraining(
            folder=folder,
            registry=registry,
            mode=mode,
            since=since,
            profile=profile,
            min_gain=min_gain,
            certain=certain,
            summary=summary,
            run=run,
            by=by,
        )
    )
    if record is None:
        typer.echo("nothing to retrain on")
    else:
        typer.echo(f"{registry}: champion {record.number} is {record.model}")


COMMANDS = (retrain,)
