"""Commands around a project: init, doctor, clean, dvc sync."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tspin.cli.options import LOCAL_PATH, PATH, Overrides, Overwrite
from tspin.config import load_config
from tspin.errors import InputError
from tspin.files import expanded
from tspin.outputs import check_output, never_ours
from tspin.plugins import DOCTORS, PROJECTS, load_plugin

__all__ = ["app", "clean", "doctor", "init"]


def init(
    folder: Annotated[
        Path, typer.Argument(help="A new folder.", **LOCAL_PATH | {"metavar": "FOLDER"})
    ],
    kubeflow: Annotated[
        str | None,
        typer.Option(
            metavar="PROFILE",
            help="Also for a cluster: a copy of this profile, manifests, a workflow for CI.",
            parser=expanded,
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a project folder that works as it is: configuration, sample data, small model."""
    from tspin.project.init import init_project

    add = None if kubeflow is None else partial(load_plugin(PROJECTS, "kubeflow"), name=kubeflow)
    check_output(folder, never_ours, folder=True, overwrite=overwrite)
    init_project(folder, add)
    typer.echo(f"cd {folder} && tspin run --config params.yaml")
    if add is not None:
        typer.echo("on a cluster: kubeflow/README.md")


def doctor(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Also: does this run fit here?", **LOCAL_PATH),
    ] = None,
    overrides: Overrides = None,
    registry: Annotated[
        str | None,
        typer.Option(help="Also: could a model be promoted to it from here?", **PATH),
    ] = None,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="Instead of this machine: the cluster of KUBECONFIG."),
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(help="Of pipelines on that cluster: a name, or your own (*.yaml).", **PATH),
    ] = None,
) -> None:
    """Say what is installed, what this machine has, and what would not work."""
    from tspin.doctor import check_registry, doctor_report, models_size

    if cluster != (profile is not None):
        raise InputError("--cluster and --profile go together: the profile says what is needed")
    settings = load_config(config, overrides or []) if config else None
    if cluster:
        size = None if settings is None else models_size(settings)
        checks = load_plugin(DOCTORS, "cluster")(profile, size)
        checks += [] if registry is None else [check_registry(registry)]
    else:
        checks = doctor_report(settings, registry)
    table = Table("", "", "", show_header=False)
    marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}
    for check in checks:
        table.add_row(marks[check.status], escape(check.name), escape("\n".join(check.lines())))
    Console().print(table)
    if any(check.status == "fail" for check in checks):
        sys.exit(1)


app = typer.Typer(help="Stages of `dvc repro`.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Stages of `dvc repro`."""


@app.command()
def sync(
    folder: Annotated[
        Path, typer.Option("--folder", help="Of params.yaml and dvc.yaml.", **LOCAL_PATH)
    ] = Path(),
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit code 2 if something would.")
    ] = False,
) -> None:
    """Write the stages of the run that params.yaml describes into dvc.yaml."""
    from tspin.project import sync_stages

    changed = sync_stages(folder, check=check)
    typer.echo(f"{folder / 'dvc.yaml'}: {'written' if changed else 'up to date'}")


def clean(
    days: Annotated[float, typer.Option(min=0, help="Untouched for longer than this.")],
    runs: Annotated[
        Path | None, typer.Option(help="A folder of run folders.", **LOCAL_PATH)
    ] = None,
    prefix: Annotated[str, typer.Option(help="Only runs whose name begins so.")] = "",
    keep: Annotated[int, typer.Option(min=0, help="The newest runs, which stay.")] = 3,
    checkpoints: Annotated[
        Path | None, typer.Option(help="system.checkpoints of trainings.", **LOCAL_PATH)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing.")] = False,
) -> None:
    """Delete old runs, and checkpoints of trainings that were given up."""
    from tspin.retention import clean_checkpoints, clean_runs

    if runs is None and checkpoints is None:
        raise InputError("give --runs or --checkpoints, the folders to clean")
    expired = []
    if runs is not None:
        expired += clean_runs(runs, days=days, keep=keep, prefix=prefix, dry=dry_run)
    if checkpoints is not None:
        expired += clean_checkpoints(checkpoints, days=days, dry=dry_run)
    for path in expired:
        typer.echo(f"{'would delete' if dry_run else 'deleted'} {path}")
