"""Commands that measure a policy, whole or in shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tspin.cli.options import (
    PATH,
    AnnotatedFile,
    Overrides,
    Overwrite,
    StepConfigFile,
    local_model,
    local_records,
    model_identity,
    step_config,
)
from tspin.cli.steps.options import Model, out_option, print_counts
from tspin.errors import InputError
from tspin.monitoring.monitored import check_endpoint, monitored
from tspin.outputs import check_output, made_from
from tspin.records.records import AnnotatedRecord, Response
from tspin.runs.folder import EvaluationFiles
from tspin.store import fetch, is_remote, output_at
from tspin.tracking.tracked import Step, tracked_step

__all__ = ["evaluate", "fetch_tasks", "merge_evaluations"]


Proto = Annotated[
    str | None, typer.Option(help="Responses of the initial policy to the same prompts.", **PATH)
]
Tasks = Annotated[
    str | None,
    typer.Option(help="Tasks of lm-eval, with commas between; instead of evaluate.tasks."),
]
Part = Annotated[str, typer.Option(help="i/n: do the i-th of n equal parts of the work; i from 0.")]


def evaluate(
    model: Model,
    annotated: AnnotatedFile,
    out: Annotated[str, out_option("Where metrics.json goes.")],
    proto: Proto = None,
    iteration: Annotated[int, typer.Option(min=-1, help="-1 is the initial policy.")] = 0,
    tasks: Tasks = None,
    shard: Part = "0/1",
    config: StepConfigFile = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure a model on held-out records, and on tasks of lm-evaluation-harness."""
    from tspin.generate.shards import Shard

    part, given = Shard.parse(shard), _overrides(overrides, annotated, tasks)
    settings = step_config(config, given, model=model, annotated=annotated)
    check_endpoint(settings)
    records = local_records(annotated, AnnotatedRecord)
    initial = None if proto is None else local_records(proto, Response)
    policy = local_model(model, settings.model)
    ours = made_from(
        "metrics" if part.count == 1 else "metrics_shard",
        model=model_identity(policy, settings.model),
        annotated=records,
        proto_synthetic=initial,
        iteration=iteration,
        shard=str(part),
    )
    inputs = [model, annotated, proto, config, settings.evaluate.harness.task_folder]
    beside = EvaluationFiles(Path(out)).all_beside
    check_output(out, ours, inputs=inputs, beside=beside, overwrite=overwrite)
    from tspin.evaluate.step import evaluate as step

    with (
        monitored(settings),
        output_at(out) as output,
        tracked_step(Step("evaluate", output.path, iteration, settings)),
    ):
        measured = step(
            settings,
            model=policy,
            annotated=records,
            out=output.path,
            proto=initial,
            iteration=iteration,
            shard=part,
        )
    _print_measured(out, measured)


def merge_evaluations(
    shards: Annotated[
        list[str],
        typer.Argument(
            help="The shards, each with what stands beside it; of s3:// each in its own folder.",
            **PATH | {"metavar": "SHARDS"},
        ),
    ],
    annotated: AnnotatedFile,
    out: Annotated[str, out_option("Where metrics.json goes.")],
    overwrite: Overwrite = False,
) -> None:
    """Put the shards of an evaluation together, as if there had been one."""
    records, parts = fetch(annotated), [_fetched_with_beside(shard) for shard in shards]
    ours, beside = made_from("metrics", annotated=records), EvaluationFiles(Path(out)).all_beside
    inputs = [annotated, *shards]
    check_output(out, ours, inputs=inputs, beside=beside, overwrite=overwrite)
    from tspin.evaluate.shards.merging import merge_evaluations as step
    from tspin.records.estimate import read_metrics

    with output_at(out) as output, tracked_step(Step("merge-evaluations", output.path)):
        step(parts, annotated=records, out=output.path)
        measured = read_metrics(output.path)
    _print_measured(out, measured)


def fetch_tasks(
    tasks: Annotated[
        list[str] | None,
        typer.Argument(help="Tasks, groups, or a preset; instead of evaluate.tasks."),
    ] = None,
    config: StepConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Download what tasks of lm-evaluation-harness need, for a machine without network."""
    settings = step_config(config, overrides, model="unused", annotated=None).evaluate
    if tasks:
        settings = settings.model_copy(update={"tasks": tuple(tasks)})
    if not settings.tasks:
        raise InputError(
            "no tasks to fetch: name some, as in `tspin fetch-tasks gsm8k`, or give --config with "
            "evaluate.tasks"
        )
    from tspin.harness.fetching import fetch_tasks as step

    for name, questions in step(settings).items():
        typer.echo(f"{name}: {questions} questions")


def _fetched_with_beside(location: str) -> Path:
    if not is_remote(location):
        return Path(location)
    folder, _, name = location.rpartition("/")
    return fetch(folder) / name


def _overrides(given: list[str] | None, annotated: str, tasks: str | None) -> list[str]:
    """Those of `--set`, and what other options say of the configuration."""
    overrides = [*(given or []), f"data.heldout={json.dumps(annotated)}"]
    if tasks is not None:
        overrides.append(f"evaluate.tasks={json.dumps(tasks.split(','))}")
    return overrides


def _print_measured(out: str, measured: dict[str, Any]) -> None:
    """Print the metrics, or what a shard has."""
    from tspin.cli.table import with_interval
    from tspin.records.estimate import estimates_of

    if "metrics" not in measured:
        print_counts(out, {"records": len(measured["records"])})
        return
    for name, metric in sorted(estimates_of(measured).items()):
        typer.echo(f"{name:45} {with_interval(metric)}")
